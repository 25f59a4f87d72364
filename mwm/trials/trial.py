"""What a trial is, what it is called, and what it yields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mwm.attacks import Attack
from mwm.attacks.base import AttackRecord
from mwm.config import randomness
from mwm.config.spec import NonEmptyStr, Seed, StrictBool, digest, encode, spec
from mwm.data.datasets import Dataset, DatasetSpec
from mwm.data.host import ImagesOn
from mwm.data.splits import SplitSizes
from mwm.models.build import Model
from mwm.models.start import Start
from mwm.training.recipe import EMBEDDING, Recipe
from mwm.watermarks import secret
from mwm.watermarks.schemes import Scheme, Unwatermarked

METHOD_VERSION = 4
"""Raised with every change of what a training or a measure means: results of the old meaning are then not reused."""


@dataclass(frozen=True, eq=False, slots=True)
class TrialInputs(Mapping[str, Dataset]):
    """What trials need that is not in their trees: data sets, secrets, and the names of code.

    Loaded data sets under `data_key`, the owners' secrets (32 bytes) under the paths that victims name, the digests of
    the code of functions under their names, and weights to start from under theirs. The driver reads all of it once and
    hands it to trials beside their trees: no secret is in a tree, and no other machine needs its file. Ray's object
    store holds it: whoever may enter the cluster may read it there. `images_on` says where images lie in a trial.
    """

    data: Mapping[str, Dataset]
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, Start] = field(default_factory=dict, repr=False)
    images_on: ImagesOn = "auto"

    def __getitem__(self, key: str) -> Dataset:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


@spec
class Victim:
    """A network to be attacked: data, architecture, watermark, recipe, seed.

    With `start` it starts from the weights of a trained network: a file of weights (safetensors, or a state dict of
    PyTorch), an entry of the store by its digest, or a model of MLflow (`models:/...`). A watermark is then embedded by
    fine-tuning, and without a `recipe` by a short one: 6 epochs of SGD with momentum 0.9 and weight decay 5e-4, at a
    rate that rises to 0.1 in the first tenth and falls to 0 by a cosine.

    `secret` is the path of a file of 64 hexadecimal digits from which the key is drawn, in place of the seed. With
    `control`, the answers of the same network without a watermark are subtracted from those of every suspect before
    its secret labels are ranked: that takes out which classes any network of these data confuses.
    """

    data: DatasetSpec
    split: SplitSizes = SplitSizes()
    model: Model
    scheme: Scheme
    recipe: Recipe = Recipe()
    seed: Seed = 0
    start: NonEmptyStr | None = None
    secret: NonEmptyStr | None = None
    control: StrictBool = False

    def unwatermarked(self) -> Victim:
        """The control: the same network without a watermark."""
        return replace(self, scheme=Unwatermarked())

    def __post_init__(self) -> None:
        if self.start is not None and self.recipe == Recipe():
            object.__setattr__(self, "recipe", EMBEDDING)
        groups = self.recipe.batchnorm_groups
        if groups > 1 and any(getattr(part, "batchnorm", "") == "joint" for part in self.scheme.parts()):
            reason = "batchnorm joint of the scheme normalises queries and images together: must be 1"
            raise ValueError(f"recipe.batchnorm_groups: {groups} is not allowed: {reason}")
        if self.split.queries is not None:
            require_queries("scheme", self.scheme, queries=self.split.queries, said=str(self.split.queries))


def require_queries(path: str, scheme: Scheme, *, queries: int, said: str) -> None:
    """Refuse a scheme, at `path`, whose key takes more than the `queries` of a split; what is `said` of these."""
    if scheme.cells is not None and scheme.cells > queries:
        field = "num_queries" if len(scheme.parts()) == 1 else "queries.num_queries"
        reason = f"must be at most split.queries, {said}"
        raise ValueError(f"{path}.{field}: {scheme.cells} is not allowed: {reason}")


@spec
class Trial:
    """The training of a victim, or one attack on it."""

    victim: Victim
    attack: Attack | None = None


def filled_in(victim: Victim, sets: TrialInputs) -> Victim:
    """The victim with the sizes of its split that it leaves to the size of its data, which is among `sets`.

    What is trained, kept and recorded is always this one.
    """
    if victim.split.is_filled:
        return victim
    return replace(victim, split=victim.split.filled(len(sets[data_key(victim.data)].y_train)))


def data_key(data: Any) -> str:
    """The name under which the data set of a record is handed to trials."""
    return digest(encode(data))


def victim_digest(victim: Victim, sets: TrialInputs) -> str:
    """The name of a trained victim: its content, with names of data set and secret in place of where they lie."""
    content = encode(filled_in(victim, sets)) | {"data": _content(victim.data, sets)}
    if content.pop("secret") is not None:
        content["secret"] = secret.secret_digest(secret_of(victim, sets))
    return digest(METHOD_VERSION, _by_content(content, sets))


def secret_of(victim: Victim, sets: TrialInputs) -> bytes:
    """What a victim's key is drawn from: the owner's secret, or else the seed."""
    return randomness.secret_from_seed(victim.seed) if victim.secret is None else sets.secrets[victim.secret]


def trial_digest(trial: Trial, sets: TrialInputs) -> str:
    """The name of a trial's result."""
    name = victim_digest(trial.victim, sets)
    if trial.attack is None:
        return name
    return digest(METHOD_VERSION, name, _by_content(_with_contents(trial.attack, sets), sets))


def _with_contents(attack: AttackRecord, sets: TrialInputs) -> dict[str, Any]:
    """The tree of an attack and of its parts, with the content of each data set for its name."""
    tree, foreign = encode(attack), attack.datasets()
    for place, part in attack.parts().items():
        _replace_at(tree, place, _with_contents(part, sets))
    return tree | {field: _content(value, sets) for field, value in vars(attack).items() if value in foreign}


def _replace_at(tree: Any, place: str, value: Any) -> None:
    """Put a value in a tree at a dotted place, in which numbers count in lists."""
    *above, last = (int(key) if key.isdigit() else key for key in place.split("."))
    for key in above:
        tree = tree[key]
    tree[last] = value


def _by_content(tree: Any, sets: TrialInputs) -> Any:
    """A tree in which the digest of its code stands beside each function, and that of weights for their name."""
    if isinstance(tree, list):
        return [_by_content(one, sets) for one in tree]
    if not isinstance(tree, dict):
        return tree
    if "function" in tree:
        return tree | {"source": sets.sources[tree["function"]]}
    named = {key: _by_content(value, sets) for key, value in tree.items()}
    if tree.get("start") is not None:
        named["start"] = sets.starts[tree["start"]].digest
    return named


def _content(data: Any, sets: TrialInputs) -> dict[str, Any]:
    return {"digest": sets[data_key(data)].digest, "flip": data.flip, "pad": data.pad}
