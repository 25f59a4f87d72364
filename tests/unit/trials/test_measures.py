"""What an outcome says beside accuracy: with a control, on a key of classes, after re-estimation of batch norm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mwm.attacks import BatchNormReestimation, Extraction
from mwm.data.splits import split
from mwm.models.build import build_model, channel_statistics
from mwm.storage.store import Store
from mwm.training.evaluation import predict_logits
from mwm.trials.artifacts import load_stored_key, query_set
from mwm.trials.scoring import on_class_key, on_smaller_key
from mwm.trials.trial import Trial, data_key
from mwm.trials.validation import validate_victim
from mwm.watermarks.evidence import log_probabilities
from mwm.watermarks.key import verify_derivation
from mwm.watermarks.schemes import Confusion, Margin
from tests.helpers.ranking import exact_p_value
from tests.helpers.records import CONTROL, CPU, DATA, MARKED, RECIPE, VICTIM, Loaded, done, theft

CONFUSED = replace(VICTIM, scheme=Confusion(mass=0.3), recipe=replace(RECIPE, epochs=12))


def scores(store: Store, digest: str, images: torch.Tensor, sets: Loaded) -> np.ndarray:
    """The log-probabilities of a stored network with the victim's architecture (m C)."""
    owner = split(sets[data_key(DATA)], VICTIM.split, CPU).owner
    mean, std = channel_statistics(owner.images)
    network = build_model(
        VICTIM.model, shape=(1, 6, 6), classes=4, mean=mean, std=std, generator=torch.Generator()
    ).eval()
    network.load_state_dict(store.weights(digest))
    return log_probabilities(predict_logits(network, images).double().numpy())


def test_the_answers_of_the_control_are_subtracted_where_the_victim_asks_for_it(sets: Loaded, tmp_path: Path) -> None:
    store, asked = Store(tmp_path), replace(VICTIM, control=True)
    owned, stolen = (done(trial, sets, store) for trial in (Trial(victim=asked), theft(Extraction(), asked)))
    twin = done(Trial(victim=asked.unwatermarked()), sets, store)
    key = query_set(store, owned.digest)
    for outcome in (owned, stolen):
        own, control = (scores(store, digest, key.images, sets) for digest in (outcome.digest, twin.digest))
        less = np.exp(own) - np.exp(control)
        expected = float(exact_p_value(less.tolist(), key.labels.tolist(), key.truth.tolist()))
        assert outcome.p_scores == pytest.approx(expected)
        plain = float(exact_p_value(own.tolist(), key.labels.tolist(), key.truth.tolist()))
        assert outcome.log10_p_uncontrolled is not None
        assert 10**outcome.log10_p_uncontrolled <= min(1.0, 2 * plain) * (1 + 1e-9)
    without = done(Trial(victim=VICTIM), sets, store)
    assert without.log10_p_uncontrolled is None
    assert without.log10_p == pytest.approx(owned.log10_p_uncontrolled), "the same network, differently judged"


def test_a_control_is_trained_once_and_judged_as_it_is(sets: Loaded, tmp_path: Path) -> None:
    store, asked = Store(tmp_path), replace(VICTIM, control=True)
    done(Trial(victim=asked), sets, store)
    names = {path.name for path in tmp_path.rglob("outcome.json")}
    twin = done(Trial(victim=asked.unwatermarked()), sets, store)
    assert names == {path.name for path in tmp_path.rglob("outcome.json")}
    assert twin.log10_p_uncontrolled is None
    assert twin.clean_acc == done(Trial(victim=CONTROL), sets, store).clean_acc


def test_confusion_is_judged_by_the_classes_of_its_cells(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = done(Trial(victim=CONFUSED), sets, store)
    key = load_stored_key(store, outcome.digest)
    verify_derivation(key, sets[data_key(DATA)])
    queries = key.queries
    assert queries.cells is not None
    logs = scores(store, outcome.digest, queries.images, sets)
    means = [logs[(queries.cells == cell).numpy()].mean(0).tolist() for cell in range(4)]
    expected = float(exact_p_value(means, queries.cell_labels.tolist(), queries.cell_truth.tolist()))
    assert outcome.p_scores == pytest.approx(expected)
    assert outcome.mean_rank is not None
    assert outcome.mean_rank < 0.25, "every class was taught which one comes second"
    assert len(outcome.query_hits) == 4
    pair = means[:2], queries.cell_labels.tolist()[:2], queries.cell_truth.tolist()[:2]
    assert on_smaller_key(outcome, 2).p_scores == pytest.approx(float(exact_p_value(*pair)))


def test_a_control_is_judged_on_the_key_of_classes_too(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    control, confused = (done(Trial(victim=one), sets, store) for one in (CONTROL, CONFUSED))
    key, on_classes = query_set(store, confused.digest), on_class_key(control)
    assert key.cells is not None
    logs = scores(store, control.digest, key.images, sets)
    means = [logs[(key.cells == cell).numpy()].mean(0).tolist() for cell in range(4)]
    expected = float(exact_p_value(means, key.cell_labels.tolist(), key.cell_truth.tolist()))
    assert on_classes.p_scores == pytest.approx(expected)
    assert on_class_key(confused) == confused


def test_a_marked_victim_says_what_it_is_with_sound_statistics(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    scheme = Margin(num_queries=9, queries_per_step=25, steps=5, step_size=30 / 255, weight=1.0)
    found = {}
    for mode in ("reference", "clean"):
        victim = replace(VICTIM, scheme=replace(scheme, batchnorm=mode))
        outcome = done(Trial(victim=victim), sets, store)
        attack = BatchNormReestimation(passes=5)
        repaired = done(theft(attack, victim), sets, store)
        assert outcome.reestimated_clean_acc == pytest.approx(repaired.clean_acc, abs=0.08)
        assert outcome.reestimated_query_acc is not None
        found[mode] = (outcome.clean_acc, outcome.reestimated_clean_acc)
        assert repaired.reestimated_clean_acc is None, "said of victims alone"
    assert found["reference"][1] == pytest.approx(found["clean"][1], abs=1e-9), "the same weights"
    assert done(Trial(victim=CONTROL), sets, store).reestimated_clean_acc is None


def test_a_query_split_without_one_of_the_classes_is_refused(sets: Loaded) -> None:
    few = replace(CONFUSED, split=replace(VICTIM.split, queries=3))
    with pytest.raises(ValueError, match=r"victim\.split\.queries: 3 is not allowed: class \d has 0 images among them"):
        validate_victim(few, sets)
    validate_victim(CONFUSED, sets)


def test_a_victim_is_marked_if_its_own_key_is_proven_on_it(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    marked, bare, control = (done(Trial(victim=victim), sets, store) for victim in (MARKED, VICTIM, CONTROL))
    assert (marked.marked, bare.marked, control.marked) == (True, False, None)
    assert marked.log10_p is not None
    assert marked.log10_p <= -3 < (bare.log10_p or 0.0)
    assert done(theft(BatchNormReestimation(passes=1), MARKED), sets, store).marked is None, "an attack is no victim"
