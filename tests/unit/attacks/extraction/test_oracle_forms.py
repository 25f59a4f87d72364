"""Attacks on an oracle that answers in a form: what a student learns of it, what is said of it, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mwm.attacks import Attack, AttackSequence, Distillation, Extraction
from mwm.attacks.access import TargetFacts
from mwm.attacks.extraction.losses import distillation_kl
from mwm.attacks.sequence import AttackedNetwork
from mwm.config.spec import decode
from mwm.data.datasets import Digits
from mwm.data.readers import load_dataset
from mwm.data.splits import SplitSizes
from mwm.models.answers import LOG_ZERO, GaussianNoise, ReverseSigmoid, Rounding, Temperature, TopK, shaped
from mwm.training.recipe import MultiStep, Recipe
from tests.helpers.stealing import CLASSES, FILLED, RECIPE, STUDENT, access_for, forwards, plain_student, same, steal
from tests.helpers.stealing import victim as small_victim

TWO = (TopK(k=2),)
NOISE = (GaussianNoise(deviation=0.1),)


def answered(seed: int, rows: int = 5) -> tuple[Tensor, Tensor]:
    """Log-probabilities and logits (n 4), in float64."""
    drawn = torch.Generator().manual_seed(seed)
    teacher, student = (2 * torch.randn(2, rows, 4, generator=drawn, dtype=torch.float64)).unbind()
    return torch.log_softmax(teacher, 1), student


@given(seed=st.integers(0, 10**6), temperature=st.floats(0.3, 8), smoothing=st.sampled_from([0.0, 0.3]))
@pytest.mark.parametrize("forms", [TWO, (Rounding(digits=1),), (Rounding(digits=0),)], ids=["top_k", "tenths", "ones"])
def test_an_answer_counts_as_much_as_it_tells(forms: Any, seed: int, temperature: float, smoothing: float) -> None:
    teacher, student = answered(seed)
    told, total = shaped(teacher, forms), 0.0
    for row, guess in zip(told.exp().tolist(), student.tolist(), strict=True):
        if not sum(row):
            continue  # zeros say nothing
        powers, other = [p ** (1 / temperature) for p in row], [math.exp(z / temperature) for z in guess]
        for p, q in zip(powers, other, strict=True):
            share = (1 - smoothing) * p / sum(powers) + smoothing / 4
            total += sum(row) * share * math.log(share / (q / sum(other))) if share else 0.0
    found = distillation_kl(told, student, temperature, smoothing=smoothing, weighted=True)
    assert found.item() == pytest.approx(total / 5, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("form", [TopK(k=1), TopK(k=3), Rounding(digits=1)])
def test_its_slope_is_that_of_the_cross_entropy_with_the_probabilities_as_they_came(form: Any) -> None:
    teacher, logits = answered(3)
    told, student = shaped(teacher, [form]), logits.requires_grad_()
    (found,) = torch.autograd.grad(distillation_kl(told, student, 1.0, weighted=True), student)
    crossed = -(told.exp() * torch.log_softmax(student, 1)).sum(1).mean()
    (right,) = torch.autograd.grad(crossed, student)
    torch.testing.assert_close(found, right)
    assert not torch.allclose(torch.autograd.grad(distillation_kl(told, student, 1.0), student)[0], right)


def test_an_answer_of_zeros_teaches_nothing() -> None:
    student = answered(0)[1].requires_grad_()
    nothing = torch.full((5, 4), LOG_ZERO, dtype=torch.float64)
    loss = distillation_kl(nothing, student, 2.0, smoothing=0.1, weighted=True)
    (slope,) = torch.autograd.grad(loss, student)
    assert (loss.item(), slope.abs().max().item()) == (0.0, 0.0)


@pytest.mark.parametrize("budget", [None, 20])
@pytest.mark.parametrize("taught", [0.0, 0.3])
def test_a_student_of_an_oracle_with_top_k_is_a_plain_loop(budget: int | None, taught: float) -> None:
    kind: Any = Distillation if taught else Extraction
    attack = kind(oracle=TWO, query_budget=budget, student=STUDENT, recipe=Recipe(epochs=1, batch_size=10))

    def loss(student: Tensor, known: Tensor, labels: Tensor) -> Tensor:
        chances, logs = torch.softmax(known, 1), torch.log_softmax(student, 1)
        soft = []
        for row, guess in zip(chances, logs, strict=True):
            first, second = row.argsort(descending=True)[:2].tolist()
            soft.append(-(row[first] * guess[first] + row[second] * guess[second]))
        named = -logs[torch.arange(len(labels)), labels]
        return taught * named.mean() + (1 - taught) * torch.stack(soft).mean()

    attack = replace(attack, recipe=replace(attack.recipe, schedule=MultiStep()))
    stolen, plain = steal(attack), plain_student(attack, loss).state_dict()
    for key, value in plain.items():
        torch.testing.assert_close(stolen[key], value, rtol=1e-4, atol=2e-6)


def test_forms_that_normalise_are_learnt_as_the_divergence_of_what_they_say() -> None:
    sharper = steal(Extraction(oracle=(Temperature(temperature=0.5),), **FILLED))
    whole = steal(Extraction(oracle=(TopK(k=2, renormalize=True),), **FILLED))
    weighted = steal(Extraction(oracle=TWO, **FILLED))
    usual = steal(Extraction(**FILLED))
    assert not any(same(one, other) for one, other in [(sharper, usual), (whole, usual), (whole, weighted)])


@pytest.mark.parametrize(
    "how", [{}, {"cache_answers": True}, {"query_budget": 20}, {"query_budget": 10, "smoothing": 2}]
)
@pytest.mark.parametrize("forms", [TWO, NOISE])
def test_forms_cost_no_call_and_no_look_at_the_victim(forms: Any, how: dict[str, Any]) -> None:
    counts = []
    for oracle in ((), forms):
        model = small_victim()
        seen, attack = forwards(model), Extraction(oracle=oracle, **how, **FILLED)
        access = access_for(attack, model)
        steal(attack, access)
        counts.append((access.calls, sum(seen)))
    assert counts[0] == counts[1]
    assert counts[0][0] == counts[0][1]


def test_a_noisy_oracle_that_is_asked_again_says_something_else() -> None:
    once, always = (Extraction(oracle=NOISE, cache_answers=kept, **FILLED) for kept in (True, False))
    assert not same(steal(once, access_for(once, views=False)), steal(always, access_for(always, views=False)))
    quiet = [replace(attack, oracle=()) for attack in (once, always)]
    one, other = (steal(attack, access_for(attack, views=False)) for attack in quiet)
    for key, value in one.items():
        torch.testing.assert_close(value, other[key])


def test_a_hard_answer_names_the_class_of_what_is_let_through() -> None:
    for forms, alike in (
        ((GaussianNoise(deviation=0.5),), False),
        ((ReverseSigmoid(beta=1.6, gamma=1.0),), False),
        ((), True),
    ):
        attack = Extraction(labels="hard", oracle=forms, query_budget=30, **FILLED)
        answers = attack.kept_answers(access_for(attack)).answers
        plain = replace(attack, oracle=())
        assert torch.equal(answers, plain.kept_answers(access_for(plain)).answers) == alike
        assert answers.dtype == torch.int64


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"labels": "hard", "oracle": ["top_k"]}, r"^attack\.oracle\.0: 'top_k' is not allowed: hard answers name"),
        (
            {"labels": "hard", "oracle": ["reverse_sigmoid", "rounding"]},
            r"^attack\.oracle\.1: 'rounding' is not allowed: hard answers name the likeliest class",
        ),
        (
            {"labels": "hard", "oracle": [{"kind": "temperature", "temperature": 3}]},
            r"^attack\.oracle\.0: 'temperature' is not allowed",
        ),
        ({"flatten": True, "oracle": ["top_k", "rounding"]}, r"^attack\.flatten: true is not allowed: top_k 1 leaves"),
        ({"oracle": "top_k"}, r"^attack\.oracle: 'top_k' is not allowed: must be a list"),
        ({"oracle": ["quantized"]}, r"^attack\.oracle\.0: kind 'quantized' is unknown; allowed: 'top_k', 'rounding'"),
    ],
)
def test_forms_that_make_no_sense_are_refused(how: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        decode(Attack, {"kind": "extraction", **how}, "attack")
    assert len(str(refused.value).splitlines()) == 1


def test_a_form_before_one_that_disturbs_is_of_use_to_hard_answers() -> None:
    Extraction(labels="hard", oracle=(TopK(), Rounding(), GaussianNoise()))
    Extraction(flatten=True, oracle=(TopK(), GaussianNoise()))


def facts(recipe: Recipe = RECIPE, **how: Any) -> TargetFacts:
    target = AttackedNetwork(data=Digits(), split=SplitSizes(), model=STUDENT, recipe=recipe)
    return TargetFacts(path="attacks.0", victim=target, **{"datasets": {}, **how})


def test_as_many_of_the_largest_as_there_are_classes_are_refused() -> None:
    held = facts(datasets={Digits(): load_dataset(Digits())})
    Extraction(oracle=(Rounding(), TopK(k=9)), recipe=RECIPE).validate(held)
    with pytest.raises(ValueError, match=r"^attacks\.0\.oracle\.1\.k: 10 is not allowed: must be below 10"):
        Extraction(oracle=(Rounding(), TopK(k=10)), recipe=RECIPE).validate(held)
    Extraction(oracle=(TopK(k=10),), recipe=RECIPE).validate(facts())  # the data set is not here


@pytest.mark.parametrize("own", [True, False])
def test_noise_in_a_step_that_is_replayed_is_refused(own: bool) -> None:
    replayed = replace(RECIPE, cuda_graph=True)
    how: dict[str, Any] = {"recipe": replayed} if own else {}
    held = facts(RECIPE if own else replayed)
    where = "attacks.0.recipe" if own else "victim.recipe"
    words = f"attacks.0.oracle.1: 'gaussian_noise' is not allowed: {where}.cuda_graph replays the step that asks"
    with pytest.raises(ValueError, match=words):
        Extraction(oracle=(TopK(), GaussianNoise()), **how).validate(held)
    Extraction(oracle=(TopK(), GaussianNoise()), query_budget=20, **how).validate(held)
    Extraction(oracle=(TopK(), ReverseSigmoid()), **how).validate(held)


def test_the_threat_model_says_what_is_answered() -> None:
    forms = (TopK(k=3), Rounding(digits=2))
    assert Extraction().threat_model().answers == "soft"
    assert Extraction(oracle=forms).threat_model().answers == "soft, top_k 3, rounding 2"
    assert Extraction(labels="hard", oracle=NOISE).threat_model().answers == "hard, gaussian_noise 0.1"
    first = AttackSequence(steps=(Distillation(oracle=forms), Extraction()))
    assert first.threat_model().answers == "soft, top_k 3, rounding 2"


def test_kept_answers_are_those_of_the_forms() -> None:
    attack = Extraction(oracle=(TopK(k=2), Rounding(digits=1)), query_budget=12, **FILLED)
    answers = attack.kept_answers(access_for(attack)).answers.exp()
    tenths = answers * 10
    torch.testing.assert_close(tenths, tenths.round())
    assert ((answers > 0).sum(1) <= 2).all()
    assert answers.shape == (12, CLASSES)
