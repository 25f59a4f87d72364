"""Whether a watermark goes into a network, and survives its theft, by whatever recipe the network is trained.

Each line is a recipe: victims on digits with one watermark, and a student of each by extraction with soft answers. The
student trains as its victim did, but for what a recipe does to labels: `label_smoothing` and `mixup` are of its images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from statistics import fmean
from typing import Any

import torch

import mwm
from tests.benchmarks.bench import machine, parser, publish, show

USUAL: dict[str, Any] = {"epochs": 30, "momentum": 0.9, "schedule": mwm.Cosine()}
ADAM: dict[str, Any] = {"epochs": 30, "lr": 0.003, "schedule": mwm.Cosine()}
RECIPES: dict[str, mwm.Recipe] = {
    "sgd, momentum .9": mwm.Recipe(**USUAL),
    "nesterov": mwm.Recipe(**USUAL, nesterov=True),
    "adam, rate .003": mwm.Recipe(**ADAM, optimizer="adam"),
    "adamw, rate .003": mwm.Recipe(**ADAM, optimizer="adamw"),
    "clip_grad_norm 1": mwm.Recipe(**USUAL, clip_grad_norm=1.0),
    "label_smoothing .1": mwm.Recipe(**USUAL, label_smoothing=0.1),
    "mixup .2": mwm.Recipe(**USUAL, mixup=0.2),
    "ema .98": mwm.Recipe(**USUAL, ema=0.98),
}
SCHEME = mwm.Margin(num_queries=100, step_size=6 / 255, weight=1.0)


def measured(recipe: mwm.Recipe, seed: int) -> dict[str, Any]:
    """A victim trained by a recipe, and its student."""
    with tempfile.TemporaryDirectory() as store:
        victim = mwm.train_victim(
            data="digits",
            split={"validation": 40, "queries": 100},
            model=mwm.Cnn(width=16),
            scheme=SCHEME,
            recipe=recipe,
            seed=seed,
            store=store,
            device="cpu",
        )
        student = mwm.run_attack(victim, mwm.Extraction(labels="soft")).outcome
    own = victim.outcome
    return {
        "clean": own.clean_acc,
        "query_acc": own.query_acc,
        "log10_p": own.log10_p,
        "student_clean": student.clean_acc,
        "student_log10_p": student.log10_p,
    }


def line(name: str, found: list[dict[str, Any]]) -> list[str]:
    """The seeds of a recipe: means, and of each proof the least."""
    accuracies = [f"{fmean(one[key] for one in found):.3f}" for key in ("clean", "query_acc", "student_clean")]
    proofs = [f"{-max(one[key] for one in found):.1f}" for key in ("log10_p", "student_log10_p")]
    return [name, accuracies[0], proofs[0], accuracies[1], accuracies[2], proofs[1]]


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    return command


def main() -> int:
    """Measure and print."""
    asked = command_line().parse_args()
    torch.set_num_threads(1)
    here, found = machine(), {}
    for name, recipe in RECIPES.items():
        found[name] = [measured(recipe, seed) for seed in asked.seeds]
        print(*line(name, found[name]), flush=True)
    headings = ("recipe", "clean", "proof", "query", "student clean", "student proof")
    show(f"{len(asked.seeds)} seeds, least proofs", headings, [line(name, seeds) for name, seeds in found.items()])
    publish(asked.output, here, {"recipes": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
