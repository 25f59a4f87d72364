"""Names of classes: a victim's key has those of its data, and no digest depends on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mwm.storage.store import Store
from mwm.trials.trial import Trial, TrialInputs, data_key
from mwm.watermarks.key import commitment, load_key
from tests.helpers.records import DATA, VICTIM, Loaded, done

NAMES = ("ant", "bee", "cat", "dog")


def test_a_key_has_the_names_of_the_classes_and_keeps_those_that_it_was_made_with(sets: Loaded, tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), Store(tmp_path / "other")
    plain = done(Trial(victim=VICTIM), sets, store)
    named = TrialInputs({data_key(DATA): replace(sets[data_key(DATA)], class_names=NAMES)})
    assert done(Trial(victim=VICTIM), named, other).digest == plain.digest
    assert load_key(other.folder(plain.digest)).class_names == NAMES
    folder = store.folder(plain.digest)
    published = commitment(load_key(folder))
    (folder / "model.safetensors").write_bytes(b"")
    done(Trial(victim=VICTIM), named, store)
    assert commitment(load_key(folder)) == published
