"""Kill the driver of a sweep at seeded moments, go on each time, and compare the end with an undisturbed run.

python -m tests.system.faults --moments 20 --seed 0
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.helpers.driver import Driver, family, gone, living
from tests.helpers.unharmed import (
    EPOCHS,
    NAME,
    Finished,
    Undisturbed,
    assert_unharmed,
    empty_database,
    finished,
    prepared,
    undisturbed,
)
from tests.helpers.watching import Seen, Watch, watching

KINDS = ("victim", "attack", "checkpoint", "mlflow", "between", "results", "any")
AT_MOST = {"victim": 12, "attack": 12, "checkpoint": 20, "mlflow": 40, "between": 2, "results": 3, "any": 1}
"""How many events of a kind a moment may wait for."""

ORPHANS_SECONDS = 90.0


@dataclass(frozen=True)
class Moment:
    """The `count`-th event of a kind, and `delay` seconds more; `power` kills every process and not the driver alone.

    victim, attack: a checkpoint of such a trial is in place, so that its next epoch is under way; checkpoint: one is
    being written; mlflow: a transaction is open; between: a trial is finished; results: a file of the results is being
    written; any: the start of the driver.
    """

    kind: str
    count: int = 1
    delay: float = 0.0
    power: bool = False

    def __str__(self) -> str:
        hit = "all processes" if self.power else "driver"
        return f"{self.kind} {self.count} + {self.delay:.2f} s, {hit}"

    def meets(self, seen: Seen, victims: set[str]) -> bool:
        """Whether this is an event of its kind."""
        path, name = seen.path, seen.path.name
        match self.kind:
            case "victim" | "attack":
                ours = (path.parent.name in victims) == (self.kind == "victim")
                return seen.how == "placed" and name == "checkpoint.bin" and ours
            case "checkpoint":
                return seen.how == "begun" and name.startswith(".checkpoint.bin")
            case "mlflow":
                return name == "mlflow.db-journal"
            case "between":
                return seen.how == "placed" and name == "outcome.json"
            case "results":
                return seen.how == "begun" and name.startswith((".results.csv", ".summary.json"))
        return False


def moments(seed: int) -> Iterator[Moment]:
    """Moments without end, of every kind in turn."""
    chance = random.Random(seed)
    while True:
        for kind in chance.sample(KINDS, len(KINDS)):
            delay = chance.uniform(0, 25) if kind == "any" else chance.choice([0.0, chance.uniform(0, 0.3)])
            delay = 0.0 if kind == "checkpoint" else delay
            power = kind == "checkpoint" or chance.random() < 0.3
            yield Moment(kind, chance.randint(1, AT_MOST[kind]), delay, power)


@dataclass
class Blow:
    """What a kill met: finished trials, the age (seconds) of a running trial's oldest checkpoint, who stayed behind.

    `again`: seconds from the death of the driver before to training; `leaving`: how long its processes stayed.
    """

    moment: Moment
    done: int = 0
    age: float = 0.0
    orphans: list[psutil.Process] = field(default_factory=list)
    again: float | None = None
    leaving: float | None = None

    def __str__(self) -> str:
        said = [f"{self.moment}: {self.done} trials finished, a checkpoint {self.age:.1f} s old"]
        if self.again is not None:
            said.append(f"training again after {self.again:.1f} s")
        if self.leaving is not None:
            said.append(f"its processes gone after {self.leaving:.1f} s")
        return ", ".join(said)


class Round:
    """One driver from its start to its death or its end, watched; `saved` has the times of each checkpoint so far."""

    def __init__(self, watch: Watch, driver: Driver, victims: set[str], saved: dict[str, list[float]]) -> None:
        self.watch, self.driver, self.victims, self.saved = watch, driver, victims, saved
        self.before: Blow | None = None
        self.died = 0.0

    def after(self, blow: Blow, died: float) -> None:
        """It goes on where another driver died."""
        self.before, self.died = blow, died

    def run(self, moment: Moment | None) -> Blow | None:
        """Kill the driver at a moment; None when it has ended before, or when there is no moment."""
        left = moment.count if moment else 0
        while self.driver.alive:
            for seen in self.watch.until(0.1):
                self._note(seen)
                left -= moment is not None and moment.meets(seen, self.victims)
                if moment is not None and left <= 0:
                    time.sleep(moment.delay)
                    return self._hit(moment)
            self._farewell()
            if moment is not None and moment.kind == "any" and time.monotonic() >= self.driver.began + moment.delay:
                return self._hit(moment)
        return None

    def _note(self, seen: Seen) -> None:
        if seen.how != "placed" or seen.path.name != "checkpoint.bin":
            return
        self.saved.setdefault(seen.path.parent.name, []).append(time.monotonic())
        before = self.before
        if before is not None and before.again is None and not living(before.orphans):
            before.again = time.monotonic() - self.died

    def _farewell(self) -> None:
        before = self.before
        if before is not None and before.leaving is None and not living(before.orphans):
            before.leaving = time.monotonic() - self.died

    def _hit(self, moment: Moment) -> Blow | None:
        if not self.driver.alive:
            return None
        now = time.monotonic()
        orphans = self.driver.kill(power=moment.power)
        for seen in self.watch.until(0.05):
            self._note(seen)
        done = len(list(self.driver.folder.glob("store/*/*/outcome.json")))
        return Blow(moment, done, max(self._ages(now), default=0.0), orphans)

    def _ages(self, now: float) -> Iterator[float]:
        """Seconds since the last checkpoint, of every trial that this driver has under way."""
        alone = 0.0 if self.before is None else self.died + (self.before.leaving or now)
        for digest, times in self.saved.items():
            running = not (self.driver.folder / "store" / digest[:2] / digest / "outcome.json").exists()
            if running and times and times[-1] > alone:
                yield max(0.0, now - times[-1])


def endure(folder: Path, whole: Undisturbed, queue: deque[Moment], tell: Callable[[Blow], None]) -> list[Blow]:
    """Run one sweep in `folder` to its end, killed at each moment that comes; a moment that did not come stays.

    A driver is started again at once, while the workers of the one before may still be leaving.
    """
    before: Finished = {}
    blows: list[Blow] = []
    saved: dict[str, list[float]] = {}
    died = 0.0
    try:
        with watching(folder) as watch:
            while True:
                more = ["--resume"] if (folder / "results" / NAME / "sweep.json").exists() else []
                here = Round(watch, driver := Driver(folder, *more), whole.victims, saved)
                if blows:
                    here.after(blows[-1], died)
                blow = here.run(queue[0] if queue else None)
                died = time.monotonic()
                if blows:
                    gone(blows[-1].orphans, ORPHANS_SECONDS)
                    tell(blows[-1])
                if blow is None:
                    break
                queue.popleft()
                blows.append(blow)
                before = finished(folder) | before
        assert driver.wait() == 0, driver.said()
        assert "Traceback" not in driver.said(), driver.said()
        assert_unharmed(folder, whole, before)
        twice = [digest for digest, times in saved.items() if len(times) >= EPOCHS]  # the last epoch has no checkpoint
        assert not twice, f"epochs that had a checkpoint were trained again: {twice}"
    finally:
        for one in family(folder):
            one.kill()
    return blows


def main() -> int:
    """Kill drivers at so many moments; the exit status is 1 when one of them did harm."""
    asked = argparse.ArgumentParser(prog="python -m tests.system.faults", description=(__doc__ or "").split("\n")[0])
    asked.add_argument("--moments", type=int, default=20, help="how many kills (default 20)")
    asked.add_argument("--seed", type=int, default=0, help="where and when they come (default 0)")
    options = asked.parse_args()
    chosen = moments(options.seed)
    queue = deque(next(chosen) for _ in range(options.moments))
    place = Path(tempfile.mkdtemp(prefix="faults-"))
    whole = undisturbed(place / "undisturbed", empty_database(place / "empty.db"))
    blows: list[Blow] = []
    harmed = sweeps = 0
    while queue:
        sweeps += 1
        folder, left = prepared(place / f"sweep{sweeps}", whole), len(queue)
        try:
            blows += endure(folder, whole, queue, lambda blow: print(blow, flush=True))
            print(f"sweep {sweeps}: unharmed after {left - len(queue)} kills", flush=True)
        except AssertionError as error:
            harmed += 1
            print(f"sweep {sweeps}: HARMED, see {folder}: {error}", flush=True)
            queue = queue if len(queue) < left else deque(list(queue)[1:])
    again = max((blow.again for blow in blows if blow.again is not None), default=0.0)
    age = max((blow.age for blow in blows), default=0.0)
    print(f"{options.moments} kills in {sweeps} sweeps: {harmed} sweeps harmed; at worst {again:.1f} s from a driver's")
    print(f"death to training again, and {age:.1f} s since the last checkpoint of a running trial")
    return int(harmed > 0)


if __name__ == "__main__":
    sys.exit(main())
