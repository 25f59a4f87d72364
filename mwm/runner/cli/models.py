"""model: from a finished trial to a network that others can use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

from mwm.runner.cli.options import Storage, find_digest, make_console
from mwm.runner.workspace.location import StorageLocation
from mwm.storage.object_store import as_storage_error
from mwm.storage.store import WEIGHTS, Store

if TYPE_CHECKING:
    from torch import nn

    from mwm.models.build import ArchitectureSpec
    from mwm.runner.tracking.registry import ModelRegistry

Form = Literal["safetensors", "onnx", "torchscript", "mlflow"]

SUFFIXES: dict[Form, tuple[str, ...]] = {
    "safetensors": (".safetensors",),
    "onnx": (".onnx",),
    "torchscript": (".ts", ".pt", ".pth"),
    "mlflow": ("",),
}
"""How the name of a file or folder ends, by the form of what is in it; by the first one ends a form is known."""

TRIED, DIFFERENCE, SECONDS = 16, 1e-4, 600.0
"""Random images that every form is shown, how far its logits may lie from the network's, as a share of the largest \
one, and how long an answer may take."""


class _Network(NamedTuple):
    """A finished trial's network, and what was measured of it."""

    digest: str
    outcome: dict[str, Any]
    file: Path
    architecture: ArchitectureSpec
    network: nn.Module


def model(
    digest: Annotated[str, Parameter(name="DIGEST", help="The trial's, as in results.csv; 8 digits or more.")],
    file: Annotated[
        Path | None, Parameter(name="FILE", help="A new file, or a new folder for a model of MLflow.")
    ] = None,
    /,
    *,
    form: Annotated[
        Form | None, Parameter(name="--format", help="What to write; without it by the end of FILE's name.")
    ] = None,
    register: Annotated[
        str | None, Parameter(help="Register a victim in MLflow's model registry by this name.")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        Parameter(help="MLflow to register in; without it MLFLOW_TRACKING_URI, else mlflow.db in this folder."),
    ] = None,
    trust: Annotated[bool, Parameter(help="Run the function that builds the network, if it is one of yours.")] = False,
    storage: Storage = ".",
) -> int:
    """Write the network of a finished trial as a file for others, or register it.

    FILE.safetensors holds the weights and says which network they are of: mwm.load_model reads it. FILE.onnx and
    FILE.ts, which is TorchScript, need nothing of mwm, nor does a folder, which is a model of MLflow. Images in [0, 1]
    go in, logits come out. Each is opened again and compared with the network before the command ends.
    """
    chosen = _form(file, form, register)
    if tracking_uri is not None and register is None:
        raise ValueError("--tracking-uri: is of no use without --register")
    registry = None if register is None else _registry(tracking_uri)
    store = Store(StorageLocation(storage).store)
    with _found(digest, store, trust=trust) as found:
        _require_alone(found, chosen)
        if register is not None:
            _require_marked_victim(found, store)
        if file is not None and chosen is not None:
            _write_new(found, file, chosen)
        if registry is not None and register is not None:
            _register(found, registry, name=register, store=store)
    return 0


def _form(file: Path | None, form: Form | None, register: str | None) -> Form | None:
    """In which form a file is written; None without a file. ValueError where that cannot be told, or is another."""
    if file is None:
        if register is None:
            raise ValueError("FILE: is missing; name a file or a folder, or --register NAME")
        if form is not None:
            raise ValueError(f"--format: {form} is of no use without FILE")
        return None
    suffix = file.suffix.lower()
    told = next((one for one, ends in SUFFIXES.items() if suffix == ends[0]), None)
    if form is None and told is None:
        ends = ", ".join(own[0] for own in SUFFIXES.values() if own[0])
        raise ValueError(f"FILE: {file}: {suffix!r} says no form; must end with {ends}, or be a folder without a dot")
    if form is not None and form != "mlflow" and suffix not in SUFFIXES[form]:
        raise ValueError(f"FILE: {file} is not allowed for {form}: must end with {' or '.join(SUFFIXES[form])}")
    if file.exists() or file.is_symlink():
        raise ValueError(f"FILE: {file} is there already; name a new one")
    return form or told


@contextmanager
def _found(beginning: str, store: Store, *, trust: bool) -> Iterator[_Network]:
    """The network of the trial whose digest begins so; ValueError, in one line, for none or several."""
    from mwm.models.files import read_network

    digest = as_storage_error(store.root, lambda: find_digest(beginning, store))
    outcome = as_storage_error(store.root, lambda: store.outcome(digest))
    if outcome is None:
        raise ValueError(f"DIGEST: {digest} is no finished trial of this store, or it is damaged")
    with tempfile.TemporaryDirectory(prefix="mwm-model-") as folder:
        file = Path(folder) / WEIGHTS
        file.write_bytes(as_storage_error(store.root, lambda: store.kept(digest, WEIGHTS)))
        held = read_network(file)
        yield _Network(digest, outcome, file, held.architecture, held.rebuild(trust=trust))


def _require_marked_victim(found: _Network, store: Store) -> None:
    """Only a victim that carries a watermark is registered, with its key."""
    from mwm.trials.key_export import require_marked
    from mwm.trials.outcome import Outcome

    if (owner := found.outcome["victim_digest"]) != found.digest:
        raise ValueError(f"--register: {found.digest} is an attack on {owner}: only a victim is registered")
    require_marked(store, Outcome(**found.outcome), name=f"--register: {found.digest}", override=None)


def _require_alone(found: _Network, form: Form | None) -> None:
    """No form of others holds what stands around a network; where a victim is registered nothing does."""
    around = ", ".join(one.words for one in found.architecture.deployments)
    if around and form not in (None, "safetensors"):
        reason = f"{found.digest} is deployed with {around}, which it cannot hold"
        raise ValueError(f"--format: {form} is not allowed: {reason}; allowed: safetensors")


def _write_new(found: _Network, file: Path, form: Form) -> None:
    """Write a network, and take it away again unless it answers as it should."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(found, file, form)
        told = _compared(found, str(file))
    except OSError as error:
        _remove(file)
        raise ValueError(f"FILE: {file} cannot be written ({error.strerror or error})") from None
    except ValueError:
        _remove(file)
        raise
    size, classes = "x".join(map(str, found.architecture.shape)), found.architecture.classes
    network = f"{found.architecture.model.label} of {found.digest}, images {size} in [0, 1] to {classes} logits"
    make_console().out(f"{file}: {form}, {network}; {told}", highlight=False)


def _write(found: _Network, file: Path, form: Form) -> None:
    shape, classes = found.architecture.shape, found.architecture.classes
    match form:
        case "safetensors":
            shutil.copyfile(found.file, file)
        case "onnx":
            from mwm.models.exports import write_onnx

            write_onnx(found.network, file, shape)
        case "torchscript":
            from mwm.models.exports import write_torchscript

            write_torchscript(found.network, file, shape)
        case "mlflow":
            from mwm.runner.tracking.registry import write_mlflow_model

            write_mlflow_model(found.network, file, shape=shape, classes=classes)


def _compared(found: _Network, address: str, tracking_uri: str | None = None) -> str:
    """How a network that was written answers to random images; ValueError if not as the one that was to be written.

    It is opened as `verify` opens a suspect, so that whatever is written here can be asked with a key.
    """
    import numpy as np

    from mwm.verification.suspects import open_suspect

    shown: Any = {"shape": found.architecture.shape, "classes": found.architecture.classes}
    how: Any = {"trust": True, "timeout": SECONDS, "tracking_uri": tracking_uri}
    images = np.random.default_rng(0).integers(0, 256, (TRIED, *found.architecture.shape), dtype=np.uint8)
    asked = open_suspect(found.network, **shown)(images)
    said = open_suspect(address, **shown, **how)(images)
    if said.shape != asked.shape:
        raise ValueError(f"{address}: answers with {said.shape}, not with logits {asked.shape}")
    largest = float(np.abs(said - asked).max())
    if not largest <= DIFFERENCE * max(float(np.abs(asked).max()), 1.0):
        raise ValueError(f"{address}: its logits differ by {largest:.2g} from those of the network: it was not kept")
    return f"{TRIED} random images answered as by the network, logits within {largest:.1g}"


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)


def _registry(tracking_uri: str | None) -> ModelRegistry:
    from mwm.runner.tracking.registry import ModelRegistry

    return ModelRegistry(tracking_uri)


def _register(found: _Network, registry: ModelRegistry, *, name: str, store: Store) -> None:
    """Register a victim, unless it is a version of that model already, and ask the version that came of it."""
    number = registry.version_of(name, found.digest)
    said = "is there already" if number else "registered"
    if number is None:
        with tempfile.TemporaryDirectory(prefix="mwm-model-") as place:
            folder = Path(place) / "model"
            _write(found, folder, "mlflow")
            number = registry.register(name, folder, _tags(found, store))
    told = _compared(found, f"models:/{name}/{number}", registry.uri)
    make_console().out(f"models:/{name}/{number}: {said}, victim {found.digest}; {told}", highlight=False)


def _tags(found: _Network, store: Store) -> dict[str, str]:
    """What a version says of its victim: its digest, that of its queries, and the commitments to its keys."""
    from mwm.trials.artifacts import key_folders, load_stored_key
    from mwm.watermarks.key import commitment

    tags = {"mwm.digest": found.digest, "mwm.query_digest": found.outcome["query_digest"]}
    tags |= {"mwm.data_digest": found.outcome["data_digest"]}
    for prefix, folder in zip(("", "second_"), key_folders(store, found.digest), strict=False):
        tags[f"{prefix}key_commitment"] = commitment(load_stored_key(store, found.digest, folder))
    return tags
