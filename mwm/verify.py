"""The verdict: is a suspect a copy of the network that holds a key? One test, fixed before asking, decides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mwm import recorded, statement
from mwm.address import without_password
from mwm.inquiry import Manner, Page, Questions, inquire, questions, sheet
from mwm.judge import BINOMIAL, NOT_SHOWN, OWNED, SEQUENTIAL, decide, still_needed, weigh
from mwm.key import Key, commitment, load
from mwm.null import Innocents, ask_innocents
from mwm.spec import digest
from mwm.storage import Storage
from mwm.suspects import SilentError, Suspect, open_suspect
from mwm.verdict import interval, needed

FORMAT = 1
TOGETHER, FEW = 100, 10
"""Queries in a request, and at most where each answer may be the last that is needed."""

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is to be shown of whom, and how: the options of `launch.py verify`. None leaves a choice open."""

    key: Path
    suspects: Sequence[str]
    trust: bool = False
    queries: int | None = None
    order_seed: int = 0
    level: float = 1e-3
    sequential: bool = False
    null: Path | None = None
    commitment: str | None = None
    batch: int | None = None
    timeout: float = 30.0
    retries: int = 5
    rate: float | None = None
    skip_unanswered: bool = False
    report: Path | None = None
    tracking_uri: str | None = None
    storage: str = "."

    def __post_init__(self) -> None:
        positive = "must be above 0"
        for name, value, fine, allowed in (
            ("level", self.level, 0 < self.level < 1, "must lie strictly between 0 and 1"),
            ("order-seed", self.order_seed, self.order_seed >= 0, "must be 0 or more"),
            ("queries", self.queries, self.queries is None or self.queries > 0, positive),
            ("batch", self.batch, self.batch is None or self.batch > 0, positive),
            ("rate", self.rate, self.rate is None or self.rate > 0, positive),
            ("timeout", self.timeout, self.timeout > 0, positive),
            ("retries", self.retries, self.retries >= 0, "must be 0 or more"),
        ):
            if not fine:
                raise ValueError(f"--{name}: {value:g} is not allowed: {allowed}")
        for address in self.suspects:
            if self.suspects.count(address) > 1:
                raise ValueError(f"--suspect: {without_password(address)} is given twice; once is enough")

    @property
    def test(self) -> str:
        """The test that decides."""
        return SEQUENTIAL if self.sequential else BINOMIAL

    @property
    def share(self) -> float:
        """The level at which one suspect is convicted whatever becomes of the others."""
        return self.level / len(self.suspects)

    @property
    def together(self) -> int:
        """Queries in a request at most."""
        most = self.batch or TOGETHER
        return min(most, FEW) if self.sequential else most


def run(case: Case, console: Console, *, as_json: bool) -> int:
    """Ask, decide and tell: 0 if a suspect is shown to be owned, else 1. A mistake, or silence, is a ValueError."""
    try:
        found, folder = prove(case)
    except OSError as error:
        where = error.filename or "--report"
        raise ValueError(f"{where}: {error.strerror or error}; what was answered is kept: run it again") from None
    if as_json:
        console.out(json.dumps({**found, "report": str(folder)}, indent=1), highlight=False)
    else:
        for line in (*statement.lines(found), f"report    {folder}; sign it there by {statement.SIGN}"):
            console.out(line, highlight=False)
    return 0 if found["decision"] == OWNED else 1


def prove(case: Case) -> tuple[Tree, Path]:
    """The verdict on all suspects of a case, and the folder of its report; what was asked before is not asked again."""
    key = load(case.key)
    name = _commitment(key, case.commitment)
    asked = questions(key, case.queries, case.order_seed)
    _check_reach(case, asked)
    suspects = [_suspect(case, address, asked) for address in case.suspects]
    plan = _plan(case, name, len(asked), suspects)
    folder = case.report or Storage(case.storage).results / recorded.VERDICTS / digest(plan)
    experiment = recorded.opened(case.tracking_uri)
    innocents = ask_innocents(case.null, key, asked) if case.null else None
    with sheet(folder, plan, again=not case.skip_unanswered) as pages:
        findings = [
            _finding(case, asked, suspect, page, innocents) for suspect, page in zip(suspects, pages, strict=True)
        ]
        decide(findings, case.test, case.level)
        verdict = _verdict(case, key, plan, findings, innocents)
        statement.write(folder, verdict)
    if experiment is not None:
        recorded.record(experiment, verdict, folder)
    return verdict, folder


def _commitment(key: Key, given: str | None) -> str:
    """The commitment to a key; ValueError if another one was given."""
    own = commitment(key)
    if given is not None and given.strip().lower() != own:
        raise ValueError(f"--commitment: {given} is not that of this key, {own}")
    return own


def _check_reach(case: Case, asked: Questions) -> None:
    """Raise ValueError if even the best answers could decide nothing."""
    count = len(asked)
    if case.sequential:
        enough = still_needed([], count, case.share, asked.classes)
    else:
        enough = needed(count, asked.classes, case.share) or 0
    if not enough:
        raise ValueError(f"--level: {case.level:g} is out of reach: {count} matches of {count} would not show it")


def _suspect(case: Case, address: str, asked: Questions) -> Suspect:
    shape: Any = asked.images.shape[1:]
    limits: dict[str, Any] = {"timeout": case.timeout, "retries": case.retries, "tracking_uri": case.tracking_uri}
    try:
        return open_suspect(address, shape=shape, classes=asked.classes, trust=case.trust, **limits)
    except ValueError as error:
        raise ValueError(f"--suspect: {error}") from None


def _plan(case: Case, name: str, queries: int, suspects: Sequence[Suspect]) -> Tree:
    """What is fixed before anything is asked: another plan is another verdict."""
    files = [_sha256(Path(address)) for address in case.suspects]
    return {
        "key": name,
        "suspects": [{"name": one.name, "sha256": own} for one, own in zip(suspects, files, strict=True)],
        "test": case.test,
        "level": case.level,
        "queries": queries,
        "order_seed": case.order_seed,
    }


def _sha256(path: Path) -> str:
    """The SHA-256 of a file, or of the sums of all files in a folder; empty for what is neither."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted(one.relative_to(path).as_posix() for one in path.rglob("*") if one.is_file())
    sums = "".join(f"{_sha256(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(sums.encode()).hexdigest() if names else ""


def _finding(case: Case, asked: Questions, suspect: Suspect, page: Page, innocents: Innocents | None) -> Tree:
    """Ask one suspect; what it answered, and what that is worth."""

    def more(told: Sequence[int]) -> int:
        if not case.sequential:
            return case.together
        matched = np.equal(told, asked.labels[: len(told)])
        return min(case.together, still_needed(matched, len(asked) - len(told), case.share, asked.classes))

    manner = Manner(batch=case.together, rate=case.rate, skip=case.skip_unanswered)
    try:
        answers = inquire(suspect, asked, page, manner=manner, more=more)
    except SilentError as error:
        kept = f"{len(page.labels)} of {len(asked)} answers are kept"
        raise ValueError(f"--suspect: {error}; {kept}: run the same command again") from None
    count, numbers, labels = len(answers), asked.numbers[: len(answers)], asked.labels[: len(answers)]
    matches = int((answers == labels).sum())
    scores = page.matrix(numbers, asked.classes)
    return {
        "name": suspect.name,
        "access": suspect.access,
        "matches": matches,
        "asked": count,
        "unanswered": len(page.silent.intersection(numbers)),
        "match_rate": matches / count,
        "interval": list(interval(matches, count)),
        "tests": weigh(answers, asked, scores=scores, null=innocents.matches(labels) if innocents else None),
        "queries": numbers,
        "requests": page.requests,
        "seconds": round(page.seconds, 3),
        "began": page.began,
        "ended": page.ended,
    }


def _verdict(case: Case, key: Key, plan: Tree, findings: Sequence[Tree], innocents: Innocents | None) -> Tree:
    """The tree of verdict.json; it tells neither the key's secret nor when it was written."""
    owned = any(finding["decision"] == OWNED for finding in findings)
    files = [one["sha256"] for one in plan["suspects"]]
    return {
        "format": FORMAT,
        "decision": OWNED if owned else NOT_SHOWN,
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
        "notes": list(_notes(case, key, plan["queries"], innocents)),
    }


def _notes(case: Case, key: Key, count: int, innocents: Innocents | None) -> Iterator[str]:
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
