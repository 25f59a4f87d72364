"""Sweeps that MLflow holds, brought back as files: what a report is made of, where there is no results folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mwm.runner.tracking.client import experiments, open_store
from mwm.runner.tracking.faults import PERMANENT_ERRORS, error_code, tracking_error
from mwm.runner.tracking.runs import SWEEP
from mwm.storage.redaction import redact

if TYPE_CHECKING:
    from mlflow.entities import Run

RESULTS = "results.csv"
FILES = (RESULTS, "summary.json", "sweep.json", "search.json")
"""What is brought of a sweep, as far as it is there; the first must be."""

PROVENANCE = ("git.", "version.")
"""How tags begin that tell which code and libraries made a run."""


class RecordedSweeps:
    """The sweeps in the store at `uri`: those of the experiment called `experiment`, or of all.

    Raises ValueError, in one line, if the store cannot be reached.
    """

    def __init__(self, uri: str, experiment: str | None = None) -> None:
        self._uri = uri
        with self._in_one_line():
            self._client = open_store(uri)
            self._experiments = [one.experiment_id for one in experiments(self._client, experiment)]

    def find(self, name: str) -> Run | None:
        """The newest run of the sweep called `name`; None if there is none."""
        if not self._experiments or "'" in name:
            return None
        condition = f"tags.kind = 'sweep' and tags.`{SWEEP}` = '{name}'"
        with self._in_one_line():
            newest = ["attributes.start_time DESC"]
            return next(
                iter(self._client.search_runs(self._experiments, condition, max_results=1, order_by=newest)), None
            )

    def download(self, run: Run, folder: Path) -> dict[str, str]:
        """Bring the files of a sweep into a folder; what its tags say of code and libraries.

        Raises ValueError, in one line, where the sweep has no results there.
        """
        with self._in_one_line():
            there = {file.path for file in self._client.list_artifacts(run.info.run_id)}
            for name in there.intersection(FILES):
                self._client.download_artifacts(run.info.run_id, name, str(folder))
        if RESULTS not in there:
            name, where = run.data.tags[SWEEP], redact(self._uri)
            raise ValueError(f"NAME: {name!r} has no {RESULTS} at {where}: it comes when a sweep ends, or by sync")
        return {name: value for name, value in run.data.tags.items() if name.startswith(PROVENANCE)}

    def download_pictures(self, victims: Mapping[str, str], folder: Path) -> None:
        """Bring the pictures of victims' query sets into a folder, as far as they are there.

        `victims` are the ids of their runs by digest; a run may be of another store, or deleted.
        """
        folder.mkdir()
        for digest, run_id in victims.items():
            try:
                self._client.download_artifacts(run_id, f"{digest}.png", str(folder))
            except Exception as error:
                if error_code(error) not in PERMANENT_ERRORS and not isinstance(error, OSError):
                    raise tracking_error(self._uri, error) from None

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise tracking_error(self._uri, error) from None
