"""What a search by Optuna has found: its trials, the front, what mattered, and the best as sweeps to run."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mwm.config.loader import dump_yaml
from mwm.config.spec import digest, encode
from mwm.config.written import plain
from mwm.runner.sweeps.search import STUDY, study_storage
from mwm.runner.sweeps.space import Domain, iter_domains
from mwm.runner.sweeps.sweep import OptunaSearch, Sweep, decode_victim
from mwm.storage.filesystem import write_atomic
from mwm.trials.names import trial_name
from mwm.trials.outcome import UNMARKED
from mwm.trials.trial import Trial, Victim

MOST_BEST = 20
"""So many trials of the front are written as sweeps; of a longer front some from end to end."""

MOST_EXPLAINED = 100
"""By so many trials, evenly spread, the importance of parameters is estimated: the time grows with their square."""

NOT_IN_ALL = "no parameter is in every trial"

STATES = {"COMPLETE": "done", "FAIL": "failed"}
"""What Optuna calls a trial with all of its objectives, and one without; all others have only begun.

A trial with all of them whose victim carries no watermark is `unmarked`."""


def write_search(folder: Path, sweep: Sweep, victims: Mapping[str, Victim]) -> dict[str, float]:
    """Write search.json and search.csv of a search by Optuna, and best-1.yaml, ... of its front.

    `victims` are those of the results, by digest. Gives 1 for each of them that is on the front, 0 for each other that
    is done. Where there is no study nothing is written. Raises ValueError, in one line, for one that cannot be read.
    """
    if not isinstance(sweep.search, OptunaSearch) or not (folder / STUDY).exists():
        return {}
    found = read_search(folder, sweep, victims)
    files = _best_sweeps(sweep, found)
    for path in {*folder.glob("best-*.yaml")} - {folder / name for name in files}:
        path.unlink()
    for name, text in files.items():
        write_atomic(folder / name, text)
    for trial in found["trials"]:
        del trial["victim"]
    write_atomic(folder / "search.csv", _csv(found))
    write_atomic(folder / "search.json", json.dumps(found, indent=1) + "\n")
    ended = [trial for trial in found["trials"] if trial["state"] in ("done", UNMARKED) and trial["digest"]]
    best = {trial["digest"] for trial in ended if trial["on_front"]}
    return {trial["digest"]: float(trial["digest"] in best) for trial in ended}


def read_search(folder: Path, sweep: Sweep, victims: Mapping[str, Victim]) -> dict[str, Any]:
    """What the study in `folder` tells; it is only read, and may be written meanwhile."""
    assert isinstance(sweep.search, OptunaSearch), "only a search by Optuna has a study"
    study, objectives = _load_study(folder, sweep.name), sweep.search.objectives
    domains = {here.path: here for here in iter_domains(sweep.victim, "victim")}
    names, digests = _names(domains), {digest(encode(victim)): name for name, victim in victims.items()}
    trials = {}
    for trial in study.trials:
        if "victim" in trial.user_attrs:  # or the driver ended while it was drawn
            told = _trial(trial, objectives)
            told["digest"] = digests.get(digest(encode(decode_victim(told["victim"]))), "")
            told["parameters"] = {names[path]: _value(domains[path], value) for path, value in trial.params.items()}
            trials[trial.number] = told
    front = _front(study, trials)
    for number, told in trials.items():
        told["on_front"] = number in front
    importance = {name: _importance(study, place, names) for place, name in enumerate(objectives)}
    directions = [direction.name.lower() for direction in study.directions]
    return {
        "sweep": sweep.name,
        "objectives": dict(zip(objectives, directions, strict=True)),
        "parameters": [*names.values()],
        "front": front,
        "importance": {name: shares for name, (shares, _) in importance.items()},
        "no_importance": {name: why for name, (_, why) in importance.items() if why},
        "trials": [*trials.values()],
    }


def _load_study(folder: Path, name: str) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.load_study(study_name=name, storage=study_storage(folder))
        study.get_trials(deepcopy=False)
    except Exception as error:  # of Optuna, of SQLAlchemy, or of SQLite
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{folder / STUDY}: cannot be read ({reason})") from None
    return study


def _names(domains: Mapping[str, Domain]) -> dict[str, str]:
    """The columns of parameters: their fields, and where several options have one field also which option it is."""
    fields = {path: re.sub(r"\.choice\.\d+", "", path) for path in domains}
    counts = Counter(fields.values())
    return {path: field if counts[field] == 1 else path for path, field in fields.items()}


def _trial(trial: Any, objectives: Sequence[str]) -> dict[str, Any]:
    tree, state = json.loads(trial.user_attrs["victim"]), STATES.get(trial.state.name, "begun")
    return {
        "number": trial.number,
        "state": UNMARKED if any(lack > 0 for lack in trial.constraints.values()) else state,
        "label": trial_name(Trial(victim=decode_victim(tree))),
        "objectives": dict(zip(objectives, trial.values or (), strict=False)),
        "victim": tree,
    }


def _value(here: Domain, value: Any) -> Any:
    """What Optuna's number stands for; an option that is a record is called by its kind where that says which."""
    if here.kind != "choice":
        return value
    options = [plain(option) for option in here.options]
    option, kinds = options[value], [one.get("kind") for one in options if isinstance(one, dict)]
    if not isinstance(option, dict | list):
        return option
    kind = option.get("kind") if isinstance(option, dict) else None
    return kind if kind and kinds.count(kind) == 1 else json.dumps(option)


def _front(study: Any, trials: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """The trials that no other one beats in all objectives, each victim once, the best in the first objective first."""
    best: dict[Any, int] = {}
    for trial in sorted(study.best_trials, key=lambda trial: trial.number):
        best.setdefault(digest(trials[trial.number]["victim"]), trial.number)
    one, sign = len(study.directions) == 1, 1 if study.directions[0].name == "MINIMIZE" else -1
    numbers = sorted(best.values(), key=lambda number: sign * next(iter(trials[number]["objectives"].values())))
    return numbers[:1] if one else numbers


def _importance(study: Any, place: int, names: Mapping[str, str]) -> tuple[dict[str, float], str]:
    """What each parameter by itself explains of the variance of an objective, by fANOVA; or why that is not known.

    As shares of what all of them explain so. Parameters that some trials do not have are left out.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    done = [trial for trial in study.trials if trial.values and math.isfinite(trial.values[place])]
    if len(done) < 2:
        return {}, "fewer than two trials are done"
    if len({trial.values[place] for trial in done}) == 1:
        return {}, "it is the same in every trial"
    some = optuna.create_study(directions=study.directions)
    some.add_trials(done[:: -(-len(done) // MOST_EXPLAINED)])
    how: dict[str, Any] = {"evaluator": FanovaImportanceEvaluator(seed=0), "target": lambda trial: trial.values[place]}
    try:
        found = get_param_importances(some, **how)
    except RuntimeError:  # of a forest in which no tree has a branch
        return {}, "it hardly differs between trials"
    return {names[path]: round(float(share), 4) for path, share in found.items()}, "" if found else NOT_IN_ALL


def _best_sweeps(sweep: Sweep, found: Mapping[str, Any]) -> dict[str, str]:
    """A sweep file for each trial of the front, which is told its name."""
    trials = {trial["number"]: trial for trial in found["trials"]}
    last, count = len(found["front"]) - 1, min(len(found["front"]), MOST_BEST)
    files = {}
    for place in range(count):
        trial = trials[found["front"][round(place * last / max(count - 1, 1))]]
        trial["file"] = f"best-{place + 1}.yaml"
        files[trial["file"]] = _best_sweep(sweep, trial, f"{sweep.name[:90]}-best-{place + 1}")
    return files


def _best_sweep(sweep: Sweep, trial: Mapping[str, Any], name: str) -> str:
    """A sweep of one trial's victim, with the attacks that it met."""
    measured = ", ".join(f"{name} {value:.4g}" for name, value in trial["objectives"].items())
    tree = {
        "name": name,
        "victim": trial["victim"],
        "attacks": list(sweep.attacks),
        "attack_unmarked": sweep.attack_unmarked,
        "resources": encode(sweep.resources),
        "tags": sweep.tags,
    }
    return (
        f"# Question: does trial {trial['number']} of the search {sweep.name} measure the same with other seeds?\n"
        f"# Found: {measured}\n"
        "# As it stands it is that trial. Other seeds: --set 'victim.seed={grid: [1, 2, 3]}'\n"
        f"{dump_yaml({key: value for key, value in tree.items() if value})}"
    )


def _csv(found: Mapping[str, Any]) -> str:
    """A line for each trial."""
    own = ("number", "state", "on_front", "file", "digest", "label")
    text = io.StringIO()
    written = csv.DictWriter(text, [*own, *found["objectives"], *found["parameters"]], lineterminator="\n")
    written.writeheader()
    for trial in found["trials"]:
        written.writerow({name: trial.get(name, "") for name in own} | trial["objectives"] | trial["parameters"])
    return text.getvalue()
