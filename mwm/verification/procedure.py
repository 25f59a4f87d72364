"""Asking and deciding, once all is fixed: one test, named before, decides."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mwm.config.spec import digest
from mwm.stats.multiple_testing import holm_limits
from mwm.verification.answer_forms import AnswerForms
from mwm.verification.decision import (
    cells_to_decide,
    decide,
    default_accuracy_bound,
    judge,
    overall,
    run_tests,
    why_stopped,
)
from mwm.verification.diagnosis.diagnose import UNDIAGNOSED, Diagnosis
from mwm.verification.diagnosis.probe import make_probe
from mwm.verification.findings import counted, key_summary, ranked
from mwm.verification.null_models import NullAnswers, compare
from mwm.verification.options import CELLS_AT_A_TIME, RANK_SUM, VerifyOptions
from mwm.verification.querying.answer_log import Answers, SuspectAnswers, open_answer_log
from mwm.verification.querying.asking import AskPolicy, ask
from mwm.verification.querying.numbering import NumberedSuspect, Way
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.report import notes
from mwm.verification.report.exhibit import make_exhibit
from mwm.verification.report.files import write_report
from mwm.verification.suspects.outputs import NoAnswerError, Suspect
from mwm.verification.verdict import (
    FORMAT_VERSION,
    INCONCLUSIVE,
    PROCEDURE_VERSION,
    ControlSummary,
    SuspectResult,
    Verdict,
    VerdictPlan,
)
from mwm.verification.weighing import Progress, weigh_answers
from mwm.watermarks.evidence import Evidence
from mwm.watermarks.key import Key, commitment

PLANNED = (
    *("test", "level", "cells", "views", "order_seed"),
    *("input_range", "layout", "class_order", "accuracy_bound"),
)
"""What a verdict says of its plan as the plan does."""


class UnansweredError(ValueError):
    """Suspects, or the control, did not answer, for `reasons`; `permanent` unless they may at another time."""

    def __init__(self, reasons: Sequence[str], *, permanent: bool, who: str = "suspect") -> None:
        super().__init__(f"{who}: {'; '.join(reasons)}")
        self.reasons, self.permanent = reasons, permanent


@dataclass(frozen=True, eq=False, slots=True)
class OpenSuspect:
    """A suspect or control that was opened, and the SHA-256 of its files, empty if it has none here."""

    suspect: NumberedSuspect
    sha256: str

    def named(self, key: Key) -> dict[str, str]:
        """What a plan says of it."""
        one = self.suspect
        return {"name": one.name, "identity": _keyed_name(one.identity, key), "sha256": self.sha256}


@dataclass(frozen=True, eq=False)
class PreparedVerification:
    """A verdict that is all fixed and checked, before any suspect was asked."""

    key: Key
    options: VerifyOptions
    test: str
    asked: OrderedQueries
    suspects: list[OpenSuspect]
    control: OpenSuspect | None
    null: NullAnswers | None
    way: Way
    forms: AnswerForms
    notes: tuple[str, ...]

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What is fixed before anything is asked: another plan is another verdict."""
        options = self.options
        return {
            "format": FORMAT_VERSION,
            "method": PROCEDURE_VERSION,
            "key": commitment(self.key),
            "committed": options.commitment is not None,
            "suspects": [one.named(self.key) for one in self.suspects],
            "control": self.control and self.control.named(self.key),
            "null_models": digest(*sorted(self.null.identities)) if self.null else None,
            "test": self.test,
            "level": options.level,
            "cells": len(self.asked.cells),
            "views": options.views,
            "order_seed": options.order_seed,
            "input_range": self.way.presentation.range,
            "layout": self.way.presentation.layout,
            "class_order": self.way.numbering.described(self.key.class_names),
            "accuracy_bound": self.accuracy_bound,
            **({"answers": words} if (words := self.forms.words) else {}),
        }

    @property
    def accuracy_bound(self) -> float:
        """The share of true classes below which a suspect that is not proven is inconclusive."""
        given = self.options.accuracy_bound
        return default_accuracy_bound(self.key.classes) if given is None else given

    @property
    def digest(self) -> str:
        """Sixteen hex digits of the plan: equal plans have one verdict."""
        return digest(self.plan)

    def run(self, output: Path | None = None) -> Verdict:
        """Ask the suspects what is not known yet, and decide; answers and report go to the folder `output`, if any."""
        with open_answer_log(output, self.plan) as logs:
            own = logs[: len(self.suspects)]
            control = self._ask_control(logs[-1])
            told = self._ask_all(own, control)
            verdict = self._explained(self._verdict(own, told, control), own)
            if output is not None:
                null = None if self.null is None else self.null.labels
                write_report(output, verdict, make_exhibit(self.key, self.asked, told, control=control, null=null))
        return replace(verdict, asked_now=tuple(log.fresh for log in own), output=output)

    def _ask_control(self, log: SuspectAnswers) -> Answers | None:
        """What the control, if there is one, answered to everything (m); UnansweredError if it did not."""
        if self.control is None:
            return None
        try:
            ask(self.control.suspect, self.asked, log, policy=self._policy, more=lambda _: self.options.batch_size)
        except NoAnswerError as error:
            raise UnansweredError([self._silence(error, log)], permanent=error.permanent, who="control") from None
        return log.answers(self.asked.numbers, self.asked.classes)

    def _ask_all(self, logs: Sequence[SuspectAnswers], control: Answers | None) -> list[Answers]:
        """What each suspect answered (m); UnansweredError, when all have been asked, for those that did not."""
        told, silent, permanent = [], [], True
        for one, log in zip(self.suspects, logs, strict=True):
            try:
                told.append(self._ask(one.suspect, log, control))
            except NoAnswerError as error:
                permanent &= error.permanent
                silent.append(self._silence(error, log))
        if silent:
            raise UnansweredError(silent, permanent=permanent)
        return told

    @property
    def _policy(self) -> AskPolicy:
        return AskPolicy(rate=self.options.rate, skip=self.options.skip_unanswered)

    def _silence(self, error: NoAnswerError, log: SuspectAnswers) -> str:
        kept = f"; {len(log.labels) - len(log.silent)} of {len(self.asked)} answers are kept"
        return f"{error}{kept if log.file else ''}"

    def _ask(self, suspect: Suspect, log: SuspectAnswers, control: Answers | None) -> Answers:
        """What one suspect answered (m): to all images, or to those of as many cells as the sequential test needs."""
        options, asked, progress = self.options, self.asked, Progress(self.asked, control)
        each = options.level / len(self.suspects)

        def more(done: int) -> int:
            self._check_form(suspect, self._judged(log, done), control=control)
            if not options.sequential:
                return options.batch_size
            test = progress.follow(self._judged(log, done))
            needed = cells_to_decide(test, len(asked.cells) - test.cells, each)
            end = asked.end(test.cells + min(needed, CELLS_AT_A_TIME))
            return min(options.batch_size, end - done) if needed else 0

        done = ask(suspect, asked, log, policy=self._policy, more=more)
        told = self._judged(log, done)
        self._check_form(suspect, told, control=control)
        return told

    def _judged(self, log: SuspectAnswers, count: int) -> Answers:
        """What a suspect answered to the first images, in the form in which it is judged; ValueError if it has none."""
        numbers = self.asked.numbers[:count]
        came = log.answers(numbers, self.asked.classes)
        self.forms.check(came, self.suspects[log.suspect].suspect.name)
        return self.forms.shape(came, numbers, log.suspect)

    def _check_form(self, suspect: Suspect, answers: Answers, *, control: Answers | None) -> None:
        """Raise ValueError for a control whose labels cannot be subtracted from scores."""
        if self.control and control is not None and control.scores is None and answers.scores is not None:
            other = f"answers with labels, and {suspect.name} with scores"
            raise ValueError(f"control: {self.control.suspect.name} {other}; allowed: a control that gives scores")

    def _verdict(self, logs: Sequence[SuspectAnswers], told: Sequence[Answers], control: Answers | None) -> Verdict:
        """What the answers of all suspects are worth together."""
        found = [self._found(*one, control=control) for one in zip(self.suspects, logs, told, strict=True)]
        deciding = [one["tests"][self.test] for one in found]
        p_values = [one.p_value for one in deciding]
        decided, limits = decide(p_values, self.options.level), holm_limits(p_values, self.options.level)
        results = tuple(
            SuspectResult(
                **one,
                p_value=test.p_value,
                log10_p=test.log10_p,
                adjusted_p_value=p,
                limit=limit,
                decision=judge(decision, right=one["right"], asked=one["asked"], bound=self.accuracy_bound),
            )
            for one, test, (p, decision), limit in zip(found, deciding, decided, limits, strict=True)
        )
        planned = self._planned()
        return Verdict(
            decision=overall([one.decision for one in results]),
            key=key_summary(self.key, committed=self.options.commitment is not None),
            plan=planned,
            suspects=results,
            notes=(
                *notes.class_order_notes(results, self.key.classes),
                *notes.planned_notes(self.options, self.key, planned),
                *notes.null_model_notes(len(self.null.identities) if self.null else 0, self.options.level),
                *self.notes,
                notes.ONE_REPORT,
            ),
        )

    def _explained(self, verdict: Verdict, logs: Sequence[SuspectAnswers]) -> Verdict:
        """The verdict with likely reasons beside what is inconclusive; what was found before is not asked again."""
        told = zip(verdict.suspects, self.suspects, logs, strict=True)
        return replace(verdict, suspects=tuple(self._with_reasons(*one) for one in told))

    def _with_reasons(self, found: SuspectResult, one: OpenSuspect, log: SuspectAnswers) -> SuspectResult:
        if found.decision != INCONCLUSIVE:
            return found
        if log.reasons is None and self.options.no_diagnosis:
            return replace(found, reasons=(UNDIAGNOSED,))
        if log.reasons is None:
            diagnosis = Diagnosis(one.suspect, make_probe(self.key), self._policy, self.options.batch_size)
            reasons = diagnosis.reasons(self.accuracy_bound, self.key.class_names)
            log.explain(reasons, diagnosis.images)
        return replace(found, reasons=log.reasons or (), tried=log.tried)

    def _planned(self) -> VerdictPlan:
        control = None
        if self.control:
            one = self.control.suspect
            control = ControlSummary(name=one.name, access=one.access, sha256=self.control.sha256)
        fixed = {name: self.plan[name] for name in PLANNED}
        return VerdictPlan(**fixed, images=len(self.asked), control=control, answers=self.forms.words)

    def _found(
        self, one: OpenSuspect, log: SuspectAnswers, answers: Answers, *, control: Answers | None
    ) -> dict[str, Any]:
        """What one suspect answered (m), and every test of it: the fields of its result but for the decision."""
        asked = self.asked.part(0, self.asked.whole(len(answers)))
        plain = weigh_answers(asked, answers)
        known = None if control is None else control.part(slice(len(answers)))
        evidence = plain if known is None else weigh_answers(asked, answers, known)
        places, shown = asked.places[asked.plain], answers.part(asked.plain)
        choices = shown.first_choices(places, len(asked.cells), asked.classes)
        null = self.null.matches(asked.labels) if self.null else None
        beside = None if control is None else plain
        tests = run_tests(evidence, choices, asked, uncontrolled=beside, null=null, labels_are=self.key.null)
        return {
            "name": one.suspect.name,
            "access": one.suspect.access,
            "sha256": one.sha256,
            "form": answers.form,
            "wrong_answers": plain.wrong_answers,
            "mean_rank": evidence.mean_rank,
            "tests": tests,
            "compared": compare(asked, known, self.null),
            **ranked(evidence, tests[RANK_SUM]),
            **self._stopped(evidence, asked),
            **counted(asked, log, answers, choices=choices),
        }

    def _stopped(self, evidence: Evidence, asked: OrderedQueries) -> dict[str, Any]:
        """Why asking ended, if it could end before everything was asked."""
        if not self.options.sequential:
            return {}
        each = self.options.level / len(self.suspects)
        return why_stopped(evidence, asked, planned=len(self.asked.cells), level=each)


def _keyed_name(identity: str, key: Key) -> str:
    """A name for what a suspect is, from which nobody can guess the password that is part of it."""
    return hmac.digest(key.secret, f"suspect/{identity}".encode(), "sha256").hex()[:16]
