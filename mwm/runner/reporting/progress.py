"""What a person sees while a sweep runs: how far each trial is, and how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mwm.storage.redaction import one_line
from mwm.trials.names import duration
from mwm.trials.outcome import STATUSES, TRIAL_KINDS

LISTED = 12


def estimate_remaining(
    waiting: Mapping[str, int | None],
    running: Iterable[tuple[str, float]],
    *,
    durations: Mapping[str, list[float]],
    slots: int,
) -> float | None:
    """Seconds until everything is done if trials go on as they did so far; None while that cannot be told.

    `running` holds the kind and the age (seconds) of each trial under way, `slots` is how many run at once.
    """
    under_way = list(running)
    todo = {kind for kind in TRIAL_KINDS if waiting[kind] != 0} | {kind for kind, _ in under_way}
    if not todo:
        return 0.0
    if not slots or None in waiting.values() or not all(durations[kind] for kind in todo):
        return None
    mean = {kind: fmean(durations[kind]) for kind in todo}
    rest = [max(mean[kind] - age, 0.0) for kind, age in under_way]
    queued = sum((waiting[kind] or 0) * mean[kind] for kind in todo)
    return max([(sum(rest) + queued) / slots, *rest])


@dataclass
class _Running:
    kind: str
    label: str
    began: float
    epoch: int = 0
    epochs: int = 0
    metrics: dict[str, float] = field(default_factory=dict)


class Progress:
    """How a sweep is getting on: one block that renews itself on a terminal, else a plain line per finished trial.

    Totals are None while they are unknown. `clock` gives seconds. Use as a context manager.
    """

    def __init__(
        self, console: Console, *, victims: int | None, attacks: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self._clock, self._began = console, clock, clock()
        self._totals: dict[str, int | None] = {"victim": victims, "attack": attacks}
        self._ended: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, list[float]] = {kind: [] for kind in TRIAL_KINDS}
        self._running: dict[str, _Running] = {}
        self._slots = self._untold = 0
        self._best = "-"
        terminal = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(get_renderable=self._block, console=console) if terminal else None

    def __enter__(self) -> Self:
        self._began = self._clock()
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def total(self, *, victims: int | None = None, attacks: int | None = None) -> None:
        """Learn how many trials there will be; None leaves a total as it is."""
        self._totals["victim"] = self._totals["victim"] if victims is None else victims
        self._totals["attack"] = self._totals["attack"] if attacks is None else attacks

    def started(self, kind: str, digest: str, label: str) -> None:
        """A trial begins, or begins again."""
        self._running[digest] = _Running(kind, one_line(label), self._clock())
        self._slots = max(self._slots, len(self._running))

    def row(self, digest: str, epoch: int, epochs: int, **metrics: float) -> None:
        """A running trial ended an epoch; the metrics are shown beside it in the order given."""
        if digest in self._running:
            self._running[digest].epoch, self._running[digest].epochs = epoch, epochs
            self._running[digest].metrics = metrics

    def best(self, line: str) -> None:
        """Tell the best survival so far: the highest query accuracy of a student, and its setting."""
        self._best = one_line(line)

    def finished(self, kind: str, digest: str, *, status: str, line: str) -> None:
        """A trial ended; `line` tells the whole of it, as `mwm.trials.names.outcome_line` does."""
        if self._live is None and self._untold:
            self._console.out(f"{self._count()} {self._untold} cached", highlight=False)
        self._untold = 0
        self._ended[kind, status] += 1
        trial = self._running.pop(digest, None)
        # A result known from earlier has no epoch and takes no time: it would make the estimate too good.
        if trial is not None and trial.epoch and status == "done":
            self._durations[kind].append(self._clock() - trial.began)
        if self._live is None:
            self._console.out(f"{self._count()} {one_line(line)}", highlight=False)
        elif status == "failed":
            self._console.print(Text(one_line(line), style="red"))

    def known(self, kind: str, status: str) -> None:
        """A trial had ended before; one line tells of all such that precede a trial which is run."""
        self._ended[kind, status] += 1
        self._untold += 1

    def warn(self, text: str) -> None:
        """Say something beside the progress itself."""
        self._console.print(Text(one_line(text), style="yellow"))

    def _count(self) -> str:
        victims, attacks = (self._totals[kind] for kind in TRIAL_KINDS)
        known = "" if victims is None or attacks is None else f"/{victims + attacks}"
        return f"[{self._ended.total()}{known}]"

    def _waiting(self, kind: str) -> int | None:
        total = self._totals[kind]
        under_way = sum(trial.kind == kind for trial in list(self._running.values()))
        ended = sum(self._ended[kind, status] for status in STATUSES)
        return None if total is None else max(total - under_way - ended, 0)

    @property
    def totals(self) -> dict[str, int | None]:
        """How many trials of each kind there are to be; None while that is unknown."""
        return dict(self._totals)

    def snapshot(self) -> dict[str, Any]:
        """What is shown and nowhere written down: totals, seconds left, how far each running trial is, by digest."""
        running = list(self._running.items())
        epochs = {digest: {"epoch": trial.epoch, "epochs": trial.epochs} for digest, trial in running}
        return {"totals": self.totals, "left": self._left([trial for _, trial in running]), "running": epochs}

    def _left(self, running: list[_Running]) -> float | None:
        ages = [(trial.kind, self._clock() - trial.began) for trial in running]
        waiting = {kind: self._waiting(kind) for kind in TRIAL_KINDS}
        return estimate_remaining(waiting, ages, durations=self._durations, slots=self._slots)

    def _block(self) -> Group:
        # The display's thread draws while trials come and go, so it looks at a copy.
        running = list(self._running.values())
        elapsed, left = self._clock() - self._began, self._left(running)
        times = f"elapsed {duration(elapsed)}   left {'-' if left is None else 'about ' + duration(left)}"
        more = [Text(f"and {len(running) - LISTED} more", style="dim")] if len(running) > LISTED else []
        best = Text.assemble(("best   ", "bold"), self._best, overflow="ellipsis", no_wrap=True)
        return Group(self._counts(), best, Text(times), self._trials(running[:LISTED]), *more)

    def _counts(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for _ in range(6):
            table.add_column(justify="right", no_wrap=True)
        for kind in TRIAL_KINDS:
            waiting = self._waiting(kind)
            under_way = sum(trial.kind == kind for trial in list(self._running.values()))
            failed, others = self._ended[kind, "failed"], ("skipped", "stopped")
            rest = [f"{self._ended[kind, status]} {status}" for status in others if self._ended[kind, status]]
            table.add_row(
                Text(f"{kind}s", style="bold"),
                Text(f"{self._ended[kind, 'done']} done", style="green"),
                f"{under_way} running",
                f"{'?' if waiting is None else waiting} waiting",
                Text(f"{failed} failed", style="red" if failed else "dim"),
                Text(", ".join(rest)),
            )
        return table

    @staticmethod
    def _trials(running: list[_Running]) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(overflow="ellipsis", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True, style="dim")
        for trial in running:
            metrics = " ".join(f"{name} {value:.3g}" for name, value in list(trial.metrics.items()))
            epoch = f"epoch {trial.epoch}/{trial.epochs}" if trial.epoch else ""
            table.add_row(Text(trial.label), epoch, metrics)
        return table
