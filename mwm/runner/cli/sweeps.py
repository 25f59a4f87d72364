"""What a user can ask for: run a sweep, or check it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.runner.sweeps.search import FixedSource
from mwm.runner.sweeps.sweep import OptunaSearch, Sweep, attack_specs, victim_specs
from mwm.runner.sweeps.validation import validate as check_sweep
from mwm.stats.binomial import DEFAULT_LEVEL, critical_matches, p_value
from mwm.trials.names import trial_name
from mwm.trials.trial import Trial, Victim, data_key, fill_attack_defaults

SHOWN = 40


def load_sweep(path: Path, overrides: Sequence[str], *, name: str | None, tags: Sequence[str]) -> Sweep:
    """Read a sweep from YAML, with the overrides of the command line. Raises ValueError, one line per fault."""
    tree = load_yaml(path, overrides)
    if name is not None:
        tree["name"] = name
    sweep: Sweep = decode(Sweep, tree)
    own: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise ValueError(f"--tag {tag}: must read key=value")
        own[key] = value
    return replace(sweep, tags={**sweep.tags, **own})


def show_check(sweep: Sweep, console: Console) -> int:
    """Decode every corner of a sweep and show its trials, counts and resources; starts nothing."""
    sets, notes = check_sweep(sweep, download=False)
    victims, attacks = victim_specs(sweep), [attack for _, attack in attack_specs(sweep)]
    _show_victims(sweep, victims, console)
    for attack in attacks:
        filled = fill_attack_defaults(attack, victims[0])
        assert filled.student is not None, "a student without a network"
        name = trial_name(Trial(victim=victims[0], attack=filled), victim=False)
        console.print(f"attack: {name}, student {filled.student.kind}")
    count = sweep.search.samples if isinstance(sweep.search, OptunaSearch) else FixedSource(sweep).total
    count = min(count, sweep.budget.victims or count)
    for stage, number in (("victims", count), ("attacks", count * len(attacks))):
        lease = getattr(sweep.resources, stage[:-1])
        console.print(f"{number} {stage}, each on {lease.cpus:g} CPU and {lease.gpus:g} GPU")
    keys = {(sets[key].classes, one.scheme.num_queries) for one in victims if (key := data_key(one.data)) in sets}
    for classes, queries in sorted(keys):
        if matches := critical_matches(queries, classes, DEFAULT_LEVEL):
            console.print(f"of {queries} queries {matches} must match for p ≤ {DEFAULT_LEVEL}")
        else:
            console.print(Text(_underpowered_warning(queries, classes), style="yellow"), soft_wrap=True)
    if sweep.early_stopping is not None:
        how = sweep.early_stopping
        console.print(f"a victim ends early unless its {how.metric} is among the best 1/{how.reduction:g}")
    if sweep.budget.hours is not None:
        console.print(f"no victim is begun after {sweep.budget.hours:g} hours")
    for note in notes:
        console.print(f"note: {note}; its sizes were not checked", soft_wrap=True)
    return 0


def _underpowered_warning(queries: int, classes: int) -> str:
    """A warning that no theft can be proven by so few queries."""
    best = p_value(queries, queries, classes)
    least = next(number for number in itertools.count(queries) if critical_matches(number, classes, DEFAULT_LEVEL))
    few = f"warning: victim.scheme.num_queries: {queries} can prove no theft at p ≤ {DEFAULT_LEVEL}"
    return f"{few}: if all match, p is {best:.2g}; with {classes} classes it takes {least} or more"


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
