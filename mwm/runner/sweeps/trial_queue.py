"""What to run next: victims first, and a victim's attacks as soon as it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mwm.attacks import Attack
from mwm.trials.names import attack_name
from mwm.trials.outcome import Outcome, kept, robustness
from mwm.trials.trial import Trial, TrialInputs, Victim, filled_in, trial_digest


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

    It only knows trials by their digest. The caller runs what `next` gives and says by `finish` what came of it. A
    victim that carries no watermark is not attacked, unless `attack_unmarked`.
    """

    def __init__(
        self, source: VictimSource, attacks: Sequence[Attack], sets: TrialInputs, *, attack_unmarked: bool = False
    ) -> None:
        self._sets, self._source, self._attacks, self._attack_unmarked = sets, source, attacks, attack_unmarked
        self._ready: deque[tuple[str, Trial]] = deque()
        self._progress: dict[str, _VictimProgress] = {}
        self._exhausted = False
        self.open = 0
        self.victims, self.attacks = source.total, source.total * len(self._attacks)

    @property
    def totals(self) -> dict[str, int]:
        """How many trials of each kind there are to be."""
        return {"victim": self.victims, "attack": self.attacks}

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
                self.victims = len(self._progress)
                self.attacks = sum(len(progress.attacks) for progress in self._progress.values())
                return
            number, victim = proposal
            trial = Trial(victim=filled_in(victim, self._sets))
            name = trial_digest(trial, self._sets)
            progress = self._progress.get(name)
            if progress is None:
                self._progress[name] = _VictimProgress(self._attacks_on(trial.victim), [number], {name})
                self._ready.append((name, trial))
                self.attacks -= len(self._attacks) - len(self._progress[name].attacks)
                continue
            self.victims -= 1
            self.attacks -= len(self._attacks)
            if progress.waiting:
                progress.numbers.append(number)
            else:
                self._source.tell(number, progress.measures)

    def _attacks_on(self, victim: Victim) -> dict[str, Trial]:
        """The attacks on a victim under their digests; two that only differ by what is left to the victim are one."""
        trials = [Trial(victim=victim, attack=attack.resolve(victim)) for attack in self._attacks]
        return {trial_digest(trial, self._sets): trial for trial in trials}

    def finish(self, name: str, trial: Trial, outcome: Outcome) -> list[tuple[str, Trial]]:
        """Take in what came of a trial; the result are attacks that are not to be run.

        Their victim failed, or carries no watermark.
        """
        self.open -= 1
        progress = self._progress[outcome.victim_digest]
        progress.waiting.discard(name)
        if trial.attack is not None:
            progress.outcomes.append(outcome)
            self._close(progress)
            return []
        attacks = list(progress.attacks.items())
        if outcome.status == "stopped":  # nobody attacks what was not trained to its end
            self.attacks -= len(attacks)
            progress.attacks = {}
            attacks = []
        met = outcome.status == "done" and (outcome.marked is not False or self._attack_unmarked)
        if outcome.status == "done":
            progress.measures = _own_measures(outcome)
        if met:
            progress.waiting |= progress.attacks.keys()
            self._ready.extend(attacks)
        self._close(progress)
        return [] if met else attacks

    def measures(self, victim: str) -> dict[str, float] | None:
        """What a victim, under its digest, and all its attacks showed; None if it failed or some are under way."""
        progress = self._progress[victim]
        return None if progress.waiting else progress.measures

    def worst_attack(self, victim: str) -> str:
        """The attack on a victim that left least of its watermark so far, in words; empty if there is none."""
        progress = self._progress[victim]
        worst = min(progress.outcomes, key=lambda one: kept(one.log10_p, one.query_acc), default=None)
        return attack_name(progress.attacks[worst.digest]) if worst else ""

    def _close(self, progress: _VictimProgress) -> None:
        if progress.waiting:
            return
        if progress.measures is not None:
            progress.measures |= robustness(progress.outcomes)
        for number in progress.numbers:
            self._source.tell(number, progress.measures)


def _own_measures(outcome: Outcome) -> dict[str, float]:
    """What a victim itself showed; of one without a watermark also that, and how far it is from a proof."""
    names = ["clean_acc", "query_acc"] + ["log10_p", "marked"] * (outcome.marked is False)
    return {name: getattr(outcome, name) for name in names}


class VictimSource(Protocol):
    """Where victims come from, and where their measures go back to."""

    total: int

    def ask(self) -> tuple[int, Victim] | None:
        """The next victim under a number of its own; None when there are no more."""

    def tell(self, number: int, measures: dict[str, float] | None) -> None:
        """What became of it and of its attacks; None if it failed.

        Of a victim without a watermark `marked` is 0, and `log10_p` its own; that of others is not told.
        """
