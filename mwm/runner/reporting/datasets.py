"""What was found in the data sets of a sweep, told to people: lines and warnings."""

from __future__ import annotations

from collections.abc import Iterator

from mwm.config.errors import shortened
from mwm.data.datasets import Dataset, Findings
from mwm.data.summary import DatasetSummary, summarize

CLASSES_SHOWN = 10
EQUAL_SHARE, SHARED_SHARE, DIM = 0.05, 0.01, 64
"""From when on images that are equal, or only dark, are warned of."""


def dataset_lines(path: str, kind: str, dataset: Dataset) -> Iterator[str]:
    """What a data set holds, and what its files are; then warnings of what is suspicious. `path`: where it is named."""
    told, (channels, height, width) = summarize(dataset), dataset.shape
    images = f"{len(dataset.y_train)} training and {len(dataset.y_test)} test images, {channels}×{height}×{width}"
    yield f"{path}: {kind}, {images}"
    yield f"  classes: {_classes(dataset, told)}"
    if dataset.findings:
        yield f"  files: {_files(dataset.findings)}"
        yield from (f"  {line}" for line in left_out_lines(dataset.findings))
    yield f"  equal: {told.equal} training images to an earlier one, {told.shared} test images to a training image"
    yield from (f"warning: {path}: {fault}" for fault in _suspicions(dataset, told))


def left_out_lines(findings: Findings) -> Iterator[str]:
    """What of the files is no image of the data set, if anything."""
    parts = [f"{findings.hidden} hidden"] if findings.hidden else []
    for names, what in ((findings.no_pictures, "no pictures"), (findings.unclassed, "in no class")):
        if names:
            parts.append(f"{len(names)} {what} ({shortened(names)})")
    if parts:
        yield f"left out: {'; '.join(parts)}"


def _classes(dataset: Dataset, told: DatasetSummary) -> str:
    names = dataset.class_names or ("",) * dataset.classes
    shown = [
        f"{number} {name} {train}+{test}" if name else f"{number} {train}+{test}"
        for number, (name, train, test) in enumerate(zip(names, told.train, told.test, strict=True))
    ]
    ranges = f"; {min(told.train)} to {max(told.train)} training images in each"
    few = len(shown) <= CLASSES_SHOWN
    return f"{dataset.classes}, training+test: {shortened(shown, CLASSES_SHOWN)}{'' if few else ranges}"


def _files(found: Findings) -> str:
    (width, height), (wide, high) = found.smallest, found.largest
    parts = [f"{width}×{height} to {wide}×{high} pixels"]
    parts += [", ".join(f"{mode} {count}" for mode, count in found.modes.items())]
    parts += [f"white is {white:g} in {depth}" for depth, white in found.whites.items()]
    counted = {
        "turned by their orientation": found.turned,
        "transparent": found.composed,
        "the first of several frames": found.frames,
        "in folders within a class": found.deeper,
    }
    return "; ".join(parts + [f"{count} {what}" for what, count in counted.items() if count])


def _suspicions(dataset: Dataset, told: DatasetSummary) -> Iterator[str]:
    train, test = len(dataset.y_train), len(dataset.y_test)
    if told.equal >= EQUAL_SHARE * train:
        yield f"{told.equal / train:.0%} of the training images are equal to an earlier one"
    if told.shared >= SHARED_SHARE * test:
        yield f"{told.shared / test:.0%} of the test images are training images, too"
    if told.contradictory:
        yield f"{told.contradictory} images are equal to one of another class"
    if told.brightest < DIM:
        yield f"the brightest pixel is {told.brightest} of 255: was something scaled that should not have been?"
    names = dataset.class_names
    if dataset.findings and all(name.isdecimal() for name in names) and [*names] != sorted(names, key=int):
        place = next(n for n, name in enumerate(names) if int(name) != n)
        yield f"folders are sorted as text, so class {place} is the folder {names[place]}: write 01, 02 for this order"
