"""Is a suspect a copy of the network that holds a key? What is asked is fixed and checked before anything is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mwm.stats.binomial import critical_matches
from mwm.stats.nonparametric import permutation_test
from mwm.stats.sequential import SequentialTest
from mwm.storage.local import sha256
from mwm.storage.redaction import redact
from mwm.verification.decision import deciding_test, matches_to_decide
from mwm.verification.null_models import ask_null_models
from mwm.verification.options import BINOMIAL, SEQUENTIAL, VerifyOptions
from mwm.verification.procedure import PreparedVerification
from mwm.verification.questions import OrderedQueries, order_queries
from mwm.verification.suspects import Suspect, SuspectLike, open_suspect
from mwm.verification.verdict import Verdict
from mwm.watermarks.key import Key, commitment, load_key


def verify(
    key: Key | Path | str,
    *suspects: SuspectLike,
    options: VerifyOptions | None = None,
    null_models: Sequence[SuspectLike] = (),
    **fields: Any,
) -> Verdict:
    """Query suspects with a key, and decide of each whether it is proven to be a copy.

    `key` is a key or its folder. A suspect is an address or path (see `open_suspect`), a network, or a function of
    float32 images (n c h w in [0, 1]) that gives labels or scores; all suspects named together share the level.
    `fields` are those of `VerifyOptions`, such as `level=1e-6`. `null_models` are suspects that never saw the key: they
    are asked, too, and what they match is set beside; they decide nothing. Without `output` nothing is written.
    Raises ValueError, in one line, for a mistake, and UnansweredError for suspects that do not answer.
    """
    found = replace(options or VerifyOptions(), **fields)
    return prepare(key, suspects, found, null_models=null_models).run(found.output)


def prepare(
    key: Key | Path | str,
    suspects: Sequence[SuspectLike],
    options: VerifyOptions,
    *,
    null_models: Sequence[SuspectLike] = (),
    notes: Sequence[str] = (),
) -> PreparedVerification:
    """Open and check all that a verdict takes, and ask null models, but no suspect yet.

    `notes` are what a reader has to know beside what follows from the options.
    """
    own = key if isinstance(key, Key) else load_key(key)
    _check_commitment(own, options.commitment)
    if own.queries.cells is not None:
        raise ValueError("key: several of its images share a label; only keys with a label for each are queried")
    test = deciding_test(own.null, sequential=options.sequential)
    asked = order_queries(own, options.queries, options.order_seed)
    _check_suspects(suspects)
    _check_reach(options, asked, test=test, count=len(suspects))
    opened = [_open("suspect", one, options=options, asked=asked) for one in suspects]
    independent = [_open("null_models", one, options=options, asked=asked) for one in null_models]
    null = ask_null_models(independent, asked) if independent else None
    sums = [_path_sha256(Path(one)) if isinstance(one, (str, Path)) else "" for one in suspects]
    return PreparedVerification(own, options, test, asked, opened, sums, null, tuple(notes))


def _check_commitment(key: Key, given: str | None) -> None:
    """Raise ValueError if another commitment than the key's was given."""
    own = commitment(key)
    if given is not None and given.strip().lower() != own:
        raise ValueError(f"commitment: {given} is not that of this key, {own}")


def _check_suspects(suspects: Sequence[SuspectLike]) -> None:
    """Raise ValueError for no suspect, or for one that is named twice."""
    if not suspects:
        raise ValueError("suspect: is missing: name one or more")
    for number, suspect in enumerate(suspects):
        if any(other is suspect or _same_place(other, suspect) for other in suspects[:number]):
            raise ValueError(f"suspect: {redact(str(suspect))} is given twice; once is enough")


def _same_place(one: SuspectLike, other: SuspectLike) -> bool:
    return isinstance(one, str | Path) and isinstance(other, str | Path) and str(one) == str(other)


def _check_reach(options: VerifyOptions, asked: OrderedQueries, *, test: str, count: int) -> None:
    """Raise ValueError if even the best answers could decide nothing."""
    most, each = len(asked), options.level / count
    if test == SEQUENTIAL:
        enough = matches_to_decide(SequentialTest(asked.classes), most, each) > 0
    elif test == BINOMIAL:
        enough = critical_matches(most, asked.classes, each) is not None
    else:
        enough = permutation_test(asked.labels, asked.labels, asked.truth) <= each
    if not enough:
        shared = f", {each:g} for each of {count} suspects," if count > 1 else ""
        told = f"{options.level:g}{shared} is out of reach: {most} matches of {most} would not show it"
        raise ValueError(f"level: {told}")


def _open(name: str, suspect: SuspectLike, *, options: VerifyOptions, asked: OrderedQueries) -> Suspect:
    shape: Any = asked.images.shape[1:]
    limits: dict[str, Any] = {"timeout": options.timeout, "retries": options.retries, "rate": options.rate}
    limits |= {"tracking_uri": options.tracking_uri, "trust": options.trust}
    try:
        return open_suspect(suspect, shape=shape, classes=asked.classes, **limits)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _path_sha256(path: Path) -> str:
    """The SHA-256 of a file, or of the sums of all files in a folder; empty for what is neither."""
    if path.is_file():
        return sha256(path)
    names = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
    sums = "".join(f"{sha256(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(sums.encode()).hexdigest() if names else ""
