"""A sweep: what one YAML file says, victims by attacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from mwm.attacks import Attack
from mwm.config.loader import decode_text, load_yaml
from mwm.config.spec import (
    DISCRIMINATED,
    Count,
    Draft,
    Field,
    NonEmptyStr,
    NonNegativeFloat,
    PositiveFloat,
    Seed,
    StrictBool,
    decode,
    digest,
    encode,
    spec,
)
from mwm.data.host import ImagesOn
from mwm.runner.sweeps.space import DOMAIN_KINDS, Domain, corner_options, count, expand, grid_options, iter_domains
from mwm.storage.tracking_uri import VERDICTS
from mwm.trials.trial import METHOD_VERSION, Victim

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
QUESTION = re.compile(r"^# Question:(.*(?:\n#  .*)*)", re.MULTILINE)

MOST = 100_000
"""More victims, or more attacks on one, are a slip of the pen: to name them all would take hours."""

Samples = Annotated[Count, Field(le=MOST)]
Measure = Literal["clean_acc", "query_acc", "worst_query_acc", "mean_query_acc", "worst_log10_p"]


@spec
class TrialResources:
    """What one trial of a stage takes of the cluster; a fraction of a GPU lets several trials share it.

    With `workers` above 1 a victim is trained by so many processes at once, each with these `cpus` and `gpus`. Each
    learns its part of every batch: the network is the one that a single worker would train, but for rounding.
    """

    cpus: PositiveFloat = 1.0
    gpus: NonNegativeFloat = 0.0
    workers: Count = 1

    def __post_init__(self) -> None:
        if self.workers > 1 and self.gpus not in (0, 1):
            raise ValueError(f"gpus: {self.gpus:g} is not allowed with workers {self.workers}: must be 0 or 1 for each")
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"gpus: {self.gpus:g} is not allowed: must be a whole number or a share below 1")


@spec
class Resources:
    """What a trial of each stage takes.

    `images_on` says where the images of a trial lie: on its `device`, or on the `host`, from where they go over by the
    batch; `auto` has them on a GPU where they leave it enough memory. Results are the same.
    """

    victim: TrialResources = TrialResources()
    attack: TrialResources = TrialResources()
    images_on: ImagesOn = "auto"

    def __post_init__(self) -> None:
        if self.attack.workers > 1:
            reason = "an attack is run by one worker; only victims are trained by several"
            raise ValueError(f"attack.workers: {self.attack.workers} is not allowed: {reason}")

    def of_trial(self, tree: Mapping[str, Any]) -> TrialResources:
        """What a trial takes, by its tree."""
        return self.victim if tree["attack"] is None else self.attack


@spec
class GridSearch:
    """Every combination of the grids."""

    kind: Literal["grid"] = "grid"


@spec
class RandomSearch:
    """`num_samples` random points, each crossed with every combination of the grids."""

    kind: Literal["random"] = "random"
    num_samples: Samples
    seed: Seed = 0


@spec
class OptunaSearch:
    """`num_samples` points suggested by Optuna (Akiba et al., 2019) from the measures of the victims before.

    With two objectives or more the search is for the Pareto front. `clean_acc` and `query_acc` are the victim's,
    `worst_query_acc` and `mean_query_acc` those of its students. `worst_log10_p` is the largest log10 p of the
    students, by the test that decides. It alone is to be small. It moves long before an answer changes, and so it
    guides a search where no student answers a query by its secret label.
    """

    kind: Literal["optuna"] = "optuna"
    num_samples: Samples
    objectives: Annotated[tuple[Measure, ...], Field(min_length=1)] = ("clean_acc", "worst_query_acc")
    seed: Seed = 0


@spec
class EarlyStopping:
    """Asynchronous successive halving (ASHA; Li et al., 2020) of victims, by a measure of their epochs.

    At epochs `grace_period`, `grace_period` * `reduction_factor`, ... a victim goes on only if it is among the best
    1 / `reduction_factor` of those that came so far.
    """

    kind: Literal["asha"] = "asha"
    stage: NonEmptyStr = "victim"
    metric: Literal["val_acc", "query_acc"] = "val_acc"
    grace_period: Count = 5
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0

    def __post_init__(self) -> None:
        if self.stage != "victim":
            reason = "an attack that is cut short says nothing of one that is not: only victims are ended early"
            raise ValueError(f"stage: {self.stage} is not allowed: {reason}")


@spec
class Limits:
    """When to begin no more victims. Those under way, and the attacks on them, are run to their end."""

    victims: Count | None = None
    hours: PositiveFloat | None = None


Search = Annotated[GridSearch | RandomSearch | OptunaSearch, *DISCRIMINATED]


@spec
class Sweep:
    """What one YAML file says; `victim` and `attacks` are trees in which domains stand for many values.

    `description` is the question in words, for reports and MLflow: without it what follows `# Question:` at the head of
    the file. Attacks on a victim whose own key is not proven on it are skipped, and the sweep ends as incomplete: with
    `attack_unmarked` such victims are attacked like all others, and still called unmarked.
    """

    name: Name
    description: str = ""
    victim: Annotated[dict[str, Any], Draft(Victim)]
    attacks: tuple[Annotated[NonEmptyStr | dict[str, Any], Draft(Attack)], ...] = ()
    attack_unmarked: StrictBool = False
    search: Search = GridSearch()
    early_stopping: EarlyStopping | None = None
    limits: Limits = Limits()
    resources: Resources = Resources()
    tags: dict[str, str] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == VERDICTS:
            raise ValueError(f"name: {VERDICTS} is not allowed: it is the folder of verdicts")

    @property
    def question(self) -> dict[str, Any]:
        """What is asked: not the name, tags, resources and limits, nor how many samples are drawn.

        Nor whether unmarked victims are attacked: no row that is there means anything else by that.
        """
        search = encode(self.search)
        search.pop("num_samples", None)
        early_stopping = self.early_stopping and encode(self.early_stopping)
        return {
            "victim": self.victim,
            "attacks": list(self.attacks),
            "search": search,
            "early_stopping": early_stopping,
        }

    @property
    def config_digest(self) -> str:
        """The digest of the question: two sweeps of one name must agree on it.

        What an older method has measured belongs to another question.
        """
        return digest(METHOD_VERSION, *self.question.values())

    @cached_property
    def attack_specs(self) -> list[tuple[str, Attack]]:
        """Every attack that each victim meets, with its path in the file.

        Raises ValueError for a wrong one, or one that is left to chance.
        """
        found: dict[str, tuple[str, Attack]] = {}
        for index, tree in enumerate(self.attacks):
            path = f"attacks.{index}"
            if isinstance(tree, dict) and "early_stopping" in tree:
                reason = "an attack that is cut short says nothing of one that is not; only victims may be ended early"
                raise ValueError(f"{path}.early_stopping: is not allowed: {reason}")
            for here in iter_domains(tree, path):
                if here.kind != "grid":
                    reason = "every victim must meet the same attacks, or they cannot be compared: use grid"
                    raise ValueError(f"{here.path}.{here.kind}: is not allowed: {reason}")
            _refuse_many(tree, grid_options, path)
            for one in expand(tree, grid_options, path):
                attack = decode(Attack, one, path, domains=("grid",))
                found.setdefault(digest(encode(attack)), (path, attack))
        return list(found.values())

    @cached_property
    def victim_specs(self) -> list[Victim]:
        """Every victim of a grid, or every corner of a space to draw from; all decoded."""
        options = grid_options if isinstance(self.search, GridSearch) else corner_options
        if isinstance(self.search, OptunaSearch):
            _refuse_grids(self)
        _refuse_many(self.victim, options, "victim")
        return unique_victims(decode_victim(tree) for tree in expand(self.victim, options, "victim"))


def load_sweep(
    path: str | Path, overrides: Sequence[str] = (), *, name: str | None = None, tags: Sequence[str] = ()
) -> Sweep:
    """Read a sweep from YAML; overrides read a.b=1, tags key=value. Raises ValueError, one line per fault."""
    tree = load_yaml(Path(path), overrides)
    if name is not None:
        tree["name"] = name
    tree.setdefault("description", _asked_at_head(path))
    sweep: Sweep = decode(Sweep, tree)
    own: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise ValueError(f"--tag {tag}: must read key=value")
        own[key] = value
    return replace(sweep, tags={**sweep.tags, **own})


def _asked_at_head(path: str | Path) -> str:
    """What a YAML file says after `# Question:` in its comments, with the indented lines that follow; else nothing."""
    found = QUESTION.search(decode_text(Path(path).read_bytes()))
    return " ".join(found[1].replace("\n#", " ").split()) if found else ""


def _refuse_many(tree: Any, options: Callable[[Domain], tuple[Any, ...]], path: str) -> None:
    if (number := count(tree, options, path)) > MOST:
        hint = "shorten its grids, or draw from them by search.kind: random"
        raise ValueError(f"{path}: {number:,} combinations are not allowed: must be at most {MOST:,}; {hint}")


def _refuse_grids(sweep: Sweep) -> None:
    for here in iter_domains(sweep.victim, "victim"):
        if here.kind == "grid":
            raise ValueError(f"{here.path}.grid: is not allowed with search.kind optuna: use choice, or a grid search")


def decode_victim(tree: Any) -> Victim:
    """Decode a victim's tree in which no domain is left."""
    victim: Victim = decode(Victim, tree, "victim", domains=DOMAIN_KINDS)
    return victim


def unique_victims(victims: Iterable[Victim]) -> list[Victim]:
    """The victims in their order, each once."""
    return list({digest(encode(victim)): victim for victim in victims}.values())
