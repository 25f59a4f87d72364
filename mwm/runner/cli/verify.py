"""verify: query suspects with a key, record the verdict, tell it, and decide the exit status."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import count
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Parameter

from mwm.runner.cli.options import Json, as_option, make_console
from mwm.storage.redaction import redact
from mwm.verification.options import VerifyOptions

if TYPE_CHECKING:
    from mwm.verification.procedure import PreparedVerification, UnansweredError
    from mwm.verification.verdict import Verdict
    from mwm.watermarks.key import Key

UNWATERMARKED = "none"
FIELDS = {"suspect", "control", "null_models", *(field.name for field in fields(VerifyOptions))}
DEFAULTS = VerifyOptions()
STATUSES = {"proven": 0, "not proven": 3, "inconclusive": 4}
"""Exit status of each decision; Python itself ends with 1, and a mistake with 2."""


@dataclass(frozen=True, kw_only=True)
class VerdictRecord:
    """Where a verdict is written down."""

    rerun: bool = False
    """Ask everything anew, into a folder of its own; else no answer is asked for twice."""
    experiment: str | None = None
    """Experiment of MLflow to record the verdict in, `verdicts` below it if it ends with /; without it `verdicts`."""
    storage: str = "."
    """Folder of results/, where the report goes without --output."""


RECORD = VerdictRecord()


def verify(
    *,
    key: Annotated[Path, Parameter(help="A key's folder, such as a victim's in the store.")],
    suspects: Annotated[list[str], Parameter(name="--suspect", help="Who is queried; repeatable.")],
    control: Annotated[
        str | None,
        Parameter(help="A network trained on the same data without the key; its answers are subtracted."),
    ] = None,
    null_models: Annotated[
        Path | None, Parameter(help="Folder results/NAME of a sweep whose unwatermarked models are queried, too.")
    ] = None,
    options: Annotated[VerifyOptions, Parameter(name="*")] = DEFAULTS,
    record: Annotated[VerdictRecord, Parameter(name="*")] = RECORD,
    json: Json = False,
) -> int:
    """Query suspects with a key; exit status 0 proven, 3 not, 4 inconclusive.

    Status 0 says that one of the suspects is proven to be a copy, 3 that none is, 4 that nothing can be said, and 2
    that there is no verdict: a mistake, or a suspect that does not answer.

    A suspect is a store entry's folder, `*.safetensors`, `*.onnx`, `*.pt2`, `*.ts`, `*.pt`, `*.pth`, `http(s)://...`,
    `models:/...`, `runs:/...`, `mlflow-artifacts:/...` or `module:function`. With `--tracking-uri`, or with
    MLFLOW_TRACKING_URI, the verdict is recorded in MLflow, too. Without `--output` the report goes to a folder in
    results/verdicts/ that is always the same for the same question.
    """
    compared: dict[str, Any] = {"control": control, "null_models": null_models}
    try:
        verdict = _verified(key, suspects, options, **compared, record=record)
    except ValueError as error:
        raise ValueError(as_option(str(error), FIELDS)) from None
    except Exception as error:  # one line, as for every other end without a verdict
        print(f"error: {type(error).__name__}: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    _show(verdict, as_json=json)
    return STATUSES[verdict.decision]


def _verified(
    folder: Path,
    suspects: list[str],
    options: VerifyOptions,
    *,
    control: str | None,
    null_models: Path | None,
    record: VerdictRecord,
) -> Verdict:
    """The verdict, written and recorded."""
    from mwm.runner.tracking import verdicts
    from mwm.verification.procedure import UnansweredError
    from mwm.verification.verify import prepare
    from mwm.watermarks.key import load_key

    rerun = record.rerun
    if options.output is None and "://" in record.storage:
        where = redact(record.storage)
        raise ValueError(f"--storage: {where} holds no verdicts; name a folder on this machine by --output")
    key = load_key(folder)
    found = find_null_models(null_models, key) if null_models else NullModels([], 0)
    prepared = prepare(key, suspects, options, control=control, null_models=found.entries, notes=found.notes())
    experiment = verdicts.open_experiment(options.tracking_uri, record.experiment)
    output = _output(prepared, Path(record.storage), rerun=rerun)
    try:
        verdict = prepared.run(output)
    except UnansweredError as error:
        raise ValueError(_how_to_go_on(error, output, rerun=rerun)) from None
    except OSError as error:
        raise ValueError(_what_failed(error, rerun=rerun)) from None
    if experiment is not None:
        verdicts.log_verdict(experiment, verdict, output)
    return verdict


def _output(prepared: PreparedVerification, storage: Path, *, rerun: bool) -> Path:
    """Where a verdict goes: always the same folder for the same plan, unless everything is to be asked anew."""
    from mwm.runner.workspace.location import StorageLocation
    from mwm.storage.tracking_uri import VERDICTS
    from mwm.verification.querying.answer_log import ANSWERS

    named = prepared.options.output
    own = named or StorageLocation(storage).results / VERDICTS / prepared.digest
    if not rerun or not own.exists():
        return own
    if named is None:
        numbered = (own.with_name(f"{own.name}-{number}") for number in count(2))
        return next(folder for folder in numbered if not folder.exists())
    if (own / ANSWERS).exists():
        raise ValueError(f"--rerun: {own} holds answers already; name an empty folder by --output, or none")
    return own


def _how_to_go_on(error: UnansweredError, output: Path, *, rerun: bool) -> str:
    way = f"go on by --output {output} without --rerun" if rerun else "run the same command again"
    return f"{error}: {f'when that is mended, {way}' if error.permanent else way}"


def _what_failed(error: OSError, *, rerun: bool) -> str:
    from mwm.storage.filesystem import is_transient

    way = "" if rerun or not is_transient(error) else ": run it again"
    return f"{error.filename or '--output'}: {error.strerror or error}; what was answered is kept{way}"


def _show(verdict: Verdict, *, as_json: bool) -> None:
    from mwm.verification.report.page import SIGN
    from mwm.verification.report.summary import summary_lines

    console = make_console()
    if as_json:
        said = {**verdict.to_dict(), "asked_now": list(verdict.asked_now), "report": str(verdict.output)}
        console.out(dumps(said, indent=1), highlight=False)
        return
    for line in (*summary_lines(verdict), f"report    {verdict.output}; sign it there by {SIGN}"):
        console.out(line, highlight=False)


class NullModels(NamedTuple):
    """Entries of the store that hold null models, and how many were `left_out` because they had the very key."""

    entries: list[Path]
    left_out: int

    def notes(self) -> list[str]:
        """What a reader of the verdict has to know of them."""
        return [f"{self.left_out} null models were left out: their own key is this one"] * (self.left_out > 0)


def find_null_models(folder: Path, key: Key) -> NullModels:
    """All finished unwatermarked victims of the sweep in `folder`, and the students of such.

    `folder` is results/NAME; the networks lie in the store beside results/. Raises ValueError if there is no such
    model, or if one may have been trained on the key's images.
    """
    from mwm.runner.workspace.journal import JOURNAL
    from mwm.runner.workspace.location import StorageLocation
    from mwm.storage.store import Store

    if not (folder / JOURNAL).is_file():
        raise ValueError(f"null_models: {folder} holds no {JOURNAL}; name the results folder of a sweep, results/NAME")
    unwatermarked = dict(_unwatermarked(folder))
    others = {name: model for name, model in unwatermarked.items() if not model.has(key)}
    left_out = len(unwatermarked) - len(others)
    if not others:
        reason = f"{left_out} had this key as their own" if left_out else "allowed: victims without a watermark"
        raise ValueError(f"null_models: {folder} has no null model that is done ({reason})")
    for name, model in others.items():
        _check_held_out(f"null_models: {folder}: {name}", model, key)
    store = Store(StorageLocation(folder.resolve().parent.parent).store)
    return NullModels([store.folder(name) for name in others], left_out)


class _Model(NamedTuple):
    """What tells of a model's own key, though it was not trained on it, and its data and how these were split."""

    queries: str
    seed: int | None
    data: str
    split: dict[str, Any]

    def has(self, key: Key) -> bool:
        """Whether a key is its own, or was drawn from the same seed."""
        from mwm.watermarks.secret import follows_from_seed

        same = self.seed is not None and follows_from_seed(key.secret, self.seed)
        return same or self.queries == key.queries.digest()


def _unwatermarked(folder: Path) -> Iterator[tuple[str, _Model]]:
    """The finished models of a sweep that carry no watermark, by their digests."""
    from mwm.runner.workspace.journal import read_journal

    for name, told in read_journal(folder, trials=True).trials.items():
        trial, outcome = told.trial, told.outcome
        if not (trial and outcome and outcome["status"] == "done"):
            continue
        victim = trial["victim"]
        if victim["scheme"]["kind"] == UNWATERMARKED:
            seed = None if victim["secret"] else victim["seed"]
            yield name, _Model(outcome["query_digest"], seed, outcome["data_digest"], victim["split"])


def _check_held_out(whose: str, model: _Model, key: Key) -> None:
    """Raise ValueError unless the key's images were kept from a model as from the one that holds the key."""
    if model.data != key.data_digest:
        raise ValueError(f"{whose} has other data ({model.data}) than the key ({key.data_digest})")
    seed, aside = key.split["seed"], key.split["queries"]
    if model.split["seed"] != seed or model.split["queries"] < aside:
        needed = f"split.seed {seed} and split.queries of {aside} or more"
        raise ValueError(f"{whose} may have been trained on the key's images; needed: a sweep with {needed}")
