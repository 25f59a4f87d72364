"""What a removal attack costs beyond its own training: to load and copy the victim, to measure, to keep checkpoints.

A victim is trained once. Each attack on it is then run as a sweep's worker runs it, with several seeds. Its training is
what its epochs say that they took. Times are those of the clock: run it with nothing else beside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mwm.attacks import Attack, FinePruning, FineTuning, Pruning, Quantization
from mwm.config.spec import decode
from mwm.data.readers import load_dataset
from mwm.storage.store import Store
from mwm.trials.outcome import EpochMetrics
from mwm.trials.run import run
from mwm.trials.trial import Trial, TrialInputs, Victim, data_key
from tests.benchmarks.bench import machine, parser, publish, show

VICTIM = {
    "data": "digits",
    "split": {"validation": 40, "queries": 100},
    "model": {"kind": "cnn", "width": 32},
    "recipe": {"epochs": 40, "momentum": 0.9, "schedule": "cosine"},
    "scheme": {"kind": "margin", "num_queries": 100, "step_size": 6 / 255, "weight": 1.0},
}
ATTACKS: dict[str, Attack] = {
    "fine-tuning, all layers": FineTuning(),
    "fine-tuning, last layer": FineTuning(layers="last"),
    "fine-pruning": FinePruning(),
    "pruning": Pruning(),
    "quantization": Quantization(),
}


@contextmanager
def clocked(store: Store) -> Iterator[list[float]]:
    """The seconds of every checkpoint that a store keeps meanwhile."""
    spent, save = [0.0], store.save_checkpoint

    def timed(*given: Any) -> None:
        began = time.perf_counter()
        save(*given)
        spent[0] += time.perf_counter() - began

    vars(store)["save_checkpoint"] = timed
    try:
        yield spent
    finally:
        del vars(store)["save_checkpoint"]


def measured(trial: Trial, inputs: TrialInputs, store: Store) -> dict[str, float]:
    """The seconds of an attack: of its training, of its checkpoints, and of all else."""
    began = time.perf_counter()
    with clocked(store) as checkpoints:
        rows = [row for row in run(trial, inputs, store, torch.device("cpu")) if isinstance(row, EpochMetrics)]
    whole, training = time.perf_counter() - began, sum(row.epoch_seconds for row in rows)
    return {"training": training, "checkpoints": checkpoints[0], "else": whole - training - checkpoints[0]}


def main() -> None:
    """Train a victim, attack it, and print what each attack took."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5, help="seeds of each attack (default 5)")
    asked = options.parse_args()
    torch.set_num_threads(1)
    about = machine()
    victim = decode(Victim, VICTIM)
    inputs = TrialInputs({data_key(victim.data): load_dataset(victim.data)})
    found: dict[str, list[dict[str, float]]] = {}
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        list(run(Trial(victim=victim), inputs, store, torch.device("cpu")))
        for name, attack in ATTACKS.items():
            trials = [Trial(victim=victim, attack=replace(attack, seed=seed)) for seed in range(asked.rounds + 1)]
            found[name] = [measured(trial, inputs, store) for trial in trials][1:]  # the first one warms up
    lines = []
    for name, rounds in found.items():
        parts = {part: median(one[part] for one in rounds) for part in rounds[0]}
        share = f"{parts['else'] / parts['training']:.1%}"
        lines.append([name, *(f"{seconds:.2f}" for seconds in parts.values()), share])
    heading = ["attack", "training s", "checkpoints s", "all else s", "all else, share"]
    show("Removal attacks on a cnn of width 32, digits: medians", heading, lines)
    publish(asked.output, about, {"samples": found})


if __name__ == "__main__":
    main()
