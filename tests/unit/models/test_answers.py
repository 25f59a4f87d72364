"""Forms of answers: each against a plain loop, their order, and what is left of an answer of zeros."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mwm.config.randomness import make_generator
from mwm.config.spec import decode, encode
from mwm.models.answers import (
    LOG_ZERO,
    AnswerForm,
    FormRecord,
    GaussianNoise,
    ReverseSigmoid,
    Rounding,
    Temperature,
    TopK,
    check_forms,
    form_words,
    is_normalized,
    shaped,
)

Row = list[float]
FORMS: list[FormRecord] = [
    *(TopK(), TopK(k=3), TopK(k=2, renormalize=True)),
    *(Rounding(), Rounding(digits=0), Rounding(digits=1), Temperature(temperature=3.0), Temperature(temperature=0.25)),
    *(ReverseSigmoid(), ReverseSigmoid(beta=0.008, gamma=0.2), ReverseSigmoid(beta=3.0, gamma=2.0)),
    *(GaussianNoise(), GaussianNoise(deviation=0.01)),
]


def log_chances(seed: int, *, rows: int = 5, classes: int = 6, spread: float = 3.0) -> Tensor:
    """Log-probabilities (n C) in float64."""
    drawn = torch.randn(rows, classes, generator=make_generator(seed), dtype=torch.float64)
    return torch.log_softmax(spread * drawn, 1)


def over_sum(row: Row) -> Row:
    """A row divided by its sum; uniform if that is 0."""
    return [one / sum(row) for one in row] if sum(row) else [1 / len(row)] * len(row)


def plain_top_k(row: Row, form: Any) -> Row:
    kept = sorted(range(len(row)), key=lambda place: (-row[place], place))[: form.k]
    cut = [one if place in kept else 0.0 for place, one in enumerate(row)]
    return over_sum(cut) if form.renormalize else cut


def plain_rounding(row: Row, form: Any) -> Row:
    return [round(one * 10**form.digits) / 10**form.digits for one in row]  # Python's halves go to even, too


def plain_temperature(row: Row, form: Any) -> Row:
    return over_sum([one ** (1 / form.temperature) for one in row])


def plain_reverse_sigmoid(row: Row, form: Any) -> Row:
    moved = []
    for one in row:
        inside = min(max(one, 1e-9), 1 - 1e-9)
        logit = math.log(inside / (1 - inside))
        moved.append(min(max(one - form.beta * (1 / (1 + math.exp(-form.gamma * logit)) - 0.5), 0.0), 1.0))
    return over_sum(moved)


PLAIN: dict[str, Callable[[Row, Any], Row]] = {
    "top_k": plain_top_k,
    "rounding": plain_rounding,
    "temperature": plain_temperature,
    "reverse_sigmoid": plain_reverse_sigmoid,
}


def plain(chances: list[Row], form: Any, noise: list[Row]) -> list[Row]:
    if form.kind == "gaussian_noise":
        pairs = zip(chances, noise, strict=True)
        return [over_sum([max(c + form.deviation * z, 0.0) for c, z in zip(*pair, strict=True)]) for pair in pairs]
    return [PLAIN[form.kind](row, form) for row in chances]


def close(found: Tensor, chances: list[Row]) -> None:
    right = torch.tensor(chances, dtype=torch.float64)
    torch.testing.assert_close(found.double().exp(), right, rtol=1e-9, atol=1e-12)
    assert torch.equal(found < -1e29, right == 0), "a chance of nothing has its own logarithm"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form_words([form]))
@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0])
def test_a_form_is_what_a_plain_loop_makes(form: FormRecord, spread: float) -> None:
    answers = log_chances(1, spread=spread)
    noise = torch.randn(5, 6, generator=make_generator(4), dtype=torch.float64).tolist()
    found = shaped(answers, [form], make_generator(4))
    close(found, plain(answers.exp().tolist(), form, noise))
    assert found.isfinite().all()
    if form.normalizes:
        torch.testing.assert_close(found.exp().sum(1), torch.ones(5, dtype=torch.float64))
    assert shaped(answers.float(), [form], make_generator(4)).dtype == torch.float32


@given(seed=st.integers(0, 10**6), picks=st.lists(st.sampled_from(FORMS[:-2]), max_size=4))
def test_forms_are_put_on_in_their_order(seed: int, picks: list[FormRecord]) -> None:
    answers = log_chances(seed)
    right = answers.exp().tolist()
    for form in picks:
        right = plain(right, form, [])
    found = shaped(answers, picks).exp()
    near = torch.isclose(found, torch.tensor(right, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    rounded = any(isinstance(form, Rounding) for form in picks[1:])  # where a last bit may decide a digit
    assert near.all() or rounded
    assert found.isfinite().all()
    if is_normalized(tuple(picks)):
        torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=torch.float64))


def test_the_order_of_forms_matters() -> None:
    answers = torch.tensor([[0.46, 0.31, 0.23]], dtype=torch.float64).log()
    cut, digit = TopK(k=2, renormalize=True), Rounding(digits=1)
    assert shaped(answers, [cut, digit]).exp().tolist() == [pytest.approx([0.6, 0.4, 0.0])]
    assert shaped(answers, [digit, cut]).exp().tolist() == [pytest.approx([0.5 / 0.8, 0.3 / 0.8, 0.0])]


def test_without_a_form_answers_are_the_very_same() -> None:
    answers = log_chances(2)
    assert shaped(answers, ()) is answers
    assert is_normalized(())
    assert form_words(()) == ""


def test_kept_probabilities_are_not_renormalized_unless_it_is_said() -> None:
    answers = log_chances(3)
    found, largest = shaped(answers, [TopK(k=2)]), answers.exp().topk(2).values
    torch.testing.assert_close(found.exp().sum(1), largest.sum(1))
    assert torch.equal(found.topk(2).values, answers.topk(2).values), "what is kept stays as it is"
    assert [is_normalized((form,)) for form in (TopK(), TopK(renormalize=True), Rounding())] == [False, True, False]
    assert not is_normalized((Temperature(temperature=2.0), Rounding()))
    assert is_normalized((Rounding(), Temperature(temperature=2.0)))


def test_of_equal_probabilities_those_of_lower_classes_are_kept() -> None:
    answers = torch.tensor([[0.2, 0.3, 0.3, 0.2], [0.25] * 4]).log()
    kept = shaped(answers, [TopK(k=3)]) > LOG_ZERO
    assert kept.tolist() == [[True, True, True, False], [True, True, True, False]]


def test_an_answer_of_zeros_is_finite_and_becomes_uniform_where_it_is_normalized() -> None:
    flat = torch.full((2, 5), 0.2).log()
    nothing = shaped(flat, [Rounding(digits=0)])
    assert nothing.exp().sum() == 0
    for form in (TopK(k=2, renormalize=True), Temperature(temperature=1e-20), ReverseSigmoid()):
        torch.testing.assert_close(shaped(nothing, [form]).exp(), torch.full((2, 5), 0.2))
    many = torch.full((200, 2), 0.5).log()
    noisy = shaped(many, [Rounding(digits=0), GaussianNoise()], make_generator(0)).exp()
    uniform = (noisy == 0.5).all(1)
    assert uniform.float().mean() == pytest.approx(1 / 4, abs=0.1), "both cut"
    assert torch.allclose(noisy.sum(1), torch.ones(200))


def test_temperature_is_that_of_the_logits() -> None:
    logits = 4 * torch.randn(7, 5, generator=make_generator(9), dtype=torch.float64)
    found = shaped(torch.log_softmax(logits, 1), [Temperature(temperature=2.5)])
    torch.testing.assert_close(found, torch.log_softmax(logits / 2.5, 1))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form_words([form]))
def test_whether_a_form_keeps_the_order_is_told_truly(form: FormRecord) -> None:
    answers = log_chances(6, rows=400, spread=2.0)
    found = shaped(answers, [form], make_generator(1))
    likelier = answers[:, :, None] > answers[:, None]
    kept = not (likelier & (found[:, :, None] < found[:, None] - 1e-12)).any()
    assert kept or not form.keeps_order
    usual = type(form)() if not isinstance(form, Temperature) else form
    assert form.keeps_order or usual != form or not kept
    alone = (answers == answers.amax(1, keepdim=True)).sum(1) == 1
    level = ((found == found.amax(1, keepdim=True)).sum(1) > 1)[alone].any()
    assert form.levels or not form.keeps_order or not level
    assert not form.levels or (isinstance(form, Rounding) and (form.digits > 1 or level))


def test_noise_follows_from_the_generator_alone() -> None:
    answers, noise = log_chances(8), [GaussianNoise()]
    one, again, other = (shaped(answers, noise, make_generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    with pytest.raises(AssertionError, match="needs a generator"):
        shaped(answers, noise)


def test_forms_are_read_from_yaml_and_told_in_words() -> None:
    tree = [{"kind": "top_k", "k": 3}, "rounding", {"kind": "temperature", "temperature": 4}]
    forms = decode(tuple[AnswerForm, ...], tree)
    assert forms == (TopK(k=3), Rounding(digits=3), Temperature(temperature=4.0))
    assert form_words(forms) == "top_k 3, rounding 3, temperature 4"
    assert form_words([TopK(k=2, renormalize=True), GaussianNoise()]) == "top_k 2 renormalize, gaussian_noise 0.2"
    assert form_words([ReverseSigmoid(beta=0.008, gamma=0.2)]) == "reverse_sigmoid 0.008 0.2"
    for form in FORMS:
        assert decode(AnswerForm, encode(form)) == form


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"kind": "top_k", "k": 0}, "k"),
        ({"kind": "rounding", "digits": 7}, "digits"),
        ({"kind": "rounding", "digits": -1}, "digits"),
        ({"kind": "temperature", "temperature": 0.0}, "temperature"),
        ("temperature", "temperature"),
        ({"kind": "gaussian_noise", "deviation": 0.0}, "deviation"),
        ({"kind": "reverse_sigmoid", "gamma": 0.0}, "gamma"),
        ("quantized", "kind"),
    ],
)
def test_what_is_no_form_is_refused_in_one_line(tree: Any, path: str) -> None:
    with pytest.raises(ValueError, match=path) as refused:
        decode(AnswerForm, tree, "oracle.0")
    assert len(str(refused.value).splitlines()) == 1


def test_all_classes_are_no_selection() -> None:
    check_forms((TopK(k=9),), ["oracle.0"], 10)
    check_forms((Rounding(),), ["oracle.0"], 2)
    with pytest.raises(ValueError, match=r"^oracle\.0\.k: 10 is not allowed: must be below 10, the number of classes$"):
        check_forms((TopK(k=10),), ["oracle.0"], 10)


def test_a_temperature_of_1_is_no_form_unless_it_divides_by_a_sum() -> None:
    one = Temperature(temperature=1.0)
    answers = log_chances(4)
    torch.testing.assert_close(shaped(answers, [one]), answers)
    for forms in ((one,), (TopK(k=2, renormalize=True), one), (Rounding(), Temperature(temperature=2.0), one)):
        place = len(forms) - 1
        told = rf"^oracle\.{place}\.temperature: 1 is not allowed: it changes no answer$"
        with pytest.raises(ValueError, match=told):
            check_forms(forms, [f"oracle.{at}" for at in range(len(forms))], 10)
    check_forms((TopK(k=2), one), ["oracle.0", "oracle.1"], 10)
    assert not torch.allclose(shaped(answers, [TopK(k=2), one]), shaped(answers, [TopK(k=2)]))
