"""Querying a suspect in an order that is fixed beforehand, with every answer kept before the next request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mwm.storage.redaction import redact
from mwm.verification.answer_log import SuspectAnswers
from mwm.verification.questions import OrderedQueries
from mwm.verification.suspects.outputs import NoAnswerError, Suspect

StoppingRule = Callable[[Sequence[int]], int]
"""How many queries to ask next, given the answers so far; 0 ends it."""


@dataclass(kw_only=True)
class AskPolicy:
    """How a suspect is asked: requests in a second at most (None: no limit).

    With `skip` a query that it refuses for good counts as asked; without, it ends the asking.
    """

    rate: float | None = None
    skip: bool = False
    _next: float = 0.0

    def wait(self) -> None:
        """Let pass the time that is due before the next request."""
        if self.rate is not None:
            time.sleep(max(self._next - time.monotonic(), 0.0))
            self._next = time.monotonic() + 1 / self.rate


def ask(
    suspect: Suspect, asked: OrderedQueries, log: SuspectAnswers, *, policy: AskPolicy, more: StoppingRule
) -> NDArray[np.int64]:
    """Ask a suspect until it was asked everything or `more` wants no more; what the log knows is not asked again.

    The labels that it answered, in their order. Raises NoAnswerError when it does not answer; what it refuses for good
    may be skipped, but not an outage, nor all that was asked.
    """
    told: list[int] = []
    while len(told) < len(asked) and (count := more(told)) > 0:
        places = range(len(told), min(len(told) + count, len(asked)))
        fresh = [i for i in places if asked.numbers[i] not in log.labels]
        _ask(suspect, asked, fresh, log=log, policy=policy)
        told += [log.labels[asked.numbers[i]] for i in places]
    if told and log.silent.issuperset(asked.numbers[: len(told)]):
        raise NoAnswerError(f"{suspect.name}: answered not one of {len(told)} queries")
    return np.array(told, np.int64)


def _ask(
    suspect: Suspect, asked: OrderedQueries, places: Sequence[int], *, log: SuspectAnswers, policy: AskPolicy
) -> None:
    """Ask in one request; if a suspect refuses that for good, and may, in halves down to the very query it refuses."""
    if not places:
        return
    policy.wait()
    began, error, answers = time.monotonic(), "", None
    try:
        answers = suspect(asked.images[list(places)])
    except NoAnswerError as silence:
        if not (policy.skip and silence.permanent):
            raise
        if half := len(places) // 2:
            _ask(suspect, asked, places[:half], log=log, policy=policy)
            _ask(suspect, asked, places[half:], log=log, policy=policy)
            return
        error = redact(str(silence))
    log.record([asked.numbers[i] for i in places], answers, seconds=time.monotonic() - began, error=error)
