"""report: one page on which a sweep, or several, are told, with figures and tables for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mwm.runner.cli.options import Storage, make_console
from mwm.runner.workspace.location import PICTURES, StorageLocation
from mwm.runner.workspace.status import TABLE, find_sweep
from mwm.storage.tracking_uri import resolve_tracking_uri

if TYPE_CHECKING:
    from mwm.runner.reporting.report.source import SweepData
    from mwm.runner.tracking.download import RecordedSweeps

MOST_CHARS = 100
"""Letters in the name of a folder that is named by several sweeps."""


def report(
    names: Annotated[list[str], Parameter(name="NAME", help="A sweep in results/, or several to compare.")],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(help="Folder to write into; without it that of the sweep, or report-NAME-NAME here.")
    ] = None,
    storage: Storage = ".",
    tracking_uri: Annotated[
        str | None, Parameter(help="MLflow to take sweeps from; one that it does not hold is taken from results/.")
    ] = None,
    experiment: Annotated[
        str | None, Parameter(help="Experiment of MLflow to look in; without it all of them.")
    ] = None,
) -> int:
    """Write a report on a sweep, or on several that are compared.

    That is report.html, a page that stands alone and can be sent, with figures/ and tables/ for a paper beside it. With
    --tracking-uri a sweep is taken from MLflow if it is there.
    """
    from mwm.runner.reporting.report.files import write_report

    with ExitStack() as stack:
        recorded = _recorded(tracking_uri, experiment)
        place = StorageLocation(storage)
        sweeps = [_sweep(name, place, recorded, stack=stack) for name in dict.fromkeys(names)]
        folder = output or _own_folder(sweeps, place)
        try:
            path = write_report(folder, sweeps)
        except OSError as error:
            raise ValueError(f"--output: {folder} cannot be written ({error.strerror})") from None
    make_console().out(f"{path}; figures and tables for a paper lie beside it", highlight=False)
    return 0


def _recorded(uri: str | None, experiment: str | None) -> RecordedSweeps | None:
    """The MLflow that was named, if one was."""
    if uri is None:
        if experiment is not None:
            raise ValueError("--experiment: needs an MLflow; name it by --tracking-uri")
        return None
    from mwm.runner.tracking.download import RecordedSweeps

    return RecordedSweeps(resolve_tracking_uri(uri), experiment)


def _sweep(name: str, place: StorageLocation, recorded: RecordedSweeps | None, *, stack: ExitStack) -> SweepData:
    """A sweep as MLflow holds it, in a folder that goes with the stack, or else as it lies in results/."""
    from mwm.runner.reporting.report.source import read_sweep_data

    run = recorded.find(name) if recorded else None
    if recorded is None or run is None:
        place.download(name)
        return read_sweep_data(_ended(find_sweep(place.local_root, name)))
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="mwm-report-")))
    provenance = recorded.download(run, folder)
    recorded.download_pictures(_shown_runs(folder), folder / PICTURES)
    return read_sweep_data(folder, provenance=provenance)


def _ended(folder: Path) -> Path:
    if not (folder / TABLE).exists():
        raise ValueError(f"NAME: nothing of {folder.name!r} has ended yet: there is no {folder / TABLE}")
    return folder


def _shown_runs(folder: Path) -> dict[str, str]:
    """The runs whose pictures a report shows, by the digests of their victims."""
    from mwm.runner.reporting.groups.configurations import group_by_configuration
    from mwm.runner.reporting.report.pictures import shown_victims
    from mwm.runner.reporting.report.source import read_sweep_data

    rows = read_sweep_data(folder, provenance={}).rows
    wanted = shown_victims(group_by_configuration(rows))
    return {row["digest"]: row["mlflow_run_id"] for row in rows if row["digest"] in wanted and row["mlflow_run_id"]}


def _own_folder(sweeps: Sequence[SweepData], place: StorageLocation) -> Path:
    """Where a report lies that was sent nowhere else: in the folder of its sweep, or in one here, named by several."""
    own = place.results / sweeps[0].name
    if len(sweeps) == 1 and own.is_dir():
        return own
    return Path("-".join(["report", *(sweep.name for sweep in sweeps)])[:MOST_CHARS])
