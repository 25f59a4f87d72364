"""What is asked, and in which order: cell after cell of a key, each with all its images in all their views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mwm.config.randomness import keyed_permutation, secret_from_seed
from mwm.verification.querying.views import draw_views
from mwm.watermarks.key import Key


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class OrderedQueries:
    """What a suspect is asked, in its order: cell after cell of a key, of each its images, of each its views.

    `images` (uint8 m c h w) are what is shown. Their `numbers` (m) are their places in the key of n images, and n more
    for each further view. `views` of each image follow one another, the image itself comes first. `cells` (k) are the
    numbers of the cells in the key, `labels` and `truth` (int64 k) theirs; `places` (int64 m, ascending) says to which
    of these, counted from 0, each image belongs.
    """

    numbers: list[int]
    images: NDArray[np.uint8]
    cells: list[int]
    labels: NDArray[np.int64]
    truth: NDArray[np.int64]
    places: NDArray[np.int64]
    classes: int
    views: int = 1

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def plain(self) -> slice:
        """Where the images of the key stand as they are, without their further views."""
        return slice(None, None, self.views)

    def without_views(self) -> OrderedQueries:
        """The images of the key as they are, without their further views."""
        plain = self.plain
        shown: Any = {name: getattr(self, name)[plain] for name in ("numbers", "images", "places")}
        return replace(self, **shown, views=1)

    def whole(self, images: int) -> int:
        """How many cells the first so many images show in full."""
        return len(self.cells) if images >= len(self) else int(self.places[images])

    def end(self, cells: int) -> int:
        """How many images show the first so many cells."""
        return int(np.searchsorted(self.places, cells))

    def part(self, first: int, end: int) -> OrderedQueries:
        """The cells from number `first` of the order to before `end`, alone."""
        shown = slice(self.end(first), self.end(end))
        return OrderedQueries(
            numbers=self.numbers[shown],
            images=self.images[shown],
            cells=self.cells[first:end],
            labels=self.labels[first:end],
            truth=self.truth[first:end],
            places=self.places[shown] - first,
            classes=self.classes,
            views=self.views,
        )


def order_queries(key: Key, count: int | None, seed: int, *, views: int = 1) -> OrderedQueries:
    """The first `count` cells of a key, or all, in an order that whoever knows `seed` finds, whatever the answers."""
    held = key.queries
    total = held.num_cells
    if not 1 <= (count or total) <= total:
        unit = "" if held.cells is None else " cells"
        raise ValueError(f"queries: {count} is not allowed: the key has {total}{unit}")
    cells = keyed_permutation(secret_from_seed(seed), "inquiry", total)[:count]
    belongs = np.arange(len(held)) if held.cells is None else held.cells.cpu().numpy()
    members = np.split(np.argsort(belongs, kind="stable"), np.cumsum(np.bincount(belongs))[:-1])
    chosen = np.concatenate([members[cell] for cell in cells])
    images = draw_views(held.images.cpu().numpy()[chosen], chosen.tolist(), secret=key.secret, views=views)
    return OrderedQueries(
        numbers=(chosen[:, None] + len(held) * np.arange(views)).ravel().tolist(),
        images=images.reshape(-1, *images.shape[2:]),
        cells=cells,
        labels=held.cell_labels.cpu().numpy()[cells],
        truth=held.cell_truth.cpu().numpy()[cells],
        places=np.repeat(np.arange(len(cells)), [views * len(members[cell]) for cell in cells]),
        classes=key.classes,
        views=views,
    )
