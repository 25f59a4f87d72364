"""run, check and schema: what a user asks of a YAML file."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mwm.runner.cli.comparing import how_to_compare
from mwm.runner.cli.datasets import ContactSheet, require_png, show_datasets
from mwm.runner.cli.options import NOWHERE_ELSE, RecordingOptions, Storage, make_console
from mwm.runner.sweeps.search import FixedSource
from mwm.runner.sweeps.sweep import OptunaSearch, Sweep, load_sweep
from mwm.runner.sweeps.validation import validate
from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.storage.redaction import redact
from mwm.trials.names import attack_name, trial_name
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from mwm.watermarks.schemes import Confusion, Scheme

if TYPE_CHECKING:
    from mwm.runner.execution.driver import SweepRun

SHOWN = 40


Config = Annotated[Path, Parameter(name="CONFIG", help="YAML file, such as tune_configs/quickstart.yaml.")]
Changes = Annotated[
    list[str] | None, Parameter(name="--set", help="Change one value of the file, as in victim.seed=3; repeatable.")
]
Name = Annotated[str | None, Parameter(help="Name of the sweep, in place of the file's.")]
Tags = Annotated[
    list[str] | None, Parameter(name="--tag", help="Free tag key=value on every run of MLflow; repeatable.")
]


def run(
    config: Config,
    /,
    *,
    changes: Changes = None,
    name: Name = None,
    tags: Tags = None,
    resume: Annotated[bool, Parameter(help="Resume a sweep that exists; refuse to begin one.")] = False,
    address: Annotated[
        str | None, Parameter(help="Ray cluster to join; without it RAY_ADDRESS, else one on this machine.")
    ] = None,
    storage: Storage = ".",
    recording: RecordingOptions = NOWHERE_ELSE,
) -> int:
    """Run a sweep, or resume it.

    Exit status: 0 if every trial is done, 3 if one is not, 2 for a mistake, 130 or 143 if a signal stopped it.
    """
    sweep, console = _asked(config, changes, name=name, tags=tags), make_console()
    from mwm.runner.execution import driver
    from mwm.runner.reporting.report.search_tables import read_search_results, search_tables
    from mwm.runner.reporting.tables import tables

    try:
        done = driver.run_sweep(sweep, console, storage=storage, address=address, resume=resume, **asdict(recording))
    except SystemExit:  # a signal before the first trial, or a second one
        console.out(f"stopped; what was saved is kept; {_go_on()}", highlight=False)
        raise
    if done.hours_spent:
        limit = f"the limit of {sweep.limits.hours:g} hours is reached"
        console.out(f"{limit}: no more victims were begun", highlight=False)
    for table in itertools.chain(tables(done.results), search_tables(read_search_results(done.folder))):
        console.print(table)
        console.print()
    _print_summary(console, done)
    return done.status


def _print_summary(console: Console, done: SweepRun) -> None:
    """How many trials ended how, where the results are, and how to compare the runs."""
    ended = ", ".join(f"{count} {status}" for status, count in done.counts.items() if count)
    everything = done.cached == sum(done.counts.values()) and not done.epochs
    which = "all cached, nothing was run" if everything else f"{done.cached} cached"
    ended += f" ({which})" if done.cached else ""
    nothing = "no trial has ended" if done.epochs or done.status > 128 else "nothing was run"
    console.out(f"{ended or nothing}; results in {done.folder / 'results.csv'}", highlight=False)
    if done.status > 128:
        saved, under_way = sum(done.epochs.values()), len(done.epochs)
        kept = f"{saved} epochs of {under_way} trial{'s' * (under_way > 1)} under way are saved" if saved else ""
        console.out(f"stopped; {kept or 'what was saved is kept'}; {_go_on()}", highlight=False)
    from mwm.runner.tracking.views import view_path

    view = "attacks" if any(result.trial.attack for result in done.results) else "victims"
    page = view_path(done.experiment_id, done.folder.name, view)
    shown = how_to_compare(done.uri, name=done.folder.name, experiment=done.experiment, page=page)
    console.out(f"compare the runs: {shown}", highlight=False)


def _go_on() -> str:
    """By which command a sweep that was stopped goes on."""
    return f"go on by: {redact(shlex.join([_shown(Path(sys.executable)), *sys.argv]))}"


def _shown(path: Path) -> str:
    """A path from here, if it lies here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _asked(config: Path, changes: list[str] | None, *, name: str | None, tags: list[str] | None) -> Sweep:
    """The sweep that is asked for. Like its file, what is said of it is UTF-8, whatever the locale takes it for."""
    changes, tags = ([_utf8(word) for word in words or ()] for words in (changes, tags))
    return load_sweep(config, changes, name=name and _utf8(name), tags=tags)


def _utf8(word: str) -> str:
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError:
        return word


def check(
    config: Config,
    /,
    *,
    changes: Changes = None,
    name: Name = None,
    tags: Tags = None,
    contact_sheet: ContactSheet = None,
) -> int:
    """Read a sweep, count its trials and tell what its data are; start nothing.

    Every corner of its space is decoded and checked against the data, the networks and the resources.
    """
    require_png(contact_sheet)
    sweep, console = _asked(config, changes, name=name, tags=tags), make_console()
    sets, notes = validate(sweep, download=False)
    victims, attacks = sweep.victim_specs, [attack for _, attack in sweep.attack_specs]
    _show_victims(sweep, victims, console)
    for attack in attacks:
        filled = attack.resolve(victims[0])
        named = attack_name(Trial(victim=victims[0], attack=filled))
        console.print(f"attack: {named}, network {filled.architecture(victims[0]).kind}")
    count = sweep.search.num_samples if isinstance(sweep.search, OptunaSearch) else FixedSource(sweep).total
    count = min(count, sweep.limits.victims or count)
    for stage, number in (("victim", count), ("attack", count * len(attacks))):
        lease = getattr(sweep.resources, stage)
        taken = f", {'each ' * (number > 1)}on {_counted(lease.cpus, 'CPU')} and {_counted(lease.gpus, 'GPU')}"
        console.print(_counted(number, stage) + (taken if number else ""))
    _show_power(victims, sets, console)
    show_datasets(sweep, sets, console, contact_sheet=contact_sheet)
    if sweep.early_stopping is not None:
        how = sweep.early_stopping
        console.print(f"a victim ends early unless its {how.metric} is among the best 1/{how.reduction_factor:g}")
    if sweep.limits.hours is not None:
        console.print(f"no victim is begun after {sweep.limits.hours:g} hours")
    for note in notes:
        console.print(f"note: {note}; its sizes were not checked", soft_wrap=True)
    return 0


def _counted(number: float, noun: str) -> str:
    """A number of things: "1 victim", "2 victims"."""
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def _show_power(victims: Sequence[Victim], sets: TrialInputs, console: Console) -> None:
    """What proves a copy at least, for each number of cells and classes; a control has no key of its own."""
    keys: set[tuple[int, int, str, int]] = set()
    for victim in victims:
        if (key := data_key(victim.data)) in sets and victim.scheme.kind != "none":
            classes = sets[key].classes
            keys.update((classes, *told) for told in _keys(victim.scheme, classes))
    for classes, cells, field, tests in sorted(keys):
        if cells >= (least := _fewest_cells(classes, tests)):
            proof = f"{least} secret labels and no other wrong answer prove a copy at p ≤ {DEFAULT_LEVEL}"
            console.print(f"a key of {cells} cells, {classes} classes: {proof}", soft_wrap=True)
        else:
            few = f"warning: victim.scheme.{field} can prove no copy at p ≤ {DEFAULT_LEVEL}"
            best = f"if all of its {cells} secret labels rank first, p is {_best_p_value(cells, classes, tests):.2g}"
            text = f"{few}: {best}; with {classes} classes it takes {least} or more"
            console.print(Text(text, style="yellow"), soft_wrap=True)


def _keys(scheme: Scheme, classes: int) -> Iterator[tuple[int, str, int]]:
    """How many cells each key of a scheme has, the field that says so with its value, and how many tests decide."""
    parts = scheme.parts()
    for part in parts:
        cells, field = _cells(part, classes)
        place = next((f"{name}." for name, value in vars(scheme).items() if value is part), "")
        yield cells, f"{place}{field}", 2 * len(parts)


def _cells(scheme: Any, classes: int) -> tuple[int, str]:
    """How many cells a scheme's key has, and the field that says so, with its value."""
    if isinstance(scheme, Confusion):
        return classes * scheme.cells_per_class, f"cells_per_class: {scheme.cells_per_class}"
    assert scheme.cells is not None, "only a control and a key of classes take what images there are"
    return scheme.cells, f"num_queries: {scheme.cells}"


def _best_p_value(cells: int, classes: int, tests: int) -> float:
    """The least p-value that so many cells can show: all secret labels rank first, in one of several tests."""
    return min(1.0, tests * (classes - 1.0) ** -cells)


def _fewest_cells(classes: int, tests: int) -> int:
    """How many cells can prove a copy at the usual level."""
    return next(cells for cells in itertools.count(1) if _best_p_value(cells, classes, tests) <= DEFAULT_LEVEL)


def _show_victims(sweep: Sweep, victims: Sequence[Victim], console: Console) -> None:
    noun = "victims" if sweep.search.kind == "grid" else "corners of the space"
    table = Table(title=f"{sweep.name}: {noun}", title_justify="left")
    for heading in ("victim", "network", "epochs", "data"):
        table.add_column(heading)
    for victim in victims[:SHOWN]:
        table.add_row(trial_name(Trial(victim=victim)), victim.model.kind, str(victim.recipe.epochs), victim.data.kind)
    console.print(table)
    if len(victims) > SHOWN:
        console.print(f"and {len(victims) - SHOWN} more")


def schema() -> int:
    """Print the JSON Schema of a sweep file.

    It is kept in tune_configs/schema.json, by which editors complete and check the shipped files.
    """
    from mwm.runner.sweeps.schema import schema_text

    print(schema_text(in_ascii=not sys.stdout.encoding.lower().startswith("utf")), end="")
    return 0
