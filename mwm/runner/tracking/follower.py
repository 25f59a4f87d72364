"""A journal to MLflow: a run per trial, nested sweep -> victim -> attack, brought by a thread in nobody's way."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mwm.config.spec import digest as fingerprint
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.faults import check_tags, told_missing, tracking_error
from mwm.runner.tracking.position import Position, load_position, save_position
from mwm.runner.tracking.runs import CONFIG, DIGEST, SWEEP, Status, run_state
from mwm.runner.tracking.sender import UnsentError
from mwm.runner.tracking.writer import JournalEvent, RunWriter
from mwm.storage.redaction import redact, redacted_excerpt

if TYPE_CHECKING:
    from mlflow.entities import Run

FOLLOW_SECONDS = 4.0
"""How often the journal is looked into; MLflow's server hangs up on a client that was silent for 5 s."""

KILLED_SECONDS, CLOSE_SECONDS = 60.0, 3600.0
"""How long a follower writes in the end, while MLflow answers: who is killed has not much time."""

Read = Callable[[int], Iterator[tuple[JournalEvent, int]]]
"""The events of a journal from a position on, each with the position after it."""

OnExperiment = Callable[[MlflowExperiment], object]
"""Writes to the experiment itself; raises as MLflow raises."""


@dataclass(frozen=True)
class Followed:
    """A sweep by its name: how its journal is read, its folder, and the folder of its trials' pictures, DIGEST.png.

    `tags` are those of its own run alone. A sweep that has grown keeps its run, which is known by the config digests
    that it had `before`.
    """

    name: str
    read: Read
    folder: Path
    pictures: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()


@dataclass(frozen=True)
class Ending:
    """What is told when a sweep ends: numbers of its trials, by digests, files of its run, and of the experiment."""

    late: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    files: Sequence[Path] = ()
    last: OnExperiment | None = None


class MlflowFollower:
    """Brings what a journal tells of a sweep to an experiment of MLflow: its run, and nested runs of its trials.

    Nothing here waits for MLflow but the construction and `close`: a thread reads the journal, writes in its
    order, and tries again what fails. Everything is stamped with the time of its event, so that what is written again
    changes nothing. What MLflow refuses for good holds nothing else up; `missing` counts it, by kind.

    The runs of the sweep are found by the digests of trials, and what they lack is written, from the journal's
    beginning on. But for `anew`, a follower goes on where one before it was closed in good order, by what that left in
    the folder. `tags` go to every run, `params` to the sweep's. The experiment is called like the sweep, unless another
    is named; `first` is what is written to it besides. As a context a follower is closed in any case, and at the latest
    when the process ends in good order.
    Raises ValueError if the store cannot be reached; after that no failure of MLflow reaches the caller.
    """

    def __init__(
        self,
        uri: str,
        sweep: Followed,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, Any] = {},
        experiment: str | None = None,
        anew: bool = False,
        first: OnExperiment | None = None,
    ) -> None:
        check_tags(tags)
        self._name, self._read, self._folder = sweep.name, sweep.read, sweep.folder
        self._experiment = experiment or sweep.name
        self._tags, self._params, self._first = {**tags, SWEEP: sweep.name}, params, first
        self._own, self._before = sweep.tags, sweep.before
        place = redact(uri), self._experiment
        self._store = fingerprint(*place, tags.get(CONFIG))
        self._outgrown = {fingerprint(*place, config) for config in sweep.before} - {self._store}
        self._told = {"tracking_uri": redact(uri), "experiment": self._experiment}
        self._wake, self._opened = Event(), Future[None]()
        self._end: Callable[[], object] | None = None
        self._closed, self._busy, self._left = False, False, 0
        try:
            self._server = MlflowExperiment(uri, self._experiment)
            self._position = (None if anew else self._left_before()) or self._searched()
        except Exception as error:
            raise tracking_error(uri, error) from None
        self._writer = RunWriter(
            self._server, self._position, tags=self._tags, pictures=sweep.pictures, find=self._found
        )
        self._sender = self._writer.sender
        self._thread = Thread(target=self._work, name="MLflow", daemon=True)
        self._begin(uri)

    def _begin(self, uri: str) -> None:
        """Start to follow, and wait until the sweep's run is open."""
        atexit.register(self.close, "KILLED")
        try:
            self._thread.start()
            self._opened.result()
        except Exception as error:
            self._closed = True
            raise tracking_error(uri, error) from None
        except BaseException:  # a signal: the request is on its way, and what it makes must not stay running
            self.close("KILLED")
            raise

    @property
    def experiment_id(self) -> str:
        """How MLflow calls the experiment in its addresses."""
        return self._server.id

    @property
    def missing(self) -> Mapping[str, int]:
        """How many writes of each kind MLflow has refused for good so far."""
        return self._sender.missing

    def run_id(self, digest: str) -> str:
        """The MLflow run of a trial; empty if there is none, or none yet."""
        return self._position.runs[digest].id if digest in self._position.runs else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close what was not closed: as finished without an exception, failed after an error, else killed."""
        failed: Status = "FAILED" if kind and issubclass(kind, Exception) else "KILLED"
        self.close(failed if kind else "FINISHED")

    def _left_before(self) -> Position | None:
        """What a follower before this one left in good order, if it is of this journal and the sweep's run exists."""
        before = load_position(self._folder, self._store)
        if before is None or not before.sweep.id or self._server.is_deleted(before.sweep.id):
            return None
        event, after = next(self._read(before.start), ({}, 0))
        return before if (event.get("at"), after) == (before.at, before.next) else None

    def _searched(self) -> Position:
        """All runs of the sweep, in one search; of its journal nothing was brought yet."""
        found = Position()
        for run in filter(self._is_mine, self._server.runs()):
            tags, state = run.data.tags, run_state(run)
            if tags.get("kind") == "sweep":
                same = tags.get(CONFIG) in (self._tags.get(CONFIG), *self._before)
                found.sweep = state if same else found.sweep
            elif DIGEST in tags:
                found.runs[tags[DIGEST]] = state
        return found

    def _is_mine(self, run: Run) -> bool:
        """Whether a run is of this sweep: an experiment may hold several, and then each says of which it is."""
        return str(run.data.tags.get(SWEEP, self._experiment)) == self._name

    def _found(self, digest: str) -> list[str]:
        """The runs of a trial in this sweep."""
        runs = self._server.runs(f"tags.`{DIGEST}` = '{digest}'")
        return [run.info.run_id for run in filter(self._is_mine, runs)]

    def _work(self) -> None:
        if self._end is not None:  # a signal was quicker: nothing was begun, and nothing is to end
            return
        try:
            self._open()
            while self._end is None:
                self._follow()
                self._wake.wait(FOLLOW_SECONDS)
                self._wake.clear()
            self._follow()
            self._end()
        except UnsentError:
            pass

    def _open(self) -> None:
        """Show the sweep as running, in the thread that no signal interrupts; what fails ends the thread."""
        run, tags = self._position.sweep, {**self._tags, **self._own, "kind": "sweep"}
        try:
            run.id = run.id or self._server.create(self._name, tags)
            self._server.reopen_run(run.id)
        except Exception as error:
            self._opened.set_exception(error)
            raise UnsentError from None
        self._opened.set_result(None)
        self._save(Position(sweep=run))  # until all has arrived, only a search tells what has
        self._writer.put_tags(run, tags)
        self._writer.put_params(run, self._params)
        self._on_experiment(self._first)

    def _follow(self) -> None:
        """Bring what the journal tells anew."""
        position, self._busy = self._position, True
        try:
            for event, after in self._read(position.next):
                self._take(event)
                position.start, position.at, position.next = position.next, event["at"], after
        except ValueError as error:
            self._sender.warn("journal", str(error))
        self._writer.flush()
        self._busy = False

    def _take(self, event: JournalEvent) -> None:
        try:
            self._writer.take(event)
        except (KeyError, TypeError, ValueError) as error:
            self._sender.warn("event", f"an event of the journal is damaged, or of another release: {error!r}")

    def _on_experiment(self, write: OnExperiment | None) -> None:
        if write is not None:
            self._sender.send("views", lambda: write(self._server))

    def _save(self, position: Position) -> None:
        try:
            told = self._told | {"experiment_id": self._server.id}
            save_position(self._folder, self._store, position, told=told, instead=self._outgrown)
        except OSError as error:
            self._sender.warn("position", f"{self._folder}: {error.strerror}")

    def left(self) -> int:
        """How many events were not brought yet, or what they brought not written."""
        try:
            return sum(1 for _ in self._read(self._position.next)) + self._busy
        except ValueError:  # the journal cannot be read
            return 1

    def close(self, status: Status, ending: Callable[[], Ending] = Ending) -> int:
        """Bring what is left, and end all runs: the sweep's as `status`, trials that never finished as killed.

        `ending` is asked, in the follower's thread, when the journal was brought to its end, unless MLflow stays away.
        The result counts what did not get through; a line on stderr tells of it. It takes no longer than MLflow
        answers, and a minute at most for a sweep that was killed.
        """
        if self._closed:
            return self._left
        self._closed = True
        atexit.unregister(self.close)
        seconds = KILLED_SECONDS if status == "KILLED" else CLOSE_SECONDS
        self._sender.hurry(seconds)
        self._end = partial(self._conclude, status, ending)
        self._wake.set()
        with suppress(RuntimeError):  # it has not started yet, and will find that it is to end
            self._thread.join(seconds)
        lost, unsent = sum(self.missing.values()), self.left()
        if unsent:
            self._sender.warn(
                "unsent", f"{unsent} writes were not sent; send them later by launch.py sync {self._name}"
            )
        if lost:
            told = told_missing(self.missing)
            self._sender.warn("lost", f"not taken: {told}; bring them later by launch.py sync {self._name}")
        self._left = lost + unsent
        return self._left

    def _conclude(self, status: Status, ending: Callable[[], Ending]) -> None:
        position, at, self._busy = self._position, self._position.at or time.time(), True
        try:
            told = ending()
        except Exception as error:  # the runs are to end all the same
            told = Ending()
            self._sender.missing["results"] += 1
            self._sender.warn("ending", f"{type(error).__name__}: {redacted_excerpt(str(error))}")
        for digest in position.runs.keys() & told.late.keys():
            self._writer.measure(digest, told.late[digest], at)
        self._on_experiment(told.last)
        for path in told.files:  # they grow: in each session anew
            self._writer.put_file(position.sweep, path)
        self._writer.end_all(status, at)
        self._busy = False
        self._save(replace(position, settled=not self.missing))
