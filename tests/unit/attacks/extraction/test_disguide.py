"""DisGUIDE: its two losses against plain loops, two students, and what is replayed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mwm.attacks import Attack, Disguide
from mwm.attacks.extraction.disguide import class_entropy, disagreement
from mwm.attacks.extraction.generator import as_images
from mwm.config.spec import decode
from tests.helpers.stealing import CLASSES, access_for
from tests.unit.attacks.extraction.cases import GAME


def said(students: int = 2) -> torch.Tensor:
    """Probabilities of students (s n C)."""
    drawn = torch.Generator().manual_seed(4)
    return (2 * torch.randn(students, 9, CLASSES, generator=drawn, dtype=torch.float64)).softmax(2)


@pytest.mark.parametrize("students", [2, 3])
def test_disagreement_is_that_of_a_plain_loop(students: int) -> None:
    given, total = said(students), 0.0
    for image in range(9):
        for label in range(CLASSES):
            values = given[:, image, label].tolist()
            mean = sum(values) / students
            total += math.sqrt(sum((value - mean) ** 2 for value in values) / (students - 1))
    assert disagreement(given).item() == pytest.approx(total / 9 / CLASSES, rel=1e-9)


def test_of_two_students_it_is_half_the_root_of_two_of_their_distance() -> None:
    one, other = said()
    assert disagreement(said()).item() == pytest.approx((one - other).abs().mean().item() / math.sqrt(2), rel=1e-9)


def test_diversity_is_the_entropy_of_mean_probabilities() -> None:
    means = [sum(said()[s, n, c].item() for s in range(2) for n in range(9)) / 18 for c in range(CLASSES)]
    expected = -sum(mean * math.log(mean) for mean in means)
    assert class_entropy(said()).item() == pytest.approx(expected, rel=1e-4)
    certain = torch.eye(CLASSES)[None].repeat(2, 1, 1)
    assert class_entropy(certain).item() == pytest.approx(math.log(CLASSES), rel=1e-4)
    assert class_entropy(certain[:, :1]).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("diversity", [0.0, 5.0])
def test_the_generator_raises_both_and_asks_nobody(diversity: float) -> None:
    attack = Disguide(diversity=diversity, generator_lr=1e-2, **{**GAME, "generator_width": 8})
    access: Any = access_for(attack)
    game, draw = attack.begin(access), torch.Generator().manual_seed(0)

    def gain() -> float:
        with torch.no_grad():
            images = as_images(game.generator.train()(torch.randn(200, 5, generator=torch.Generator().manual_seed(1))))
            answers = torch.stack([student.eval()(images).softmax(1) for student in game.students])
            return (disagreement(answers) + diversity * class_entropy(answers)).item()

    before, weights = gain(), [student.state_dict() for student in game.students]
    kept = [{name: value.clone() for name, value in one.items()} for one in weights]
    for _ in range(20):
        attack.teach_generator(game, access, draw)
    assert gain() > before
    assert access.calls == 0
    for student, one in zip(game.students, kept, strict=True):
        assert all(torch.equal(value, one[name]) for name, value in student.state_dict().items())


def test_two_students_begin_and_end_differently_and_the_first_is_kept() -> None:
    attack = Disguide(query_budget=40, **GAME)
    (row,) = attack.run(access_for(attack))
    game: Any = row.training
    assert game.model is game.students[0]
    first, second = (student.state_dict() for student in game.students)
    assert not any(torch.equal(first[name], second[name]) for name in first if name.endswith("conv.weight"))
    begun = attack.network(access_for(attack)).state_dict()
    assert any(not torch.equal(first[name], begun[name]) for name in begun)


@pytest.mark.parametrize(("steps", "replayed"), [(1, 3), (2, 1), (1, 0)])
def test_students_learn_new_batches_then_replayed_ones(steps: int, replayed: int) -> None:
    replay: dict[str, Any] = {"replay_steps": replayed} | ({"replay_size": 8} if replayed else {})
    attack = Disguide(query_budget=8 * 2 * steps, student_steps=steps, **replay, **GAME)
    access: Any = access_for(attack)
    game, draw, seen = attack.begin(access), torch.Generator().manual_seed(0), list[torch.Tensor]()
    game.students[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    attack.teach_students(game, access, draw)
    assert access.calls == 8 * steps
    assert len(seen) == steps + replayed
    last = {image.numpy().tobytes() for image in seen[steps - 1]}
    for batch in seen[steps:]:
        assert {image.numpy().tobytes() for image in batch} <= last, "of 8 images the last batch alone is remembered"


def test_the_memory_is_no_larger_than_what_is_ever_asked() -> None:
    attack = Disguide(query_budget=40, **GAME)
    (row,) = attack.run(access_for(attack))
    state = row.training.state()
    assert len(state["memory"]["images"]) == len(state["memory"]["answers"]) == state["memory"]["written"] == 40
    assert state["memory"]["images"].dtype == torch.uint8


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"replay_size": 100}, r"^attack\.replay_size: 100 is not allowed: must be at least batch_size, 256$"),
        (
            {"replay_size": 500, "replay_steps": 0},
            r"^attack\.replay_size: 500 is not allowed: replay_steps is 0, nothing is replayed$",
        ),
        ({"diversity": -1.0}, r"^attack\.diversity: -1.0 is not allowed"),
        ({"labels": "top"}, r"^attack\.labels: 'top' is not allowed"),
    ],
)
def test_what_makes_no_sense_is_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Attack, {"kind": "disguide", **how}, "attack")
