"""What a person sees while a sweep runs: how far each trial is, and how long the rest will take."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mwm.runner.reporting.tally import Event, RunningTrial, Tally
from mwm.storage.redaction import one_line
from mwm.trials.names import duration, outcome_line
from mwm.trials.outcome import TRIAL_KINDS, UNMARKED

LISTED = 12

TOLD_SECONDS = 60.0
"""How often a plain line says what time is left."""

CELL_SECONDS, CELL_WIDTH = 0.5, 110
"""How often the output of a notebook's cell is renewed, and how wide it is."""


class _Block(Protocol):
    """A place that shows what `Progress` looks like now."""

    def start(self) -> None:
        """Show it from now on."""

    def renew(self) -> None:
        """Something has changed."""

    def stop(self) -> None:
        """Show it for the last time."""


class Progress:
    """How a sweep is getting on, by the events of its journal.

    It is one block that renews itself on a terminal and in a notebook, else a plain line per finished trial, and now
    and then one of the time that is left. `clock` gives seconds. Use as a context manager.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock, self._tally = console, clock, Tally(clock)
        self._untold, self._told_at = 0, -TOLD_SECONDS + clock()
        self._block: _Block | None = None
        if console.is_jupyter:
            self._block = _CellBlock(self._shown, clock)
        elif console.is_terminal and not console.is_dumb_terminal:
            self._block = _TerminalBlock(self._shown, console)

    def __enter__(self) -> Self:
        if self._block is not None:
            self._block.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._block is not None:
            self._block.stop()

    def follow(self, event: Event) -> None:
        """Show an event of the journal."""
        self._tally.follow(event)
        match event["event"]:
            case "begin":
                self._console.print(Text(_plan(self._tally)), soft_wrap=True)
            case "finish" if not event.get("cached"):
                self._tell_end(event)
            case "finish" | "cached":
                self._untold += 1
            case "epochs":
                self._tell_time()
        if self._block is not None:
            self._block.renew()

    def _tell_end(self, event: Event) -> None:
        """A line for a trial that ended, and before it one for all that were known when it began."""
        outcome = event["outcome"]
        line = one_line(outcome_line(event.get("label", outcome["digest"]), outcome))
        if self._block is not None:
            bad = "bright_red" if outcome["status"] == "failed" else "yellow"
            if outcome["status"] == "failed" or outcome.get("marked") is False:
                self._console.print(Text(line, style=bad))
            return
        if self._untold:
            self._console.out(f"{self._count(before=1)} {self._untold} cached", highlight=False)
        self._untold = 0
        self._console.out(f"{self._count()} {line}", highlight=False)
        self._tell_time()

    def _tell_time(self) -> None:
        """Say in a plain line how long it will take, if it can be told, and was not of late."""
        if self._block is not None or self._clock() - self._told_at < TOLD_SECONDS:
            return
        left = self._tally.left()
        if left is not None and left >= 1:
            self._told_at = self._clock()
            self._console.out(f"{self._count()} about {duration(left)} left", highlight=False)

    def warn(self, text: str) -> None:
        """Say something beside the progress itself."""
        self._console.print(Text(one_line(text), style="yellow"))

    def _count(self, *, before: int = 0) -> str:
        victims, attacks = (self._tally.totals[kind] for kind in TRIAL_KINDS)
        known = "" if victims is None or attacks is None else f"/{victims + attacks}"
        return f"[{self._tally.ended.total() - before}{known}]"

    @property
    def totals(self) -> dict[str, int | None]:
        """How many trials of each kind there are to be; None while that is unknown."""
        return dict(self._tally.totals)

    def snapshot(self) -> dict[str, Any]:
        """What is shown and nowhere written down: totals, seconds left, how far each running trial is, by digest."""
        running = list(self._tally.running.items())
        epochs = {digest: {"epoch": trial.epoch, "epochs": trial.epochs} for digest, trial in running}
        return {"totals": self.totals, "left": self._tally.left(), "running": epochs}

    def _shown(self) -> Group:
        # The display's thread draws while trials come and go, so it looks at a copy.
        running, left = list(self._tally.running.values()), self._tally.left()
        told = "unknown until the first epochs" if left is None else f"about {duration(left)}"
        times = f"elapsed {duration(self._tally.elapsed)}   left {told}"
        more = [Text(f"and {len(running) - LISTED} more", style="dim")] if len(running) > LISTED else []
        best = Text.assemble(("best   ", "bold"), self._tally.best or "-", overflow="ellipsis", no_wrap=True)
        return Group(_counts(self._tally), best, Text(times), _trials(running[:LISTED]), *more)


def _plan(tally: Tally) -> str:
    """What is going to happen: "16 victims of 30 epochs and 48 attacks of 30 epochs, 2 at once"."""
    told = []
    for kind, total in tally.totals.items():
        if total != 0:
            count = "an unknown number of" if total is None else f"{total}"
            epochs = f" of {tally.planned[kind]:.3g} epochs" if tally.planned.get(kind) else ""
            told.append(f"{count} {kind}{'' if total == 1 else 's'}{epochs}")
    at_once = f", {tally.slots} at once" if tally.slots else ""
    return f"{' and '.join(told) or 'no trials'}{at_once}"


def _counts(tally: Tally) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(6):
        table.add_column(justify="right", no_wrap=True)
    for kind in TRIAL_KINDS:
        waiting, failed = tally.waiting(kind), tally.ended[kind, "failed"]
        rest = [f"{tally.ended[kind, one]} {one}" for one in ("skipped", "stopped") if tally.ended[kind, one]]
        rest += [f"{tally.unmarked} {UNMARKED}"] * (kind == "victim" and tally.unmarked > 0)
        table.add_row(
            Text(f"{kind}s", style="bold"),
            Text(f"{tally.ended[kind, 'done']} done", style="green"),
            f"{tally.under_way(kind)} running",
            f"{'?' if waiting is None else waiting} waiting",
            Text(f"{failed} failed", style="bright_red" if failed else "dim"),
            Text(", ".join(rest)),
        )
    return table


def _trials(running: list[RunningTrial]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="ellipsis", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True, style="dim")
    for trial in running:
        metrics = " ".join(f"{name} {value:.3g}" for name, value in trial.metrics.items())
        epoch = f"epoch {trial.epoch}/{trial.epochs}" if trial.epoch else ""
        table.add_row(Text(trial.label), epoch, metrics)
    return table


class _TerminalBlock:
    """Lines at the end of a terminal; a thread of rich's draws them anew."""

    def __init__(self, look: Callable[[], Group], console: Console) -> None:
        self._live = Live(get_renderable=look, console=console)

    def start(self) -> None:
        self._live.start(refresh=True)

    def renew(self) -> None:
        """Nothing: the thread looks by itself."""

    def stop(self) -> None:
        self._live.stop()


class _CellBlock:
    """An output of a notebook's cell, renewed in place."""

    def __init__(self, look: Callable[[], Group], clock: Callable[[], float]) -> None:
        self._look, self._clock, self._due = look, clock, clock()
        self._handle: Any = None

    def start(self) -> None:
        from IPython.display import display

        self._handle = display(self._html(), display_id=True)  # type: ignore[no-untyped-call]

    def renew(self) -> None:
        if self._handle is not None and self._clock() >= self._due:
            self._due = self._clock() + CELL_SECONDS
            self._handle.update(self._html())

    def stop(self) -> None:
        self._handle.update(self._html())

    def _html(self) -> Any:
        from IPython.display import HTML

        drawn = Console(file=io.StringIO(), record=True, width=CELL_WIDTH, force_jupyter=False)
        drawn.print(self._look())
        return HTML(drawn.export_html(inline_styles=True, code_format='<pre style="line-height: 1.3">{code}</pre>'))  # type: ignore[no-untyped-call]
