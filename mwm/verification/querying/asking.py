"""Querying a suspect in an order that is fixed beforehand, with every answer kept before the next request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mwm.storage.redaction import redact
from mwm.verification.querying.answer_log import SuspectAnswers
from mwm.verification.querying.order import OrderedQueries
from mwm.verification.suspects.outputs import NoAnswerError, Suspect

StoppingRule = Callable[[int], int]
"""How many images to show next, after so many have been shown; 0 ends it."""


@dataclass(kw_only=True)
class AskPolicy:
    """How a suspect is asked: requests in a second at most (None: no limit).

    With `skip` an image that it refuses for good counts as asked; without, it ends the asking.
    """

    rate: float | None = None
    skip: bool = False
    _next: float = 0.0

    def wait(self) -> None:
        """Let pass the time that is due before the next request."""
        if self.rate is not None:
            time.sleep(max(self._next - time.monotonic(), 0.0))
            self._next = time.monotonic() + 1 / self.rate


def ask(suspect: Suspect, asked: OrderedQueries, log: SuspectAnswers, *, policy: AskPolicy, more: StoppingRule) -> int:
    """Ask a suspect until it was asked everything or `more` wants no more; what the log knows is not asked again.

    How many images it was asked. Raises NoAnswerError when it does not answer; what it refuses for good may be skipped,
    but not an outage, nor all that was asked.
    """
    done = 0
    while done < len(asked) and (count := more(done)) > 0:
        count = min(count, getattr(suspect, "most", None) or count)
        places = range(done, min(done + count, len(asked)))
        fresh = [i for i in places if asked.numbers[i] not in log.labels]
        _ask(suspect, asked, fresh, log=log, policy=policy)
        done = places.stop
    if done and log.silent.issuperset(asked.numbers[:done]):
        raise NoAnswerError(f"{suspect.name}: answered not one of {done} queries")
    return done


def _ask(
    suspect: Suspect, asked: OrderedQueries, places: Sequence[int], *, log: SuspectAnswers, policy: AskPolicy
) -> None:
    """Ask in one request; if a suspect refuses that for good, and may, in halves down to the very image it refuses."""
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
