"""Asking and deciding, once all is fixed: one test, named before, decides."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.spec import digest
from mwm.stats.intervals import clopper_pearson
from mwm.stats.sequential import SequentialTest
from mwm.verification import report
from mwm.verification.answer_log import SuspectAnswers, open_answer_log
from mwm.verification.asking import AskPolicy, ask
from mwm.verification.decision import decide, matches_to_decide, run_tests
from mwm.verification.null_models import NullAnswers
from mwm.verification.options import VerifyOptions
from mwm.verification.questions import OrderedQueries
from mwm.verification.suspects.outputs import NoAnswerError, Suspect
from mwm.verification.verdict import (
    FORMAT_VERSION,
    NOT_PROVEN,
    PROCEDURE_VERSION,
    PROVEN,
    KeySummary,
    SuspectResult,
    TestResult,
    Verdict,
    VerdictPlan,
)
from mwm.watermarks.key import Key, commitment

Labels = NDArray[np.int64]

ONE_REPORT = (
    "one report counts: asking till one says proven, or by a command for each suspect, is not covered by the level"
)


class UnansweredError(ValueError):
    """Suspects did not answer, for `reasons`; `permanent` unless the same may be answered at another time."""

    def __init__(self, reasons: Sequence[str], *, permanent: bool) -> None:
        super().__init__(f"suspect: {'; '.join(reasons)}")
        self.reasons, self.permanent = reasons, permanent


@dataclass(frozen=True, eq=False)
class PreparedVerification:
    """A verdict that is all fixed and checked, before any suspect was asked."""

    key: Key
    options: VerifyOptions
    test: str
    asked: OrderedQueries
    suspects: list[Suspect]
    sums: list[str]
    null: NullAnswers | None
    notes: tuple[str, ...]

    @property
    def plan(self) -> dict[str, Any]:
        """What is fixed before anything is asked: another plan is another verdict."""
        options = self.options
        return {
            "format": FORMAT_VERSION,
            "method": PROCEDURE_VERSION,
            "key": commitment(self.key),
            "committed": options.commitment is not None,
            "suspects": [
                {"name": one.name, "identity": _keyed_name(one.identity, self.key), "sha256": own}
                for one, own in zip(self.suspects, self.sums, strict=True)
            ],
            "null_models": digest(*sorted(self.null.identities)) if self.null else None,
            "test": self.test,
            "level": options.level,
            "queries": len(self.asked),
            "order_seed": options.order_seed,
        }

    @property
    def digest(self) -> str:
        """Sixteen hex digits of the plan: equal plans have one verdict."""
        return digest(self.plan)

    def run(self, output: Path | None = None) -> Verdict:
        """Ask the suspects what is not known yet, and decide; answers and report go to the folder `output`, if any."""
        with open_answer_log(output, self.plan) as logs:
            told = self._ask_all(logs)
            verdict = self._verdict(logs, told)
            if output is not None:
                report.write_report(output, verdict)
        return replace(verdict, asked_now=tuple(log.fresh for log in logs), output=output)

    def _ask_all(self, logs: Sequence[SuspectAnswers]) -> list[Labels]:
        """What each suspect answered (n); UnansweredError, when all have been asked, for those that did not."""
        told, silent, permanent = [], [], True
        for suspect, log in zip(self.suspects, logs, strict=True):
            try:
                told.append(self._ask(suspect, log))
            except NoAnswerError as error:
                permanent &= error.permanent
                kept = f"; {len(log.labels) - len(log.silent)} of {len(self.asked)} answers are kept"
                silent.append(f"{error}{kept if log.file else ''}")
        if silent:
            raise UnansweredError(silent, permanent=permanent)
        return told

    def _ask(self, suspect: Suspect, log: SuspectAnswers) -> Labels:
        """What one suspect answered (n): all queries, or as many as the sequential test needs."""
        options, asked, test = self.options, self.asked, SequentialTest(self.asked.classes)
        each = options.level / len(self.suspects)

        def more(told: Sequence[int]) -> int:
            if not options.sequential:
                return options.batch_size
            for place in range(test.queries, len(told)):
                test.add(told[place] == asked.labels[place])
            return min(options.batch_size, matches_to_decide(test, len(asked) - len(told), each))

        policy = AskPolicy(rate=options.rate, skip=options.skip_unanswered)
        return ask(suspect, asked, log, policy=policy, more=more)

    def _verdict(self, logs: Sequence[SuspectAnswers], told: Sequence[Labels]) -> Verdict:
        """What the answers of all suspects are worth together."""
        tests = [self._tests(log, answers) for log, answers in zip(logs, told, strict=True)]
        deciding = [_deciding(one, self.test) for one in tests]
        decided = decide([one.p_value for one in deciding], self.options.level)
        results = tuple(
            SuspectResult(
                **self._counted(number, logs[number], told[number]),
                p_value=deciding[number].p_value,
                log10_p=deciding[number].log10_p,
                tests=tests[number],
                adjusted_p_value=adjusted,
                decision=decision,
            )
            for number, (adjusted, decision) in enumerate(decided)
        )
        proven = any(one.decision == PROVEN for one in results)
        return Verdict(
            decision=PROVEN if proven else NOT_PROVEN,
            key=_key_summary(self.key, committed=self.options.commitment is not None),
            plan=VerdictPlan(**{name: self.plan[name] for name in ("test", "level", "queries", "order_seed")}),
            suspects=results,
            notes=(*_class_order_notes(results, self.key.classes), *self._notes(), *self.notes, ONE_REPORT),
        )

    def _tests(self, log: SuspectAnswers, answers: Labels) -> dict[str, TestResult | None]:
        """Every test of the answers (n) of one suspect."""
        asked, count = self.asked, len(answers)
        scores = log.scores_of(asked.numbers[:count], asked.classes)
        null = self.null.matches(asked.labels[:count]) if self.null else None
        return run_tests(answers, asked, scores=scores, null=null, labels_are=self.key.null)

    def _counted(self, number: int, log: SuspectAnswers, answers: Labels) -> dict[str, Any]:
        """What one suspect answered (n), counted: the fields of its result but for tests and decision."""
        asked, count, suspect = self.asked, len(answers), self.suspects[number]
        numbers, matches = asked.numbers[:count], int((answers == asked.labels[:count]).sum())
        silent = len(log.silent.intersection(numbers))
        return {
            "name": suspect.name,
            "access": suspect.access,
            "sha256": self.sums[number],
            "matches": matches,
            "asked": count,
            "unanswered": silent,
            "no_class": int(((answers < 0) | (answers >= asked.classes)).sum()) - silent,
            "match_rate": matches / count,
            "interval": clopper_pearson(matches, count),
            "queries": tuple(numbers),
            "requests": log.requests,
            "seconds": round(log.seconds, 3),
            "began": log.began,
            "ended": log.ended,
        }

    def _notes(self) -> Iterator[str]:
        """What a reader has to know to judge the verdict."""
        options, null = self.options, self.null
        if options.commitment is None:
            yield "nothing here shows the key to be older than the suspect: no commitment was given"
        else:
            yield "the key opens the commitment; its time stamp or publication must show it to be the older"
        if self.key.guessable:
            yield "the key's secret comes from an integer and can be guessed: others may know it, and many can be tried"
        if len(self.asked) < len(self.key.queries) or options.order_seed:
            yield "the number of queries and the seed of their order must have been chosen before any answer was seen"
        if options.sequential:
            yield "only the sequential p allows for stopping early; the other tests and the interval take n as fixed"
        if null is not None and (least := 1 / (len(null.identities) + 1)) > options.level:
            yield f"{len(null.identities)} null models are too few for this level: their p is never below {least:.2g}"


def _deciding(tests: Mapping[str, TestResult | None], name: str) -> TestResult:
    found = tests[name]
    assert found is not None, f"the {name} test is always possible"
    return found


def _keyed_name(identity: str, key: Key) -> str:
    """A name for what a suspect is, from which nobody can guess the password that is part of it."""
    return hmac.digest(key.secret, f"suspect/{identity}".encode(), "sha256").hex()[:16]


def _key_summary(key: Key, *, committed: bool) -> KeySummary:
    return KeySummary(
        commitment=commitment(key),
        committed=committed,
        guessable=key.guessable,
        created=key.created,
        rule=key.rule,
        scheme=key.scheme,
        queries=len(key.queries),
        classes=key.classes,
    )


def _class_order_notes(results: Sequence[SuspectResult], classes: int) -> Iterator[str]:
    """What hints at a suspect that numbers its classes in another way, which no test can see."""
    for one in results:
        if one.no_class:
            named = f"{one.no_class} of {one.asked} answers of {one.name} name no class of the key"
            yield f"{named} (0 to {classes - 1}): does it count from 1, or in another order?"
