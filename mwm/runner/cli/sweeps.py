"""run, check and schema: what a user asks of a YAML file."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mwm.runner.cli.comparing import how_to_compare
from mwm.runner.cli.datasets import ContactSheet, require_png, show_datasets
from mwm.runner.cli.options import NOWHERE_ELSE, RecordingOptions, Storage, make_console
from mwm.runner.execution.continuation import foreseen
from mwm.runner.sweeps.plan import plan_lines, plan_warnings
from mwm.runner.sweeps.proofs import proof_lines
from mwm.runner.sweeps.search import FixedSource
from mwm.runner.sweeps.sweep import OptunaSearch, Sweep, TrialResources, load_sweep
from mwm.runner.sweeps.validation import validate
from mwm.runner.workspace.location import StorageLocation
from mwm.storage.redaction import redact
from mwm.storage.store import Store
from mwm.training.recipe import EMBEDDING
from mwm.trials.names import attack_name, counted, trial_name
from mwm.trials.outcome import SKIPPED_UNMARKED, UNPROVEN
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from mwm.trials.validation import Places, fresh_of_attack, fresh_of_victim, with_parts

if TYPE_CHECKING:
    from mwm.runner.execution.driver import SweepRun

SHOWN = 40


Config = Annotated[Path, Parameter(name="CONFIG", help="YAML file, such as tune_configs/quickstart.yaml.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a sweep besides its file."""

    changes: Annotated[
        list[str] | None, Parameter(name="--set", help="Change one value of the file, as in victim.seed=3; repeatable.")
    ] = None
    name: Annotated[str | None, Parameter(help="Name of the sweep, in place of the file's.")] = None
    tags: Annotated[
        list[str] | None, Parameter(name="--tag", help="Free tag key=value on every run of MLflow; repeatable.")
    ] = None
    trust: Annotated[bool, Parameter(help="Run the code of functions that the file names as module:function.")] = False


AskedOptions = Annotated[Asked, Parameter(name="*")]
AS_WRITTEN = Asked()


def run(
    config: Config,
    /,
    *,
    asked: AskedOptions = AS_WRITTEN,
    resume: Annotated[bool, Parameter(help="Resume a sweep that exists; refuse to begin one.")] = False,
    address: Annotated[
        str | None, Parameter(help="Ray cluster to join; without it RAY_ADDRESS, else one on this machine.")
    ] = None,
    storage: Storage = ".",
    recording: RecordingOptions = NOWHERE_ELSE,
) -> int:
    """Run a sweep, or resume it.

    Exit status: 0 if every trial is done, 3 if one is not, or if a victim carries no watermark, 2 for a mistake, 130 or
    143 if a signal stopped it.
    """
    sweep, console = _sweep(config, asked), make_console()
    from mwm.runner.execution import driver
    from mwm.runner.reporting.report.search_tables import read_search_results, search_tables
    from mwm.runner.reporting.tables.terminal import tables

    try:
        how: dict[str, Any] = {"storage": storage, "address": address, "resume": resume, "trust": asked.trust}
        done = driver.run_sweep(sweep, console, **how, **asdict(recording))
    except SystemExit:  # a signal before the first trial, or a second one
        console.out(f"stopped; what was saved is kept; {_go_on()}", highlight=False)
        raise
    if done.hours_spent:
        limit = f"the limit of {sweep.limits.hours:g} hours is reached"
        console.out(f"{limit}: no more victims were begun", highlight=False)
    for table in itertools.chain(tables(done.results), search_tables(read_search_results(done.folder))):
        console.print(table)
        console.print()
    _print_summary(console, sweep, done)
    return done.status


def _print_summary(console: Console, sweep: Sweep, done: SweepRun) -> None:
    """How many trials ended how, where the results are, and how to compare the runs."""
    ended = ", ".join(f"{count} {status}" for status, count in done.counts.items() if count)
    everything = done.cached == sum(done.counts.values()) and not done.epochs
    which = "all cached, nothing was run" if everything else f"{done.cached} cached"
    ended += f" ({which})" if done.cached else ""
    nothing = "no trial has ended" if done.epochs or done.status > 128 else "nothing was run"
    console.out(f"{ended or nothing}; results in {done.folder / 'results.csv'}", highlight=False)
    if done.unmarked:
        console.print(Text(_unmarked(sweep, done), style="yellow"), soft_wrap=True)
    if done.status > 128:
        saved, under_way = sum(done.epochs.values()), len(done.epochs)
        kept = f"{saved} epochs of {under_way} trial{'s' * (under_way > 1)} under way are saved" if saved else ""
        console.out(f"stopped; {kept or 'what was saved is kept'}; {_go_on()}", highlight=False)
    from mwm.runner.tracking.views import view_path

    view = "attacks" if any(result.trial.attack for result in done.results) else "victims"
    page = view_path(done.experiment_id, done.folder.name, view)
    shown = how_to_compare(done.uri, name=done.folder.name, experiment=done.experiment, page=page)
    console.out(f"compare the runs: {shown}", highlight=False)


def _unmarked(sweep: Sweep, done: SweepRun) -> str:
    """What is to be known of victims without a watermark."""
    outcomes = [result.outcome for result in done.results]
    every = sum(outcome.marked is not None for outcome in outcomes)
    told = f"{done.unmarked} of {counted(every, 'victim')} {UNPROVEN}"
    if sweep.attack_unmarked:
        return told
    skipped = sum(outcome.error == SKIPPED_UNMARKED for outcome in outcomes)
    what = f"; {counted(skipped, 'attack')} skipped (attack_unmarked: true runs attacks on such victims)"
    return f"incomplete: {told}{what if skipped else ''}"


def _go_on() -> str:
    """By which command a sweep that was stopped goes on."""
    return f"go on by: {redact(shlex.join([_shown(Path(sys.executable)), *sys.argv]))}"


def _shown(path: Path) -> str:
    """A path from here, if it lies here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _sweep(config: Path, asked: Asked) -> Sweep:
    """The sweep that is asked for. Like its file, what is said of it is UTF-8, whatever the locale takes it for."""
    changes, tags = ([_utf8(word) for word in words or ()] for words in (asked.changes, asked.tags))
    return load_sweep(config, changes, name=asked.name and _utf8(asked.name), tags=tags)


def _utf8(word: str) -> str:
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError:
        return word


def check(
    config: Config,
    /,
    *,
    asked: AskedOptions = AS_WRITTEN,
    contact_sheet: ContactSheet = None,
    storage: Storage = ".",
    tracking_uri: Annotated[str | None, Parameter(help="MLflow that a `start` may be taken from.")] = None,
) -> int:
    """Read a sweep; tell its trials, its data and who gets what; start nothing.

    Every corner of its space is decoded and checked against the data, the networks and the resources. Networks that
    take no GPU are timed on one batch. It warns of trainings that may embed no watermark.
    """
    require_png(contact_sheet)
    sweep, console = _sweep(config, asked), make_console()
    place = StorageLocation(storage)
    store = Store(place.store)
    places = Places(download=False, trust=asked.trust, store=store, tracking_uri=tracking_uri)
    sets, notes = validate(sweep, places)
    _show_victims(sweep, sweep.victim_specs, console)
    _show_starts(sweep, sets, console)
    _show_counts(sweep, console)
    _show_plans(sweep, sets, console)
    show_datasets(sweep, sets, console, contact_sheet=contact_sheet)
    _show_early_ends(sweep, console)
    for note in notes:
        console.print(f"note: {note}; its sizes were not checked", soft_wrap=True)
    if not notes:
        place.download(sweep.name)
        if said := foreseen(sweep, place.results / sweep.name, sets=sets, store=store):
            console.print(Text(said), soft_wrap=True)
    return 0


def _show_counts(sweep: Sweep, console: Console) -> None:
    """Each attack, the number of trials, and what one takes, all its workers together."""
    first, attacks = sweep.victim_specs[0], [attack for _, attack in sweep.attack_specs]
    for attack in attacks:
        filled = attack.resolve(first)
        named = attack_name(Trial(victim=first, attack=filled))
        console.print(f"attack: {named}, network {filled.architecture(first).label}")
    count = sweep.search.num_samples if isinstance(sweep.search, OptunaSearch) else FixedSource(sweep).total
    count = min(count, sweep.limits.victims or count)
    for stage, number in (("victim", count), ("attack", count * len(attacks))):
        each: TrialResources = getattr(sweep.resources, stage)
        cpus, gpus = (counted(of_one * each.workers, noun) for of_one, noun in ((each.cpus, "CPU"), (each.gpus, "GPU")))
        taken = f", {'each ' * (number > 1)}on {cpus} and {gpus}"
        console.print(counted(number, stage) + (taken if number else ""))


def _show_plans(sweep: Sweep, sets: TrialInputs, console: Console) -> None:
    """Who gets what, what each training is, what hardly embeds a watermark, and what keys can prove at best."""
    victims = sweep.victim_specs
    plans = plan_lines(victims[:SHOWN], sets, sweep.resources.victim)
    for line in (*plans, *plan_warnings(victims, sets), *proof_lines(victims, sets)):
        console.print(Text(line, style="yellow" * line.startswith("warning")), soft_wrap=True)


def _show_early_ends(sweep: Sweep, console: Console) -> None:
    """What ends victims, or the sweep, before they are done."""
    if sweep.early_stopping is not None:
        how = sweep.early_stopping
        console.print(f"a victim ends early unless its {how.metric} is among the best 1/{how.reduction_factor:g}")
    if sweep.limits.hours is not None:
        console.print(f"no victim is begun after {sweep.limits.hours:g} hours")


def _show_victims(sweep: Sweep, victims: Sequence[Victim], console: Console) -> None:
    noun = "victims" if sweep.search.kind == "grid" else "corners of the space"
    table = Table(title=f"{sweep.name}: {noun}", title_justify="left")
    for heading in ("victim", "network", "epochs", "data"):
        table.add_column(heading)
    for victim in victims[:SHOWN]:
        table.add_row(trial_name(Trial(victim=victim)), victim.model.label, str(victim.recipe.epochs), victim.data.kind)
    console.print(table)
    if len(victims) > SHOWN:
        console.print(f"and {len(victims) - SHOWN} more")


def _show_starts(sweep: Sweep, sets: TrialInputs, console: Console) -> None:
    """What starts from weights, which of its layers stay fresh, and which recipe was filled in; each line once."""
    told: dict[tuple[str, str], None] = {}
    for victim in sweep.victim_specs:
        fresh = fresh_of_victim(victim, sets) if data_key(victim.data) in sets else {}
        for path, attack in sweep.attack_specs:
            fresh |= fresh_of_attack(path, attack, victim=victim, sets=sets)
        for place, names in fresh.items():
            layers = f"fresh are {', '.join(names)}, for other classes" if names else "no layer stays fresh"
            told[f"{place}: all weights fit; {layers}", ""] = None
        if victim.start is not None and victim.recipe == EMBEDDING:
            how = f"{EMBEDDING.epochs} epochs, rate {EMBEDDING.lr:g}, momentum {EMBEDDING.momentum:g}"
            told[f"victim.recipe: that of embedding, the default with victim.start ({how})", ""] = None
            told |= dict.fromkeys((line, "yellow") for line in _short_students(sweep))
    for line, style in told:
        console.print(Text(line, style=style), soft_wrap=True)


def _short_students(sweep: Sweep) -> Iterator[str]:
    """A warning for each student with fresh weights that is left the short recipe of its victim."""
    for path, attack in sweep.attack_specs:
        for place, part in with_parts(path, attack).items():
            if getattr(part, "recipe", part) is None and getattr(part, "start", part) is None:
                weak = "a student with fresh weights would train by the victim's short recipe"
                yield f"warning: {place}.recipe: {weak}, and be weak; write one"


def schema() -> int:
    """Print the JSON Schema of a sweep file.

    It is kept in tune_configs/schema.json, by which editors complete and check the shipped files.
    """
    from mwm.runner.sweeps.schema import schema_text

    print(schema_text(in_ascii=not sys.stdout.encoding.lower().startswith("utf")), end="")
    return 0
