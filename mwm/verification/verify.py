"""The verdict: is a suspect a copy of the network that holds a key? One test, fixed before asking, decides."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from mwm.config.spec import digest
from mwm.runner.tracking import verdicts
from mwm.runner.workspace.location import StorageLocation
from mwm.stats.binomial import critical_matches
from mwm.stats.intervals import clopper_pearson
from mwm.stats.sequential import SequentialTest
from mwm.storage.filesystem import is_transient
from mwm.storage.local import sha256
from mwm.verification import report
from mwm.verification.answer_log import ANSWERS, SuspectAnswers, open_answer_log
from mwm.verification.asking import AskPolicy, ask
from mwm.verification.decision import NOT_PROVEN, PROVEN, decide, matches_to_decide, run_tests
from mwm.verification.null_models import NullAnswers, ask_null_models
from mwm.verification.options import VerifyOptions
from mwm.verification.questions import OrderedQueries, order_queries
from mwm.verification.suspects import NoAnswerError, Suspect, open_suspect
from mwm.watermarks.key import Key, commitment, load_key

FORMAT_VERSION, PROCEDURE_VERSION = 1, 1
"""Of the verdict; and raised with every change of what is asked or how it is judged: no old answer is then reused."""

Tree = dict[str, Any]


def verify_command(case: VerifyOptions, console: Console, *, as_json: bool) -> int:
    """Ask, decide and tell: 0 if a suspect is shown to be owned, else 1. A mistake, or silence, is a ValueError."""
    try:
        found, asked_now, folder = verify(case)
    except OSError as error:
        where = error.filename or "--report"
        way = "" if case.again or not is_transient(error) else ": run it again"
        raise ValueError(f"{where}: {error.strerror or error}; what was answered is kept{way}") from None
    if as_json:
        said = {**found, "asked_now": asked_now, "report": str(folder)}
        console.out(json.dumps(said, indent=1), highlight=False)
    else:
        for line in (*report.summary_lines(found, asked_now), f"report    {folder}; sign it there by {report.SIGN}"):
            console.out(line, highlight=False)
    return 0 if found["decision"] == PROVEN else 1


def verify(case: VerifyOptions) -> tuple[Tree, list[int], Path]:
    """The verdict on all suspects of a case, how many queries each was asked for it now, and the folder of its report.

    What was answered before is not asked again, unless the case says so.
    """
    key = load_key(case.key)
    _check_commitment(key, case.commitment)
    asked = order_queries(key, case.queries, case.order_seed)
    _check_reach(case, asked)
    suspects = [_suspect(case, address, asked) for address in case.suspects]
    experiment = verdicts.open_experiment(case.tracking_uri)
    innocents = ask_null_models(case.null, key, asked) if case.null else None
    plan = _plan(case, key, asked=asked, suspects=suspects, innocents=innocents)
    folder = _folder(case, plan)
    with open_answer_log(folder, plan) as pages:
        told = _ask_all(case, asked, suspects=suspects, pages=pages, folder=folder)
        findings = [
            _suspect_result(*one, asked=asked, innocents=innocents) for one in zip(suspects, pages, told, strict=True)
        ]
        decide(findings, case.test, case.level)
        verdict = _verdict(case, key, plan=plan, findings=findings, innocents=innocents)
        report.write_report(folder, verdict)
    if experiment is not None:
        verdicts.log_verdict(experiment, verdict, folder)
    return verdict, [page.fresh for page in pages], folder


def _check_commitment(key: Key, given: str | None) -> None:
    """Raise ValueError if another commitment than the key's was given."""
    own = commitment(key)
    if given is not None and given.strip().lower() != own:
        raise ValueError(f"--commitment: {given} is not that of this key, {own}")


def _check_reach(case: VerifyOptions, asked: OrderedQueries) -> None:
    """Raise ValueError if even the best answers could decide nothing."""
    most, each = len(asked), case.level_per_suspect
    if case.sequential:
        enough = matches_to_decide(SequentialTest(asked.classes), most, each)
    else:
        enough = critical_matches(most, asked.classes, each) or 0
    if not enough:
        shared = f", {each:g} for each of {len(case.suspects)} suspects," if len(case.suspects) > 1 else ""
        raise ValueError(f"--level: {case.level:g}{shared} is out of reach: {most} matches of {most} would not show it")


def _suspect(case: VerifyOptions, address: str, asked: OrderedQueries) -> Suspect:
    shape: Any = asked.images.shape[1:]
    limits: dict[str, Any] = {"timeout": case.timeout, "retries": case.retries, "rate": case.rate}
    limits["tracking_uri"] = case.tracking_uri
    try:
        return open_suspect(address, shape=shape, classes=asked.classes, trust=case.trust, **limits)
    except ValueError as error:
        raise ValueError(f"--suspect: {error}") from None


def _plan(
    case: VerifyOptions, key: Key, *, asked: OrderedQueries, suspects: Sequence[Suspect], innocents: NullAnswers | None
) -> Tree:
    """What is fixed before anything is asked: another plan is another verdict."""
    files = [_path_sha256(Path(address)) for address in case.suspects]
    return {
        "format": FORMAT_VERSION,
        "method": PROCEDURE_VERSION,
        "key": commitment(key),
        "committed": case.commitment is not None,
        "suspects": [
            {"name": one.name, "identity": _keyed_name(one.identity, key), "sha256": own}
            for one, own in zip(suspects, files, strict=True)
        ],
        "null": digest(*sorted(innocents.names)) if innocents else None,
        "test": case.test,
        "level": case.level,
        "queries": len(asked),
        "order_seed": case.order_seed,
    }


def _keyed_name(identity: str, key: Key) -> str:
    """A name for what a suspect is, from which nobody can guess the password that is part of it."""
    return hmac.digest(key.secret, f"suspect/{identity}".encode(), "sha256").hex()[:16]


def _folder(case: VerifyOptions, plan: Tree) -> Path:
    """Where a verdict goes: always the same folder for the same plan, unless everything is to be asked anew."""
    own = case.report or StorageLocation(case.storage).results / verdicts.VERDICTS / digest(plan)
    if not case.again or not own.exists():
        return own
    if case.report is None:
        numbered = (own.with_name(f"{own.name}-{number}") for number in count(2))
        return next(folder for folder in numbered if not folder.exists())
    if (own / ANSWERS).exists():
        raise ValueError(f"--again: {own} holds answers already; name an empty folder by --report, or none")
    return own


def _path_sha256(path: Path) -> str:
    """The SHA-256 of a file, or of the sums of all files in a folder; empty for what is neither."""
    if path.is_file():
        return sha256(path)
    names = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
    sums = "".join(f"{sha256(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(sums.encode()).hexdigest() if names else ""


def _ask_all(
    case: VerifyOptions,
    asked: OrderedQueries,
    *,
    suspects: Sequence[Suspect],
    pages: Sequence[SuspectAnswers],
    folder: Path,
) -> list[NDArray[np.int64]]:
    """What each suspect answered (n); ValueError, when all have been asked, for those that were silent."""
    told, silent, passes = [], [], False
    for suspect, page in zip(suspects, pages, strict=True):
        try:
            told.append(_ask(case, asked, suspect=suspect, page=page))
        except NoAnswerError as error:
            passes |= not error.permanent
            silent.append(f"{error}; {len(page.labels) - len(page.silent)} of {len(asked)} answers are kept")
    if silent:
        way = f"go on by --report {folder} without --again" if case.again else "run the same command again"
        way = way if passes else f"when that is mended, {way}"
        raise ValueError(f"--suspect: {'; '.join(silent)}: {way}")
    return told


def _ask(case: VerifyOptions, asked: OrderedQueries, *, suspect: Suspect, page: SuspectAnswers) -> NDArray[np.int64]:
    """What one suspect answered (n): all queries, or as many as the sequential test needs."""
    test = SequentialTest(asked.classes)

    def more(told: Sequence[int]) -> int:
        if not case.sequential:
            return case.batch_size
        for place in range(test.queries, len(told)):
            test.add(told[place] == asked.labels[place])
        return min(case.batch_size, matches_to_decide(test, len(asked) - len(told), case.level_per_suspect))

    manner = AskPolicy(rate=case.rate, skip=case.skip_unanswered)
    return ask(suspect, asked, page, manner=manner, more=more)


def _suspect_result(
    suspect: Suspect,
    page: SuspectAnswers,
    answers: NDArray[np.int64],
    *,
    asked: OrderedQueries,
    innocents: NullAnswers | None,
) -> Tree:
    """What one suspect answered, and what that is worth."""
    count, numbers, labels = len(answers), asked.numbers[: len(answers)], asked.labels[: len(answers)]
    matches = int((answers == labels).sum())
    silent = len(page.silent.intersection(numbers))
    scores = page.scores_of(numbers, asked.classes)
    return {
        "name": suspect.name,
        "access": suspect.access,
        "matches": matches,
        "asked": count,
        "unanswered": silent,
        "no_class": int(((answers < 0) | (answers >= asked.classes)).sum()) - silent,
        "match_rate": matches / count,
        "interval": list(clopper_pearson(matches, count)),
        "tests": run_tests(answers, asked, scores=scores, null=innocents.matches(labels) if innocents else None),
        "queries": numbers,
        "requests": page.requests,
        "seconds": round(page.seconds, 3),
        "began": page.began,
        "ended": page.ended,
    }


def _verdict(
    case: VerifyOptions, key: Key, *, plan: Tree, findings: Sequence[Tree], innocents: NullAnswers | None
) -> Tree:
    """The tree of verdict.json; it tells neither the key's secret nor when it was written."""
    owned = any(finding["decision"] == PROVEN for finding in findings)
    files = [one["sha256"] for one in plan["suspects"]]
    return {
        "format": FORMAT_VERSION,
        "decision": PROVEN if owned else NOT_PROVEN,
        "key": {
            "commitment": plan["key"],
            "committed": case.commitment is not None,
            "guessable": key.guessable,
            "created": key.created,
            "rule": key.rule,
            "scheme": key.scheme,
            "queries": len(key.queries),
            "classes": key.classes,
        },
        "plan": {name: plan[name] for name in ("test", "level", "queries", "order_seed")},
        "suspects": [{**one, "sha256": own} for one, own in zip(findings, files, strict=True)],
        "notes": [
            *_class_order_notes(findings, key.classes),
            *_notes(case, key, count=plan["queries"], innocents=innocents),
        ],
    }


def _class_order_notes(findings: Sequence[Tree], classes: int) -> Iterator[str]:
    """What hints at a suspect that numbers its classes in another way, which no test can see."""
    for one in findings:
        if one["no_class"]:
            named = f"{one['no_class']} of {one['asked']} answers of {one['name']} name no class of the key"
            yield f"{named} (0 to {classes - 1}): does it count from 1, or in another order?"


def _notes(case: VerifyOptions, key: Key, *, count: int, innocents: NullAnswers | None) -> Iterator[str]:
    """What a reader has to know to judge the verdict."""
    if case.commitment is None:
        yield "nothing here shows the key to be older than the suspect: no commitment was given"
    else:
        yield "the key opens the commitment; its time stamp or publication must show that it is older than the suspect"
    if key.guessable:
        yield "the key's secret comes from an integer and can be guessed: others may know it, and many can be tried"
    if count < len(key.queries) or case.order_seed:
        yield "the number of queries and the seed of their order must have been chosen before any answer was seen"
    if case.sequential:
        yield "only the sequential p allows for stopping early; the other tests and the interval take n as fixed before"
    if innocents is not None and innocents.left_out:
        yield f"{innocents.left_out} models of --null were left out: their own query set is this key"
    if innocents is not None and (least := 1 / (len(innocents.names) + 1)) > case.level:
        yield f"{len(innocents.names)} innocents are too few for this level: their p is never below {least:.2g}"
    yield "one report counts: asking till one says owned, or by a command for each suspect, is not covered by the level"
