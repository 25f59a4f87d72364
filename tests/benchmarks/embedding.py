"""Which trainings embed a watermark: own keys of small victims by steps, visits of each query, and images set aside.

Every line is one victim, trained on digits or on a folder of pictures that is cut from an archive of small photographs
(`--archive FILE.npz` with x_train, y_train, x_test, y_test; without it there are no folders). It is marked if its own
key is proven at 10^-3 from its own scores. `--only` takes one series, `--lines FILE` adds each victim as it is done.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mwm.config.spec import decode
from mwm.data.splits import SplitSizes
from mwm.models.networks import Cnn
from mwm.stats.binomial import DEFAULT_LEVEL
from mwm.training.recipe import Recipe
from mwm.trials.api import train_victim
from mwm.watermarks.plan import plan_training
from mwm.watermarks.schemes import Scheme
from tests.benchmarks.bench import machine, parser, publish, show

RECIPES: dict[str, dict[str, Any]] = {
    "published": {},
    "momentum": {"momentum": 0.9, "schedule": "cosine"},
    "adam": {"optimizer": "adam", "lr": 1e-3, "schedule": "cosine"},
}
SCHEMES: dict[str, dict[str, Any]] = {
    "margin": {"kind": "margin"},
    "strong": {"kind": "margin", "step_size": 6 / 255, "weight": 1.0},
    "trigger_set": {"kind": "trigger_set"},
    "trigger_set 25": {"kind": "trigger_set", "queries_per_step": 25},
    "confusion": {"kind": "confusion"},
    **{f"trigger_set {mode}": {"kind": "trigger_set", "batchnorm": mode} for mode in ("reference", "frozen", "joint")},
}
DIGITS, TEST_PICTURES = 1437, 500


@dataclass(frozen=True, kw_only=True)
class Case:
    """A victim: its data are digits, or a folder of so many training `pictures` of ten classes, shown at `size`."""

    scheme: str
    recipe: str = "momentum"
    steps: int
    keys: int = 100
    pictures: int = 0
    queries: int = 100
    validation: int = 40
    width: int = 8
    batch: int = 64
    size: int = 32

    @property
    def images(self) -> int:
        """How many training images there are."""
        return self.pictures or DIGITS

    @property
    def split(self) -> SplitSizes:
        """Who gets how many."""
        return SplitSizes(queries=self.queries, validation=self.validation)

    @property
    def made(self) -> tuple[Any, Recipe]:
        """The scheme, and the recipe with the number of epochs that comes next to the steps."""
        told = SCHEMES[self.scheme] | ({} if self.scheme == "confusion" else {"num_queries": self.keys})
        epochs = max(1, round(self.steps / (self.split.counts(self.images).owner // self.batch)))
        return decode(Scheme, told), decode(
            Recipe, {"epochs": epochs, "batch_size": self.batch, **RECIPES[self.recipe]}
        )


def folder_case(pictures: int, **more: Any) -> Case:
    """A folder of which a tenth each is set aside."""
    return Case(pictures=pictures, queries=pictures // 10, validation=pictures // 10, **more)


def wide_cases() -> Iterator[Case]:
    """A wider network, and larger batches."""
    for scheme, recipe in product(("margin", "trigger_set"), ("published", "momentum")):
        for steps in (20, 40, 80, 160, 320, 640)[: 5 if (scheme, recipe) == ("margin", "momentum") else 6]:
            yield Case(scheme=scheme, recipe=recipe, steps=steps, width=16, batch=128)


def default_cases() -> Iterator[Case]:
    """The default recipe and sizes, on pictures so small that all of its epochs can be waited for."""
    for scheme, pictures in (("confusion", 1500), ("margin", 1500), ("confusion", 5000)):
        steps = SplitSizes().counts(pictures).owner // 128 * 200
        yield folder_case(pictures, scheme=scheme, recipe="published", steps=steps, size=8, batch=128)


CASES: Mapping[str, Sequence[Case]] = {
    "wide": [*wide_cases()],
    "schemes": [
        Case(scheme=scheme, recipe=recipe, steps=steps)
        for steps, recipe, scheme in product(
            (20, 40, 80, 160), ("published", "momentum"), ("strong", "confusion", "trigger_set 25")
        )
    ],
    "adam": [Case(scheme="margin", recipe="adam", steps=steps) for steps in (40, 80, 160, 320)],
    "aside": [
        Case(scheme=scheme, steps=steps, validation=validation)
        for steps in (80, 160)
        for scheme, validation in (("margin", 40), ("margin", 1000), ("confusion", 1000))
    ],
    "keys": [
        Case(scheme=scheme, steps=steps, keys=keys)
        for keys in (10, 25)
        for scheme, steps in (("margin", 40), ("trigger_set", 640))
    ],
    "alone": [Case(scheme=f"trigger_set {mode}", steps=320, keys=25) for mode in ("reference", "joint", "frozen")],
    "folders": [
        folder_case(pictures, scheme=scheme, steps=steps)
        for pictures, steps in ((1500, 40), (1500, 160), (5000, 40))
        for scheme in ("confusion", "margin", "strong")
    ]
    + [folder_case(5000, scheme="confusion", steps=160)],
    "defaults": [*default_cases()],
}
"""The victims of each series."""


def write_folder(root: Path, archive: Path, pictures: int, classes: int = 10) -> None:
    """The first pictures of each class of an archive as files."""
    with np.load(archive) as held:
        for part, wanted in (("train", pictures), ("test", TEST_PICTURES)):
            images, labels = held[f"x_{part}"], held[f"y_{part}"]
            for label in range(classes):
                place = root / part / f"{label:03}"
                place.mkdir(parents=True)
                for number, pixels in enumerate(images[labels == label][: wanted // classes]):
                    Image.fromarray(pixels).save(place / f"{number:05}.png")


def measured(case: Case, folder: Path | None) -> dict[str, Any]:
    """One victim: its training, and what its own key shows."""
    scheme, recipe = case.made
    victim = train_victim(
        data="digits" if folder is None else {"kind": "imagefolder", "root": str(folder), "size": case.size},
        split=case.split,
        model=Cnn(width=case.width),
        recipe=recipe,
        scheme=scheme,
        device="cpu",
    )
    plan, told = plan_training(scheme, recipe, case.split.counts(case.images)), victim.outcome
    found = {name: getattr(told, name) for name in ("log10_p", "query_acc", "clean_acc", "seconds")}
    marked = told.p_value is not None and told.p_value <= DEFAULT_LEVEL
    return asdict(case) | {"steps": plan.steps, "visits": plan.visits, "pull": plan.pull, "marked": marked} | found


def line(row: Mapping[str, Any]) -> list[str]:
    """A line of the table."""
    data = f"{row['pictures']} pictures {row['size']}²" if row["pictures"] else "digits"
    pull = "" if row["pull"] is None else f"{row['pull']:.3f}"
    figures = [str(row["steps"]), f"{row['visits']:g}", pull, f"{row['clean_acc']:.2f}", f"{-row['log10_p']:.1f}"]
    return [f"{data}, {row['scheme']}, {row['recipe']}", *figures, "yes" if row["marked"] else "no"]


def main(words: Sequence[str] | None = None) -> None:
    """Train every victim, and print a table for each series."""
    command = parser(__doc__)
    command.add_argument("--archive", type=Path, metavar="FILE.npz")
    command.add_argument("--only", choices=CASES, action="append")
    command.add_argument("--lines", type=Path, metavar="FILE")
    asked = command.parse_args(words)
    torch.set_num_threads(1)
    here, rows = machine(), []
    with tempfile.TemporaryDirectory() as place:
        for series in asked.only or CASES:
            for case in CASES[series]:
                folder = Path(place) / str(case.pictures) if case.pictures else None
                if folder and not asked.archive:
                    continue
                if folder and not folder.exists():
                    write_folder(folder, asked.archive, case.pictures)
                rows.append({"series": series} | measured(case, folder))
                if asked.lines:
                    with asked.lines.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
            lines = [line(row) for row in rows if row["series"] == series]
            show(series, ("victim", "steps", "visits", "pull", "clean", "-log10 p", "marked"), lines)
    publish(asked.output, here, {"victims": rows})


if __name__ == "__main__":
    main()
