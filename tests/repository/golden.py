"""What may not change unnoticed: digests of every shipped trial, and the results of a reduced quickstart, bit for bit.

`python -m tests.repository.golden` compares both with `golden.json`, `--write` writes it anew. Digests are the same on
every machine. Results are those of one kind of processor and one thread, so that they are compared by whoever moves
code, before and after on one machine, and not by the tests.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from mwm.config.loader import load_yaml
from mwm.config.spec import decode, digest, encode
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import validate
from mwm.storage.store import Store
from mwm.trials.outcome import Outcome
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, data_key, trial_digest

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden.json")
REDUCED = ["victim.recipe.epochs=2", "victim.seed.grid=[0, 1]"]
MEASURED_BY_A_CLOCK = ("seconds", "peak_mib", "device")


def trials(sweep: Sweep) -> list[Trial]:
    """Every victim of a sweep (or corner of its space), followed by the attacks on it."""
    found = []
    for victim in sweep.victim_specs:
        attacks = [attack.resolve(victim) for _, attack in sweep.attack_specs]
        found += [Trial(victim=victim), *(Trial(victim=victim, attack=attack) for attack in attacks)]
    return found


def digests(path: Path) -> str:
    """The digest of the digests of a sweep's trials; records stand for data and weights."""
    every = trials(decode(Sweep, load_yaml(path)))
    named: Any = {data_key(data): SimpleNamespace(digest=digest(encode(data))) for one in every for data in _data(one)}
    secrets = {one.victim.secret: bytes(32) for one in every if one.victim.secret is not None}
    starts: Any = {name: SimpleNamespace(digest=digest(name)) for one in every for name in _starts(one)}
    return digest([trial_digest(one, TrialInputs(named, secrets, starts=starts)) for one in every])


def _starts(trial: Trial) -> list[str]:
    return [start for one in (trial.victim, trial.attack) if (start := getattr(one, "start", None)) is not None]


def _data(trial: Trial) -> list[Any]:
    source = getattr(trial.attack, "source", None)
    foreign = source is not None and hasattr(source, "flip")
    return [trial.victim.data, *([source] if foreign else [])]


def results() -> dict[str, dict[str, Any]]:
    """What every trial of the reduced quickstart measured, by its digest, and the digest of its weights."""
    sweep = decode(Sweep, load_yaml(ROOT / "tune_configs/quickstart.yaml", REDUCED))
    sets, _ = validate(sweep)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for trial in trials(sweep):
            *rows, outcome = run(trial, sets, store, torch.device("cpu"))
            assert isinstance(outcome, Outcome), "a trial ends with its outcome"
            weights = digest({name: value.tolist() for name, value in store.weights(outcome.digest).items()})
            measured = {name: value for name, value in asdict(outcome).items() if name not in MEASURED_BY_A_CLOCK}
            losses = [row.loss for row in rows if not isinstance(row, Outcome)]
            found[outcome.digest] = measured | {"weights": weights, "losses": losses}
    return found


def main() -> int:
    """Compare, or write."""
    torch.set_num_threads(1)
    shipped = sorted((ROOT / "tune_configs").rglob("*.yaml"))
    now = {"digests": {path.name: digests(path) for path in shipped}, "results": results()}
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n")
        return 0
    then = json.loads(GOLDEN.read_text())
    differ = [part for part in now if json.loads(json.dumps(now[part])) != then[part]]
    print("as before" if not differ else f"other than before: {', '.join(differ)}")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
