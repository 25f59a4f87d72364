"""Training a victim and stealing one: resume, sources, measures."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mwm.attacks import Distillation, Extraction
from mwm.attacks.sources import Disjoint, VictimData
from mwm.config import randomness
from mwm.config.spec import encode
from mwm.data.splits import LabeledImages, split
from mwm.models.build import build_model, channel_statistics
from mwm.models.networks import Cnn
from mwm.stats.binomial import log10_p, p_value
from mwm.stats.intervals import clopper_pearson
from mwm.storage.store import KEY, Store
from mwm.trials.artifacts import query_set as query_set_of
from mwm.trials.outcome import EpochMetrics, Outcome
from mwm.trials.run import run
from mwm.trials.scoring import on_smaller_key
from mwm.trials.trial import METHOD_VERSION, Trial, data_key, trial_digest, victim_digest
from mwm.watermarks.key import commitment, load_key, verify_derivation
from mwm.watermarks.queries import QuerySet
from tests.helpers.ranking import exact_p_value, one_hot
from tests.helpers.records import (
    CPU,
    DATA,
    FOREIGN,
    RECIPE,
    SCHEMES,
    VICTIM,
    Loaded,
    done,
    owned,
    restarted,
    same,
    theft,
    timeless,
)

BEST = Trial(victim=replace(VICTIM, recipe=replace(RECIPE, lr=0.4, keep="best_validation")))
TRIALS = [
    Trial(victim=VICTIM),
    BEST,
    theft(Extraction()),
    theft(Extraction(labels="hard", seed=3, recipe=replace(RECIPE, lr=0.2))),
    theft(Distillation(student=Cnn(width=3, depth=1))),
    theft(Extraction(query_budget=40)),
    theft(Distillation(query_budget=20, source=Disjoint())),
    theft(Extraction(cache_answers=True)),
    theft(Extraction(labels="hard", source=FOREIGN)),
]
NAMES = ["last", "best", "soft", "hard", "distillation", "soft-40", "distillation-20", "saved", "augmented"]
CALLS = [None, None, 144, 144, 144, 40, 20, 52, 96]
"""Of 52 images of the owner's and of 40 foreign ones, in three epochs of batches of 16."""


@pytest.mark.parametrize(("trial", "calls"), [*zip(TRIALS, CALLS, strict=True)], ids=NAMES)
def test_a_killed_trial_ends_as_if_it_had_never_been(
    trial: Trial, calls: int | None, sets: Loaded, tmp_path: Path
) -> None:
    straight, name = Store(tmp_path / "straight"), trial_digest(trial, sets)
    if trial.attack is not None:
        done(Trial(victim=trial.victim), sets, straight)
    *rows, outcome = run(trial, sets, straight, CPU)
    assert straight.checkpoint(name) is None, "a finished trial left its checkpoint"
    for after in (1, 2, 3):
        store = Store(tmp_path / str(after))
        if trial.attack is not None:
            done(Trial(victim=trial.victim), sets, store)
        *again, end = restarted(trial, sets, store, after)
        untimed = [[asdict(row) | {"epoch_seconds": None} for row in part] for part in (again, rows)]
        assert untimed[0] == untimed[1]
        assert store.rows(name) == [asdict(row) for row in again]
        assert timeless(end) == timeless(outcome)
        assert isinstance(end, Outcome)
        assert end.oracle_calls == calls
        assert same(store.weights(name), straight.weights(name))


def test_a_restart_loses_no_epoch_that_was_told(sets: Loaded, tmp_path: Path) -> None:
    for after in (1, 2, 3):
        store = Store(tmp_path / str(after))
        told = list(islice(run(TRIALS[0], sets, store, CPU), after))
        again = list(run(TRIALS[0], sets, store, CPU))
        kept = min(after, TRIALS[0].victim.recipe.epochs - 1)
        assert again[:kept] == told[:kept], "an epoch that was told, its seconds among it, was trained again"


def test_an_attack_trains_a_damaged_victim_again(sets: Loaded, tmp_path: Path) -> None:
    store, attack = Store(tmp_path / "store"), theft(Extraction())
    victim = done(Trial(victim=VICTIM), sets, store)
    weights = {key: value.clone() for key, value in store.weights(victim.digest).items()}
    path = store.folder(victim.digest) / "model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    stolen = done(attack, sets, store)
    assert same(store.weights(victim.digest), weights)
    whole = Store(tmp_path / "whole")
    done(Trial(victim=VICTIM), sets, whole)
    assert timeless(done(attack, sets, whole)) == timeless(stolen)


@pytest.mark.parametrize("own", [False, True], ids=["seed", "secret"])
def test_a_finished_victim_is_a_key(own: bool, sets: Loaded, tmp_path: Path) -> None:
    victim, sets = owned(sets, b"\x0f" * 32) if own else (VICTIM, sets)
    store, dataset = Store(tmp_path / "store"), sets[data_key(DATA)]
    outcome = done(Trial(victim=victim), sets, store)
    folder = store.folder(outcome.digest)
    key = load_key(folder)
    verify_derivation(key, dataset)
    assert key.secret == (b"\x0f" * 32 if own else randomness.secret_from_seed(VICTIM.seed))
    assert (key.guessable, key.scheme, key.classes, key.data_digest) == (not own, "margin", 4, dataset.digest)
    assert (key.data["kind"], key.split, key.method) == ("npz", encode(VICTIM.split), METHOD_VERSION)
    assert key.queries.digest() == outcome.query_digest
    published, told = commitment(key), (folder / KEY).read_bytes()
    (folder / "model.safetensors").write_bytes(b"")
    assert timeless(done(Trial(victim=victim), sets, store)) == timeless(outcome)
    assert (folder / KEY).read_bytes() == told, "what was sound stays as old as it is"
    (folder / KEY).write_bytes(b"")
    assert timeless(done(Trial(victim=victim), sets, store)) == timeless(outcome)
    assert commitment(load_key(folder)) == published


def test_another_secret_is_another_key(sets: Loaded, tmp_path: Path) -> None:
    store, (marked, sets) = Store(tmp_path / "store"), owned(sets)
    plain, own = (done(Trial(victim=victim), sets, store) for victim in (VICTIM, marked))
    assert plain.digest != own.digest
    assert plain.query_digest != own.query_digest
    stolen = done(theft(Extraction(), marked), sets, store)
    assert (stolen.victim_digest, stolen.query_digest) == (own.digest, own.query_digest)


def test_a_finished_trial_only_tells_its_outcome(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    *rows, outcome = run(Trial(victim=VICTIM), sets, store, CPU)
    assert [row.epoch for row in rows if isinstance(row, EpochMetrics)] == [1, 2, 3]
    assert list(run(Trial(victim=VICTIM), sets, store, CPU)) == [outcome]


def test_the_same_trial_twice_differs_in_its_seconds_alone(sets: Loaded, tmp_path: Path) -> None:
    for trial in (Trial(victim=VICTIM), theft(Extraction())):
        one, two = (done(trial, sets, Store(tmp_path / folder)) for folder in ("one", "two"))
        assert timeless(one) == timeless(two)
        assert one.seconds != two.seconds


def test_two_seeds_are_two_results(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    victims = [done(Trial(victim=replace(VICTIM, seed=seed)), sets, store) for seed in (0, 1)]
    thieves = [done(theft(Extraction(seed=seed)), sets, store) for seed in (0, 1)]
    for one, two in (victims, thieves):
        assert one.digest != two.digest
        assert one.margin_mean != two.margin_mean
        assert not same(store.weights(one.digest), store.weights(two.digest))
    assert victims[0].query_digest != victims[1].query_digest
    assert thieves[0].query_digest == thieves[1].query_digest == victims[0].query_digest


def rebuilt(weights: dict[str, Tensor], model: Cnn, statistics: Tensor) -> nn.Module:
    """A stored network, ready to answer."""
    mean, std = channel_statistics(statistics)
    network = build_model(model, shape=(1, 6, 6), classes=4, mean=mean, std=std, generator=torch.Generator()).eval()
    network.load_state_dict(weights)
    return network


def measured(network: nn.Module, test: LabeledImages, queries: QuerySet) -> tuple[dict[str, Any], list[int]]:
    """What an outcome says of a network, by plain loops over single images; and its labels for the test images."""
    with torch.no_grad():
        clean, held = ([network(x[None] / 255)[0].tolist() for x in part.images] for part in (test, queries))
    named, asked = ([row.index(max(row)) for row in rows] for rows in (clean, held))
    wanted = queries.labels.tolist()
    matches = sum(a == b for a, b in zip(asked, wanted, strict=True))
    firm = [row[t] - max(row[:t] + row[t + 1 :]) for row, t in zip(held, wanted, strict=True)]
    numbers = {
        "clean_acc": sum(a == b for a, b in zip(named, test.labels.tolist(), strict=True)) / len(test),
        "query_acc": matches / len(queries),
        "query_matches": matches,
        "margin_mean": pytest.approx(sum(firm) / len(firm), abs=1e-5),
        "margin_min": pytest.approx(min(firm), abs=1e-5),
        "p_unconditional": p_value(matches, len(queries), 4),
        "log10_p_unconditional": log10_p(matches, len(queries), 4),
        **dict(zip(("query_low", "query_high"), clopper_pearson(matches, len(queries)), strict=True)),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "query_digest": queries.digest(),
    }
    labels, scores = (float(exact_p_value(rows, wanted, queries.truth.tolist())) for rows in (one_hot(asked, 4), held))
    decided = min(1.0, 2 * min(labels, scores))
    numbers |= {"p_labels": pytest.approx(labels), "p_scores": pytest.approx(scores)}
    numbers |= {"p_value": pytest.approx(decided), "proven_1e3": decided <= 1e-3, "proven_1e6": decided <= 1e-6}
    numbers["wrong_answers"] = sum(a != b for a, b in zip(asked, queries.truth.tolist(), strict=True))
    return numbers, named


def test_an_outcome_can_be_measured_again_from_what_is_stored(sets: Loaded, tmp_path: Path) -> None:
    store, dataset = Store(tmp_path), sets[data_key(DATA)]
    views, student = split(dataset, VICTIM.split, CPU), Cnn(width=3, depth=1)
    owned = done(Trial(victim=VICTIM), sets, store)
    stolen = done(theft(Extraction(student=student, recipe=replace(RECIPE, epochs=2))), sets, store)
    named = []
    for outcome, model in ((owned, VICTIM.model), (stolen, student)):
        assert isinstance(model, Cnn)
        network = rebuilt(store.weights(outcome.digest), model, views.owner.images)
        numbers, labels = measured(network, views.test, query_set_of(store, owned.digest))
        named.append(labels)
        numbers |= {"status": "done", "error": "", "victim_digest": owned.digest, "data_digest": dataset.digest}
        assert {k: asdict(outcome)[k] for k in numbers} == numbers
    assert stolen.agreement == pytest.approx(sum(a == b for a, b in zip(*named, strict=True)) / 40, abs=1e-12)
    assert (owned.agreement, owned.oracle_calls) == (None, None)
    assert (owned.best_epoch, stolen.best_epoch) == (3, 2)
    assert stolen.oracle_calls == 2 * (len(views.owner) // 16) * 16 == 96


def test_the_best_epoch_is_the_one_that_is_measured(sets: Loaded, tmp_path: Path) -> None:
    *rows, outcome = run(BEST, sets, Store(tmp_path), CPU)
    assert isinstance(outcome, Outcome)
    scores = [row.val_acc for row in rows if isinstance(row, EpochMetrics)]
    assert outcome.best_epoch == scores.index(max(scores)) + 1 < 3, "this training cannot tell the best from the last"
    last = done(Trial(victim=replace(VICTIM, recipe=replace(RECIPE, lr=0.4))), sets, Store(tmp_path))
    assert (last.best_epoch, last.query_digest) == (3, outcome.query_digest)
    assert last.margin_mean != outcome.margin_mean


def test_the_victim_of_a_theft_stays_as_it_is(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = done(Trial(victim=VICTIM), sets, store).digest
    before = {path: path.read_bytes() for path in store.folder(name).iterdir()}
    done(theft(Extraction()), sets, store)
    assert {path: path.read_bytes() for path in store.folder(name).iterdir()} == before


@pytest.mark.parametrize(
    ("source", "calls"), [(VictimData(), 48), (Disjoint(), 32), (FOREIGN, 32)], ids=["same", "disjoint", "foreign"]
)
def test_a_thief_has_the_images_of_its_source(source: Any, calls: int, sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    done(Trial(victim=VICTIM), sets, store)
    outcome = done(theft(Extraction(source=source, recipe=replace(RECIPE, epochs=1))), sets, store)
    assert outcome.oracle_calls == calls
    weights, views = store.weights(outcome.digest), split(sets[data_key(DATA)], VICTIM.split, CPU)
    own = {"same": views.owner, "disjoint": views.disjoint}.get(source.kind)
    mean = weights["normalise.mean"].flatten().tolist()
    if own is not None:
        assert mean == pytest.approx(channel_statistics(own.images)[0], abs=1e-6)
    else:
        grey = (sets[data_key(FOREIGN)].x_train * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(1).mean() / 255
        assert mean == pytest.approx([grey], abs=0.02)
        assert weights["network.fc.weight"].shape[0] == 4


def test_a_thief_of_too_few_images_is_refused(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    done(Trial(victim=VICTIM), sets, store)
    attack = Extraction(source=Disjoint(), recipe=replace(RECIPE, batch_size=35))
    with pytest.raises(ValueError, match=r"recipe\.batch_size: 35 is not allowed: there are 34 images"):
        list(run(theft(attack), sets, store, CPU))


def test_divergence_is_a_failed_outcome_with_its_reason(sets: Loaded, tmp_path: Path) -> None:
    wild, store = replace(VICTIM, recipe=replace(RECIPE, lr=1e30)), Store(tmp_path)
    (outcome,) = run(Trial(victim=wild), sets, store, CPU)
    assert isinstance(outcome, Outcome)
    assert outcome.status == "failed"
    assert outcome.error == "the loss is nan in epoch 1 (recipe.lr 1e+30): lower the rate"
    assert outcome.digest == outcome.victim_digest == victim_digest(wild, sets)
    assert (outcome.clean_acc, outcome.query_acc, outcome.p_value) == (None, None, None)
    assert store.outcome(outcome.digest) is None


def test_every_scheme_is_scored_on_the_same_queries(sets: Loaded, tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcomes = [done(Trial(victim=replace(VICTIM, scheme=scheme)), sets, store) for scheme in SCHEMES]
    assert outcomes[0].query_digest == outcomes[1].query_digest != outcomes[2].query_digest
    assert len({outcome.digest for outcome in outcomes}) == 3
    first, *others = (query_set_of(store, outcome.digest) for outcome in outcomes)
    assert [len(key) for key in (first, *others)] == [9, 9, 30], "a control is scored on all query images"
    for key in others:
        assert torch.equal(key.images[:9], first.images)
        assert torch.equal(key.labels[:9], first.labels)
    control, smaller = outcomes[2], on_smaller_key(outcomes[2], 9)
    assert (len(control.query_hits), smaller.query_hits) == (30, control.query_hits[:9])
    assert smaller.query_matches == smaller.query_hits.count("1")
    assert smaller.p_unconditional == p_value(smaller.query_hits.count("1"), 9, 4)
    assert smaller.label_ranks.split() == control.label_ranks.split()[:9]
    assert on_smaller_key(outcomes[0], 9) == outcomes[0]
