"""What it costs to embed a watermark in a trained network, against training one with a watermark from fresh weights.

For each seed a network is trained without a watermark. It is the start: the watermark is embedded in it by the recipe
that a victim has by default when it starts from weights. Beside it the same watermark is trained from fresh weights by
the recipe of the start. Times are those of the processor, so that whoever computes beside does not count: shares are of
the training from fresh weights with the watermark, and of that without.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch

import mwm
from mwm.training.recipe import EMBEDDING
from tests.benchmarks.bench import machine, parser, publish, show

MOST_DROP, LEVEL, MOST_SHARE = 0.01, 1e-6, 0.3
"""What is asked of embedding: the clean accuracy that it may cost, the proof, and its share of the time."""

DIGITS: dict[str, Any] = {
    "data": "digits",
    "split": {"validation": 40, "queries": 100},
    "model": mwm.Cnn(width=32),
    "recipe": mwm.Recipe(epochs=40, momentum=0.9, schedule=mwm.Cosine()),
}
PHOTOGRAPHS: dict[str, Any] = {
    "split": {"validation": 250, "queries": 250},
    "model": mwm.Cnn(width=16),
    "recipe": mwm.Recipe(epochs=30, momentum=0.9, weight_decay=5e-4, schedule=mwm.Cosine(warmup=0.1)),
}
SCHEMES: dict[str, Any] = {
    "digits": mwm.Margin(num_queries=100, step_size=6 / 255, weight=1.0, mass=0.6),
    "archive": mwm.Margin(num_queries=50, weight=0.3, mass=0.6),
    "wrong": mwm.Margin(num_queries=100, step_size=6 / 255, weight=1.0),
    "published": mwm.Margin(num_queries=100),
    "confusion": mwm.Confusion(mass=0.1),
}
"""Those of the two kinds of data, and others to compare: `wrong` has every query answered wrongly."""


def trained(fields: dict[str, Any], store: str) -> tuple[mwm.Outcome, float]:
    """What a victim measured, and the seconds of the processor that it took."""
    began = time.process_time()
    outcome = mwm.train_victim(**fields, store=store, device="cpu").outcome
    return outcome, time.process_time() - began


def measured(fields: dict[str, Any], scheme: Any, store: str, *, recipe: mwm.Recipe = EMBEDDING) -> dict[str, Any]:
    """One seed: the start, the watermark embedded in it by a recipe, and the watermark from fresh weights."""
    start, plain = trained(fields | {"scheme": mwm.Unwatermarked()}, store)
    embedded, short = trained(fields | {"scheme": scheme, "start": start.digest, "recipe": recipe}, store)
    fresh, whole = trained(fields | {"scheme": scheme}, store)
    assert embedded.start_acc is not None, "it starts from weights"
    assert embedded.clean_acc is not None, "it is finished"
    return {
        "start": embedded.start_acc,
        "embedded": embedded.clean_acc,
        "drop": embedded.start_acc - embedded.clean_acc,
        "fresh": fresh.clean_acc,
        "log10_p": embedded.log10_p,
        "proven": embedded.proven_1e6,
        "fresh_log10_p": fresh.log10_p,
        "cpu_seconds": {"plain": plain, "embedded": short, "fresh": whole},
        "share": short / whole,
        "share_of_plain": short / plain,
    }


def faults(found: list[dict[str, Any]]) -> list[str]:
    """What does not hold of the seeds of one data set: the drop and the share as means, the proof in each."""
    asked = {
        f"clean drop above {MOST_DROP}": fmean(one["drop"] for one in found) > MOST_DROP + 1e-9,
        f"not proven at {LEVEL:g}": not all(one["proven"] for one in found),
        f"share of the time above {MOST_SHARE}": fmean(one["share"] for one in found) > MOST_SHARE,
    }
    return [said for said, holds in asked.items() if holds]


def line(name: str, one: dict[str, Any]) -> list[str]:
    """A seed as it is printed."""
    accuracies = [f"{one[key]:.3f}" for key in ("start", "embedded", "fresh")]
    proofs = [f"{-one[key]:.1f}" for key in ("log10_p", "fresh_log10_p")]
    return [name, *accuracies, f"{one['drop']:+.3f}", *proofs, f"{one['share']:.2f}", f"{one['share_of_plain']:.2f}"]


def command_line() -> argparse.ArgumentParser:
    """What may be asked."""
    command = parser(__doc__)
    command.add_argument("--archive", metavar="FILE.npz", help="photographs, in place of digits")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--scheme", choices=SCHEMES, help="another watermark than that of the data")
    for name, kind in (("epochs", int), ("lr", float), ("batch_size", int)):
        said = f"of embedding, in place of {getattr(EMBEDDING, name)}"
        command.add_argument(f"--{name}", type=kind, default=getattr(EMBEDDING, name), help=said)
    return command


def main() -> int:
    """Measure and print; 1 if something does not hold."""
    asked = command_line().parse_args()
    torch.set_num_threads(1)
    here, kind = machine(), "archive" if asked.archive else "digits"
    fields = PHOTOGRAPHS | {"data": {"kind": "npz", "path": asked.archive}} if asked.archive else DIGITS
    recipe = replace(EMBEDDING, epochs=asked.epochs, lr=asked.lr, batch_size=asked.batch_size)
    found = []
    with tempfile.TemporaryDirectory() as store:
        for seed in asked.seeds:
            found.append(measured(fields | {"seed": seed}, SCHEMES[asked.scheme or kind], store, recipe=recipe))
            print(*line(f"seed {seed}", found[-1]), flush=True)
    headings = ("", "start", "embedded", "fresh", "drop", "proof", "fresh", "share", "of plain")
    lines = [line(f"seed {seed}", one) for seed, one in zip(asked.seeds, found, strict=True)]
    show(f"{kind}: {recipe.epochs} epochs of embedding", headings, lines)
    wrong = faults(found)
    print("\n".join(f"does not hold: {said}" for said in wrong) or "all of it holds")
    publish(asked.output, here, {"data": kind, "seeds": found, "faults": wrong})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
