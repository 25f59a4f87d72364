"""No image of a trial has two roles."""

from __future__ import annotations

from pathlib import Path

from mwm.data.splits import split
from mwm.storage.store import Store
from mwm.trials.artifacts import perturbed_images
from mwm.trials.artifacts import query_set as query_set_of
from mwm.trials.trial import Trial, data_key
from tests.helpers.records import (
    CPU,
    DATA,
    VICTIM,
    Loaded,
    done,
)


def test_no_query_is_trained_on_or_chosen_by(sets: Loaded, tmp_path: Path) -> None:
    store, views = Store(tmp_path), split(sets[data_key(DATA)], VICTIM.split, CPU)
    outcome = done(Trial(victim=VICTIM), sets, store)
    queries = query_set_of(store, outcome.digest)
    rows = {name: {image.numpy().tobytes() for image in getattr(views, name).images} for name in views.__slots__}
    asked = {image.numpy().tobytes() for image in queries.images}
    assert len(asked) == 9
    assert asked <= rows["queries"]
    for role in ("owner", "validation", "disjoint", "test"):
        assert not asked & rows[role], role
    drift = (perturbed_images(store, outcome.digest).int() - queries.images.int()).abs()
    assert 0 < int(drift.max()) <= 2 * 8 + 1
