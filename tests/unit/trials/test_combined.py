"""A network with two keys, from its training to the decision over both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.attacks import Extraction
from mwm.config.spec import encode
from mwm.data.images import Augmentation
from mwm.data.splits import split
from mwm.storage.store import KEY, QUERIES, SECOND, Store
from mwm.trials.artifacts import key_folders, load_stored_key, query_set
from mwm.trials.outcome import LEVELS, Outcome
from mwm.trials.scoring import on_smaller_key, scored
from mwm.trials.trial import Trial, data_key, trial_digest
from mwm.trials.validation import validate_victim
from mwm.watermarks.evidence import Evidence, weigh
from mwm.watermarks.key import commitment, load_key, verify_derivation
from mwm.watermarks.queries import QuerySet
from mwm.watermarks.schemes import Combined, Confusion, TriggerSet
from mwm.watermarks.secret import second_secret
from tests.helpers.ended import answers
from tests.helpers.ranking import exact_p_value, one_hot
from tests.helpers.records import CPU, DATA, MARGIN, RECIPE, VICTIM, Loaded, done, owned, restarted, theft, timeless
from tests.unit.trials.test_measures import scores

SCHEME = Combined(queries=MARGIN, confusion=Confusion(mass=0.3))
BOTH = replace(VICTIM, scheme=SCHEME)
BLANK: dict[str, Any] = {"status": "done", "digest": "a", "victim_digest": "b", "data_digest": "c"}


def evidence(hint: float, cells: int, seed: int) -> tuple[Evidence, list[float], str]:
    """Made-up answers as evidence, its two p-values by whole numbers, and which cells match."""
    rows, labels, truth = answers(hint, cells=cells, classes=4, seed=seed)
    told = (labels.tolist(), truth.tolist())
    exact = (exact_p_value(form, *told) for form in (one_hot(rows.argmax(1).tolist(), 4), rows.tolist()))
    hits = "".join("01"[hit] for hit in (rows.argmax(1) == labels).tolist())
    return weigh(rows, labels, truth, classes=4), [float(p) for p in exact], hits


@given(hints=st.tuples(st.floats(0, 8), st.floats(0, 8)), few=st.integers(1, 5), seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_the_least_of_four_tests_times_four_decides(hints: tuple[float, float], few: int, seed: int) -> None:
    first, own, hits = evidence(hints[0], 6, seed)
    second, others, _ = evidence(hints[1], 4, seed + 1)
    told = scored(hits, replace(first, second=second), 4)
    expected = min(1.0, 4 * min(own + others))
    assert told["p_value"] == pytest.approx(expected)
    assert told["log10_p"] == pytest.approx(np.log10(expected), abs=1e-9)
    assert {name: told[name] for name in LEVELS} == {name: told["p_value"] <= level for name, level in LEVELS.items()}
    assert told["second_log10_p"] == pytest.approx(np.log10(min(1.0, 2 * min(others))), abs=1e-9)
    alone = scored(hits, first, 4)
    decided = {"p_value", "log10_p", *LEVELS}
    assert {k: v for k, v in told.items() if k in alone.keys() - decided} == {
        k: v for k, v in alone.items() if k not in decided
    }
    halved = [p <= 1e-3 / 2 for p in (first.p_value, second.p_value)]
    assert told["proven_1e3"] == any(halved), "each key at half the level comes to the same"
    smaller = on_smaller_key(Outcome(**BLANK, **told, classes=4), few)
    again = scored(hits[:few], replace(first.first(few), second=second), 4)
    assert {name: getattr(smaller, name) for name in again} == again


def least_p(outcome: str, key: QuerySet, store: Store, *, sets: Loaded, control: str | None) -> float:
    """The smaller p-value of labels and scores of a stored network on a key, by plain loops over its cells."""
    form = scores(store, outcome, key.images, sets)
    votes = np.eye(4)[form.argmax(1)]
    if control is not None:
        less = scores(store, control, key.images, sets)
        form, votes = np.exp(form) - np.exp(less), votes - np.eye(4)[less.argmax(1)]
    cells = np.arange(len(key)) if key.cells is None else key.cells.numpy()
    told = (key.cell_labels.tolist(), key.cell_truth.tolist())
    means = ([one[cells == cell].mean(0).tolist() for cell in range(key.num_cells)] for one in (form, votes))
    return min(float(exact_p_value(rows, *told)) for rows in means)


@pytest.mark.parametrize("control", [False, True])
def test_victims_and_students_are_judged_by_both_keys(control: bool, sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    victim = replace(BOTH, control=control, recipe=replace(RECIPE, epochs=8))
    trained, student = (done(trial, sets, store) for trial in (Trial(victim=victim), theft(Extraction(), victim)))
    twin = done(Trial(victim=victim.unwatermarked()), sets, store).digest if control else None
    keys = query_set(store, trained.digest).keys
    for outcome in (trained, student):
        first, second = (least_p(outcome.digest, key, store, sets=sets, control=twin) for key in keys)
        assert outcome.p_value == pytest.approx(min(1.0, 4 * min(first, second)))
        assert outcome.second_log10_p == pytest.approx(np.log10(min(1.0, 2 * second)), abs=1e-9)
        assert outcome.p_labels is not None
        assert outcome.p_scores is not None
        assert min(outcome.p_labels, outcome.p_scores) == pytest.approx(first)
        assert len(outcome.query_hits) == len(outcome.label_ranks.split()) == 9
        assert len(outcome.second_label_ranks.split()) == len(outcome.second_score_ranks.split()) == 4
        plain = min(least_p(outcome.digest, key, store, sets=sets, control=None) for key in keys)
        expected = pytest.approx(np.log10(min(1.0, 4 * plain)), abs=1e-9) if control else None
        assert outcome.log10_p_uncontrolled == expected
    assert trained.reestimated_query_acc is not None
    assert done(Trial(victim=victim), sets, store) == trained, "what is finished is told again"


@pytest.mark.parametrize("own", [False, True], ids=["seed", "secret"])
def test_a_victim_is_two_keys_which_come_out_of_its_data(own: bool, sets: Loaded, tmp_path: Path) -> None:
    victim, sets = owned(sets) if own else (VICTIM, sets)
    victim, store, dataset = replace(victim, scheme=SCHEME), Store(tmp_path), sets[data_key(DATA)]
    name, alone = (done(Trial(victim=one), sets, store).digest for one in (victim, replace(victim, scheme=MARGIN)))
    assert key_folders(store, name) == ["", f"{SECOND}/"]
    first, second = (load_key(store.folder(name) / folder) for folder in ("", SECOND))
    for key, folder in ((first, ""), (second, f"{SECOND}/")):
        verify_derivation(key, dataset)
        assert commitment(key) == commitment(load_stored_key(store, name, folder))
        assert (key.guessable, key.classes, key.split) == (not own, 4, encode(victim.split))
    assert (first.scheme, second.scheme, len(first.queries), len(second.queries)) == ("margin", "confusion", 9, 21)
    assert commitment(first) == commitment(load_stored_key(store, alone)), "the first key is that of its scheme alone"
    assert second.secret == second_secret(first.secret)
    assert len(second.left_out) == 9
    other = next(place for place in range(30) if place not in second.left_out)
    for places in ((), second.left_out[:-1], tuple(sorted({*second.left_out[1:], other}))):
        moved = replace(second, left_out=places)
        assert commitment(moved) != commitment(second)
        with pytest.raises(ValueError, match="of the key are not what its secret gives"):
            verify_derivation(moved, dataset)


def test_a_killed_training_of_both_ends_as_if_it_had_never_been(sets: Loaded, tmp_path: Path) -> None:
    straight, again = Store(tmp_path / "straight"), Store(tmp_path / "again")
    trial, attack = Trial(victim=BOTH), theft(Extraction(), BOTH)
    for one in (trial, attack):
        *_, end = restarted(one, sets, again, 2)
        assert timeless(end) == timeless(done(one, sets, straight))
    name = trial_digest(trial, sets)
    for file in (f"{SECOND}/{KEY}", f"{SECOND}/{QUERIES}"):
        sound = (again.folder(name) / file).read_bytes()
        (again.folder(name) / file).write_bytes(b"")
        assert again.outcome(name) is None, "a victim with a damaged key is not finished"
        assert timeless(done(trial, sets, again)) == timeless(done(trial, sets, straight))
        assert (again.folder(name) / file).read_bytes() == sound or file.endswith(KEY)
    (again.folder(name) / f"{SECOND}/{KEY}").write_bytes(b"")
    again.discard(name)
    assert not again.folder(name).exists()


@pytest.mark.parametrize(
    ("queries", "cells", "words"),
    [
        (30, 1, "class 0 has 0 images among the 0 that scheme.queries leaves, and scheme confusion needs 1"),
        (27, 1, r"class \d has 0 images among the 3 that scheme.queries leaves, and scheme confusion needs 1"),
        (9, 9, r"class \d has \d images among the 21 that scheme.queries leaves, and scheme confusion needs 9"),
    ],
)
def test_a_split_that_does_not_suffice_for_both_is_refused(queries: int, cells: int, words: str, sets: Loaded) -> None:
    scheme = Combined(queries=TriggerSet(num_queries=queries), confusion=Confusion(cells_per_class=cells))
    with pytest.raises(ValueError, match=rf"^victim\.split\.queries: 30 is not allowed: {words}$"):
        validate_victim(replace(VICTIM, scheme=scheme), sets)
    validate_victim(BOTH, sets)


def test_more_queries_than_the_split_holds_are_told_at_their_place() -> None:
    words = r"scheme\.queries\.num_queries: 31 is not allowed: must be at most split\.queries, 30"
    with pytest.raises(ValueError, match=words):
        replace(VICTIM, scheme=Combined(queries=TriggerSet(num_queries=31)))


def raises(what: Callable[[], object]) -> bool:
    try:
        what()
    except ValueError:
        return True
    return False


def test_a_victim_is_refused_where_its_second_key_cannot_be_drawn(sets: Loaded) -> None:
    scheme, found = Combined(queries=TriggerSet(num_queries=22)), set()
    source = split(sets[data_key(DATA)], VICTIM.split, CPU).queries
    for number in range(20):
        victim, held = owned(sets, secret := bytes([number]) * 32)
        refused = raises(partial(validate_victim, replace(victim, scheme=scheme), held))
        drawn = partial(scheme.draw, source, classes=4, augmentation=Augmentation(flip=False, pad=0), secret=secret)
        assert refused == raises(drawn)
        found.add(refused)
    assert found == {False, True}, "these secrets tell nothing"
