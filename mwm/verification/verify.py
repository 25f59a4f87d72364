"""Is a suspect a copy of the network that holds a key? What is asked is fixed and checked before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mwm.storage.local import sha256
from mwm.storage.redaction import redact
from mwm.verification.answer_forms import parse_answer_forms
from mwm.verification.decision import best_p_value, deciding_test
from mwm.verification.null_models import ask_null_models
from mwm.verification.options import PERMUTATION, VerifyOptions
from mwm.verification.procedure import OpenSuspect, PreparedVerification
from mwm.verification.querying.numbering import NumberedSuspect, Way, parse_numbering
from mwm.verification.querying.order import OrderedQueries, order_queries
from mwm.verification.suspects import SuspectLike, open_suspect
from mwm.verification.suspects.identity import folder_identity
from mwm.verification.suspects.presentation import UNIT_RANGE, InputFormat
from mwm.verification.verdict import Verdict
from mwm.watermarks.key import Key, commitment, load_key


def verify(
    key: Key | Path | str,
    *suspects: SuspectLike,
    options: VerifyOptions | None = None,
    control: SuspectLike | None = None,
    null_models: Sequence[SuspectLike] = (),
    **fields: Any,
) -> Verdict:
    """Query suspects with a key, and decide of each whether it is proven to be a copy.

    `key` is a key or its folder. A suspect is an address or path (see `open_suspect`), a network, or a function of
    float32 images (n c h w in [0, 1]) that gives labels or scores; all suspects named together share the level.
    `fields` are those of `VerifyOptions`, such as `level=1e-6`. `control` is one trained on the same data without the
    key: it is asked the same, its answers are subtracted from a suspect's, and that decides. `null_models` are suspects
    that never saw the key: they are asked, too, and what they match is set beside; they decide nothing. Without
    `output` nothing is written. Raises ValueError, in one line, for a mistake, and UnansweredError for suspects that do
    not answer.
    """
    found = replace(options or VerifyOptions(), **fields)
    return prepare(key, suspects, found, control=control, null_models=null_models).run(found.output)


def prepare(
    key: Key | Path | str,
    suspects: Sequence[SuspectLike],
    options: VerifyOptions,
    *,
    control: SuspectLike | None = None,
    null_models: Sequence[SuspectLike] = (),
    notes: Sequence[str] = (),
) -> PreparedVerification:
    """Open and check all that a verdict takes, and ask null models, but neither suspect nor control yet.

    `notes` are what a reader has to know beside what follows from the options.
    """
    own = key if isinstance(key, Key) else load_key(key)
    _check_commitment(own, options.commitment)
    test = deciding_test(own.null, sequential=options.sequential)
    _check_use(test, options, control)
    way = Way(
        InputFormat(options.input_range, options.layout), parse_numbering(options.classes, own.classes, own.class_names)
    )
    way.presentation.check(own.queries.images.shape[1])
    forms = parse_answer_forms(options.answers, classes=own.classes, seed=options.order_seed)
    usual = Way(UNIT_RANGE, parse_numbering(None, own.classes, own.class_names))
    asked = order_queries(own, options.queries, options.order_seed, views=options.views)
    _check_suspects(suspects, control)
    _check_reach(options, asked, test=test, count=len(suspects))
    how: dict[str, Any] = {"options": options, "asked": asked}
    opened = [_open("suspect", one, way=way, **how) for one in suspects]
    compared = None if control is None else _open("control", control, way=usual, **how)
    independent = [_open("null_models", one, way=usual, **how).suspect for one in null_models]
    null = ask_null_models(independent, asked) if independent else None
    told = (*_suspects_notes([*opened, *filter(None, [compared])]), *notes)
    return PreparedVerification(own, options, test, asked, opened, compared, null, way, forms, told)


def _suspects_notes(opened: Sequence[OpenSuspect]) -> Iterator[str]:
    """What has to be known of how they are reached."""
    for one in opened:
        yield from getattr(one.suspect.suspect, "notes", ())


def _check_use(test: str, options: VerifyOptions, control: SuspectLike | None) -> None:
    """Raise ValueError for options that a permutation of labels, which counts matches, has no use for."""
    reason = "is not allowed for this key: the permutation of its labels decides, by the answers to its images alone"
    if test == PERMUTATION and options.views > 1:
        raise ValueError(f"views: {options.views} {reason}")
    if test == PERMUTATION and control is not None:
        raise ValueError(f"control: {reason}")


def _check_commitment(key: Key, given: str | None) -> None:
    """Raise ValueError if another commitment than the key's was given."""
    own = commitment(key)
    if given is not None and given.strip().lower() != own:
        raise ValueError(f"commitment: {given} is not that of this key, {own}")


def _check_suspects(suspects: Sequence[SuspectLike], control: SuspectLike | None) -> None:
    """Raise ValueError for no suspect, for one that is named twice, and for one that is the control."""
    if not suspects:
        raise ValueError("suspect: is missing: name one or more")
    for number, suspect in enumerate(suspects):
        if any(other is suspect or _same_place(other, suspect) for other in suspects[:number]):
            raise ValueError(f"suspect: {redact(str(suspect))} is given twice; once is enough")
        if control is not None and (suspect is control or _same_place(suspect, control)):
            raise ValueError(f"control: {redact(str(control))} is a suspect; allowed: another network")


def _same_place(one: SuspectLike, other: SuspectLike) -> bool:
    return isinstance(one, str | Path) and isinstance(other, str | Path) and str(one) == str(other)


def _check_reach(options: VerifyOptions, asked: OrderedQueries, *, test: str, count: int) -> None:
    """Raise ValueError if even the best answers could decide nothing, in one of their forms."""
    most, each = len(asked.cells), options.level / count
    if best_p_value(test, asked) > each:
        shared = f", {each:g} for each of {count} suspects," if count > 1 else ""
        best = f"{most} matches of {most}" if test == PERMUTATION else f"{most} secret labels of {most} ranked first"
        raise ValueError(f"level: {options.level:g}{shared} is out of reach: {best} would not show it")


def _open(name: str, suspect: SuspectLike, *, way: Way, options: VerifyOptions, asked: OrderedQueries) -> OpenSuspect:
    shape: Any = asked.images.shape[1:]
    limits: dict[str, Any] = {"timeout": options.timeout, "retries": options.retries, "rate": options.rate}
    limits |= {"tracking_uri": options.tracking_uri, "trust": options.trust, "presentation": way.presentation}
    limits |= {"memory_limit": options.memory_limit, "protocol": options.protocol}
    try:
        found = open_suspect(suspect, shape=shape, classes=len(way.numbering.order), **limits)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return OpenSuspect(NumberedSuspect(found, way.numbering), _path_sha256(suspect))


def _path_sha256(suspect: SuspectLike) -> str:
    """The SHA-256 of a file, or of the sums of all files in a folder; empty for what is neither."""
    if not isinstance(suspect, str | Path):
        return ""
    path = Path(suspect)
    if path.is_file():
        return sha256(path)
    return folder_identity(path) if path.is_dir() else ""
