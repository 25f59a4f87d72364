"""What to run next: victims first, and a victim's attacks as soon as it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mwm.attacks import Attack
from mwm.trials.outcome import Outcome, robustness
from mwm.trials.trial import Trial, TrialInputs, Victim, fill_attack_defaults, trial_digest


@dataclass
class _VictimProgress:
    """A victim with its attacks on the way."""

    attacks: dict[str, Trial]
    numbers: list[int]
    waiting: set[str]
    measures: dict[str, float] | None = None
    outcomes: list[Outcome] = field(default_factory=list)


class TrialQueue:
    """What to run next: a victim's attacks as soon as it is done, else the next victim.

    A plan only knows trials by their digest. The caller runs what `next` gives and says by `finish` what came of it.
    """

    def __init__(self, source: VictimSource, attacks: Sequence[Attack], sets: TrialInputs) -> None:
        self._sets, self._source, self._attacks = sets, source, attacks
        self._ready: deque[tuple[str, Trial]] = deque()
        self._cases: dict[str, _VictimProgress] = {}
        self._exhausted = False
        self.open = 0
        self.victims, self.attacks = source.total, source.total * len(self._attacks)

    def next(self) -> tuple[str, Trial] | None:
        """The next trial under its digest; None when there is none, for now or, if nothing is `open`, for good."""
        if not self._ready:
            self._propose()
        if not self._ready:
            return None
        self.open += 1
        return self._ready.popleft()

    def _propose(self) -> None:
        while not self._ready and not self._exhausted:
            proposal = self._source.ask()
            if proposal is None:
                self._exhausted = True
                self.victims = len(self._cases)
                self.attacks = sum(len(case.attacks) for case in self._cases.values())
                return
            number, victim = proposal
            trial = Trial(victim=victim)
            name = trial_digest(trial, self._sets)
            case = self._cases.get(name)
            if case is None:
                self._cases[name] = _VictimProgress(self._thefts(victim), [number], {name})
                self._ready.append((name, trial))
                self.attacks -= len(self._attacks) - len(self._cases[name].attacks)
                continue
            self.victims -= 1
            self.attacks -= len(self._attacks)
            if case.waiting:
                case.numbers.append(number)
            else:
                self._source.tell(number, case.measures)

    def _thefts(self, victim: Victim) -> dict[str, Trial]:
        """The attacks on a victim under their digests; two that only differ by what is left to the victim are one."""
        trials = [Trial(victim=victim, attack=fill_attack_defaults(attack, victim)) for attack in self._attacks]
        return {trial_digest(trial, self._sets): trial for trial in trials}

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> list[tuple[str, Trial]]:
        """Take in what came of a trial; the result are attacks that can no longer be run: their victim failed."""
        self.open -= 1
        case = self._cases[outcome.victim_digest]
        case.waiting.discard(name)
        if trial.attack is not None:
            case.outcomes.append(outcome)
            self._close(case)
            return []
        thefts = list(case.attacks.items())
        if outcome.status == "stopped":  # nobody steals what was not trained to its end
            self.attacks -= len(thefts)
            case.attacks = {}
            thefts = []
        if outcome.status == "done":
            case.measures = {key: getattr(outcome, key) for key in ("clean_acc", "query_acc")}
            case.waiting |= case.attacks.keys()
            self._ready.extend(thefts)
        self._close(case)
        return [] if outcome.status == "done" else thefts

    def measures(self, victim: str) -> dict[str, float] | None:
        """What a victim, under its digest, and all its attacks showed; None if it failed or some are under way."""
        case = self._cases[victim]
        return None if case.waiting else case.measures

    def _close(self, case: _VictimProgress) -> None:
        if case.waiting:
            return
        if case.measures is not None:
            case.measures |= robustness(case.outcomes)
        for number in case.numbers:
            self._source.tell(number, case.measures)


class VictimSource(Protocol):
    """Where victims come from, and where their measures go back to."""

    total: int

    def ask(self) -> tuple[int, Victim] | None:
        """The next victim under a number of its own; None when there are no more."""

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """What became of it and of its attacks; None if it failed."""
