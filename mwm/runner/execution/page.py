"""What a sweep says on MLflow's page: saved views, a description, and measures that need more than one trial."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from mwm.attacks.base import AttackRecord
from mwm.config.spec import encode, flatten
from mwm.runner.reporting.groups.configurations import Row, group_by_configuration, varying_fields
from mwm.runner.reporting.groups.measures import present
from mwm.runner.reporting.report.markdown import description
from mwm.runner.reporting.report.search_tables import SearchResults
from mwm.runner.reporting.results import late_metrics
from mwm.runner.sweeps.sweep import OptunaSearch, Sweep
from mwm.runner.tracking.client import MlflowExperiment
from mwm.runner.tracking.follower import Followed, MlflowFollower
from mwm.runner.tracking.runs import CONFIG, SWEEP, source_tags, threat_tags, to_metrics
from mwm.runner.tracking.views import NOTE, Varied, view_links, write_own, write_views
from mwm.runner.workspace.journal import read_events
from mwm.runner.workspace.location import PICTURES
from mwm.trials.outcome import TRIAL_KINDS

SCHEME, ROBUSTNESS = "victim.scheme.kind", ("worst_query_acc", "mean_query_acc", "worst_log10_p")


def begin_page(experiment: MlflowExperiment, sweep: Sweep) -> None:
    """Write the views of a sweep before its first trial; raises as MLflow raises."""
    write_views(experiment, sweep.name, varied_parameters(sweep))


def finish_page(experiment: MlflowExperiment, sweep: Sweep, rows: Sequence[Row], *, search: SearchResults) -> None:
    """Write the description and the summary of a sweep from its rows; raises as MLflow raises.

    `search` is what Optuna found, if it searched. The description stands at the sweep's run, and at the experiment if
    that is the sweep's own. What a user has changed is left alone. Written again, nothing changes.
    """
    links = view_links(experiment.id, sweep.name, attacked=bool(sweep.attacks))
    text = description(sweep.description, rows, links, search=search)
    if experiment.name.rpartition("/")[2] == sweep.name:
        write_own(experiment.log_experiment_tags, experiment.tags(), tag=NOTE, text=text)
    mine = f"tags.kind = 'sweep' and tags.`{SWEEP}` = '{sweep.name}' and tags.`{CONFIG}` = '{sweep.config_digest}'"
    for run in experiment.runs(mine):
        write_own(partial(experiment.log_tags, run.info.run_id), run.data.tags, tag=NOTE, text=text)
        there = run.data.metrics
        fresh = {name: value for name, value in summary_metrics(rows).items() if there.get(name) != value}
        experiment.log_metrics(run.info.run_id, to_metrics(fresh, time.time_ns() // 10**6, 0))


def open_follower(
    uri: str,
    sweep: Sweep,
    folder: Path,
    *,
    provenance: Mapping[str, str],
    experiment: str | None,
    before: Sequence[str] = (),
    anew: bool = False,
) -> MlflowFollower:
    """Who brings the journal of a sweep to MLflow; `provenance` is a tag of every run. Raises ValueError.

    `before` are the config digests that the sweep had as long as it asked less. `anew`: from the journal's beginning,
    and without a driver, who might still be writing its last line. How many samples are drawn may grow, and so it is a
    tag: no parameter of MLflow ever changes.
    """
    search = flatten(encode(sweep.search), "search")
    grows = {name: str(search.pop(name)) for name in ("search.num_samples",) if name in search}
    return MlflowFollower(
        uri,
        Followed(
            sweep.name, partial(read_events, folder, torn=anew), folder, folder / PICTURES, tags=grows, before=before
        ),
        tags={**provenance, **source_tags(provenance), CONFIG: sweep.config_digest, **sweep.tags},
        params=search,
        experiment=experiment,
        anew=anew,
        first=partial(begin_page, sweep=sweep),
    )


def varied_parameters(sweep: Sweep) -> Varied:
    """In which parameters the trials of a sweep differ; of a space to draw from, its corners."""
    victims = [flatten(encode(victim), "victim") for victim in sweep.victim_specs]
    resolved = [attack.resolve(sweep.victim_specs[0]) for _, attack in sweep.attack_specs]
    attacks = [flatten(encode(attack), "attack") for attack in resolved]
    common, _ = Counter(victim[SCHEME] for victim in victims).most_common(1)[0]
    alike = [victim for victim in victims if victim[SCHEME] == common]
    searched = isinstance(sweep.search, OptunaSearch)
    parameters = _telling(victims), _telling(attacks), _telling(alike)
    return Varied(*parameters, _varied_threats(resolved), attacked=bool(attacks), searched=searched)


def _varied_threats(attacks: Iterable[AttackRecord]) -> list[str]:
    """The tags in which the threat models of attacks differ."""
    told = [threat_tags(attack) for attack in attacks]
    names = dict.fromkeys(name for tags in told for name in tags)
    return [name for name in names if len({tags.get(name) for tags in told}) > 1]


def _telling(trials: Iterable[Mapping[str, Any]]) -> list[str]:
    """The fields in which trials differ: the scheme's or attack's first, then other ones, those of recipes, seeds."""
    found = varying_fields(tuple((path, repr(value)) for path, value in trial.items()) for trial in trials)
    return sorted(found, key=lambda path: (path.endswith("seed"), ".recipe." in path, not _names_it(path)))


def _names_it(path: str) -> bool:
    return path.startswith(("victim.scheme.", "attack.")) and path.count(".") < 3


def summary_metrics(rows: Iterable[Row]) -> dict[str, float]:
    """What is told of a whole sweep: trials by how they ended, their seconds, and the best proof after a worst attack.

    That is the largest mean over seeds of `worst_neg_log10_p`, of all settings with a watermark.
    """
    rows = list(rows)
    trials = {row["digest"]: row for row in rows}.values()
    ends = Counter((row["kind"], row["status"]) for row in trials)
    found = {f"{kind}s_{status}": float(count) for (kind, status), count in ends.items() if kind in TRIAL_KINDS}
    found["trial_seconds"] = sum(present([*trials], "seconds"))
    marked = [row for row in rows if row["kind"] == "victim" and row[SCHEME] != "none"]
    logs = [present(members, "worst_log10_p") for members in group_by_configuration(marked).values()]
    if proofs := [-fmean(own) for own in logs if own]:
        found["best_worst_neg_log10_p"] = max(proofs)
    return found


def late_measures(rows: Iterable[Row], on_front: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What only a sweep's rows together tell of each trial, by digest; of a victim also whether it is `on_front`.

    Beside `clean_drop`, what attacks left, and a control's scores on each key: `accuracy_cost`, how many points of
    clean accuracy the watermark costs the victim, also of the attacks on it, and of these `accuracy_drop`, by how many
    points their student is below the victim.
    """
    rows = list(rows)
    victims: dict[str, Row] = {row["digest"]: row for row in rows if row["kind"] == "victim"}
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        left = {name: row[name] for name in ROBUSTNESS if name in row and row[SCHEME] != "none"}
        told = late_metrics(row) | left | _points(row, victims.get(row["victim_digest"], {}))
        found.setdefault(row["digest"], {}).update(told)
    for digest, share in on_front.items():
        found.setdefault(digest, {})["on_front"] = share
    return {digest: metrics for digest, metrics in found.items() if metrics}


def _points(row: Row, victim: Row) -> dict[str, float]:
    """Accuracies in points, to a hundredth."""
    cost, own, student = victim.get("clean_drop"), victim.get("clean_acc"), row["clean_acc"]
    told = {} if cost is None else {"accuracy_cost": round(100 * cost, 2) + 0.0}
    if row["kind"] == "attack" and own is not None and student is not None:
        told["accuracy_drop"] = round(100 * (own - student), 2) + 0.0
    return told
