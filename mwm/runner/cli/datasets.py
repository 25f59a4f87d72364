"""What a check tells of the data sets of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from mwm.runner.reporting.datasets import dataset_lines
from mwm.runner.reporting.figures.contact_sheet import draw_contact_sheet
from mwm.runner.sweeps.sweep import Sweep
from mwm.trials.trial import TrialInputs
from mwm.trials.validation import required_datasets

ContactSheet = Annotated[
    Path | None, Parameter(help="PNG file to write: some images of each class, as a network sees them.")
]


def require_png(contact_sheet: Path | None) -> None:
    """Refuse a file that no contact sheet can be written into, before anything is read."""
    if contact_sheet and (contact_sheet.suffix.lower() != ".png" or not contact_sheet.parent.is_dir()):
        reason = "allowed: a .png file in a folder that exists"
        raise ValueError(f"--contact-sheet: {contact_sheet} is not allowed; {reason}")


def show_datasets(sweep: Sweep, sets: TrialInputs, console: Console, *, contact_sheet: Path | None) -> None:
    """What was found in every data set that is here, and a picture of them where one was asked for."""
    wanted = required_datasets(sweep.victim_specs, sweep.attack_specs)
    here = [(path, data.kind, sets[key]) for key, (path, data) in wanted.items() if key in sets]
    for path, kind, dataset in here:
        for line in dataset_lines(path, kind, dataset):
            console.print(Text(line, style="yellow" * line.startswith("warning")), soft_wrap=True)
    if contact_sheet is None:
        return
    if not here:
        console.print("no contact sheet: no data set is on this machine")
        return
    try:
        draw_contact_sheet([(f"{path}: {kind}", dataset) for path, kind, dataset in here], contact_sheet)
    except OSError as error:
        raise ValueError(f"--contact-sheet: {contact_sheet} cannot be written ({error.strerror})") from None
    console.print(f"contact sheet: {contact_sheet}", soft_wrap=True)
