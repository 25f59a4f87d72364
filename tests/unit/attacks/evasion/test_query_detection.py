"""Query detection: half is remembered, the other half calibrates, the labels are the network's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mwm.attacks import Attack, QueryDetection
from mwm.attacks.access import TargetFacts
from mwm.config.spec import decode
from mwm.data.splits import LabeledImages, SplitSizes
from mwm.models.deployed import Deployed
from mwm.training.evaluation import predict_logits
from tests.helpers.records import DATA, VICTIM, Loaded
from tests.helpers.stealing import COUNT, access_for, some, victim

HALF = COUNT // 2


def detecting(attack: QueryDetection, access: Any = None) -> Deployed:
    (row,) = attack.run(access or access_for(attack))
    found = row.training.model
    assert isinstance(found, Deployed)
    return found.eval()


def found_again(points: Tensor, among: Tensor) -> list[int]:
    """The places of points among others, each of which is there once."""
    nearest = torch.cdist(points.double(), among.double()).min(1)
    assert nearest.values.max() < 1e-3
    return sorted(nearest.indices.tolist())


@pytest.mark.parametrize("space", ["features", "pixels"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_half_is_remembered_and_the_other_half_calibrates(space: Any, share: float) -> None:
    made = detecting(QueryDetection(neighbors=2, space=space, false_rejects=share))
    assert made.detector is not None
    images = some().images
    points = made.observe(images / 255).points
    kept = found_again(made.detector.references, points)
    assert len(kept) == len({*kept}) == HALF
    own = predict_logits(victim(), images).argmax(1)
    order = torch.cdist(made.detector.references, points).argmin(1)
    assert torch.equal(made.detector.labels, own[order]), "labels are those that the network gives"
    others = torch.tensor([row for row in range(COUNT) if row not in kept])
    assert int(made.rejects(images[others] / 255).sum()) == int(share * HALF)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"references": 7, "neighbors": 3}, 7),
        ({"method": "energy"}, 0),
        ({"method": "energy", "action": "relabel", "neighbors": 3}, HALF),
    ],
)
def test_as_many_are_remembered_as_are_needed(fields: Any, kept: int) -> None:
    made = detecting(QueryDetection(false_rejects=0.3, **fields))
    assert made.detector is not None
    assert len(made.detector.references) == len(made.detector.labels) == kept
    rejected = made.rejects(some().images / 255)
    if kept == 0:
        assert int(rejected.sum()) == int(0.3 * COUNT), "all images calibrate"


def test_strange_images_are_turned_away_and_usual_ones_are_not() -> None:
    """Own images are round one pattern, strange ones round its negative."""
    drawn = torch.Generator().manual_seed(0)
    pattern = torch.randint(2, (1, 1, 6, 6), generator=drawn) * 200
    attack = QueryDetection(neighbors=3, space="pixels", false_rejects=0.1)
    own, fresh, strange = (
        (base + torch.randint(55, (n, 1, 6, 6), generator=drawn)).byte()
        for base, n in ((pattern, 200), (pattern, 200), (200 - pattern, 50))
    )
    access = access_for(attack)
    labels = torch.zeros(200, dtype=torch.int64)
    made = detecting(attack, replace(access, images=LabeledImages(own, labels)))
    assert made.rejects(strange / 255).all()
    assert (predict_logits(made, strange) == 0).all(), "a refusal tells nothing"
    assert made.rejects(fresh / 255).double().mean().item() == pytest.approx(0.1, abs=0.08)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"neighbors": 40},
            r"^here.neighbors: 40 is not allowed: there are 32 references, of 64 images of the attacker$",
        ),
        ({"references": 3, "neighbors": 4}, r"^here.neighbors: 4 is not allowed: there are 3 references"),
        ({"method": "energy", "action": "relabel"}, r"^here.neighbors: 50 is not allowed: there are 32 references"),
        ({"method": "energy"}, ""),
        ({"neighbors": 32}, ""),
    ],
)
def test_fewer_references_than_neighbors_are_refused(fields: Any, words: str, sets: Loaded) -> None:
    split = SplitSizes(validation=46, queries=30)
    facts = TargetFacts(path="here", victim=replace(VICTIM, split=split), datasets={DATA: sets[key(DATA)]})
    attack = QueryDetection(**fields)
    if not words:
        attack.validate(facts)
        return
    with pytest.raises(ValueError, match=words):
        attack.validate(facts)


def key(data: Any) -> str:
    from mwm.trials.trial import data_key

    return data_key(data)


@pytest.mark.parametrize(("name", "value"), [("space", "pixels"), ("neighbors", 999999), ("references", 10)])
def test_what_means_nothing_without_references_is_one_line(name: str, value: Any) -> None:
    reason = "energy with refuse compares an image with no other: leave it out"
    told = rf"^attack\.{name}: {value!r} is not allowed: {reason}$"
    with pytest.raises(ValueError, match=told):
        decode(Attack, {"kind": "query_detection", "method": "energy", name: value}, "attack")
    decode(Attack, {"kind": "query_detection", "method": "energy", "action": "relabel", name: value}, "attack")
