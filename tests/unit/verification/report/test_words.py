"""Chances and p-values as people say them."""

from __future__ import annotations

import pytest

from mwm.verification.report.words import odds, p_text, plural, raised


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.0, "100 in 100"),
        (0.4, "40 in 100"),
        (0.05, "1 in 20"),
        (0.012, "1 in 83"),
        (1e-3, "1 in 1,000"),
        (0.0005, "1 in 2,000"),
        (5.5e-9, "1 in 180 million"),
        (2.6e-10, "1 in 3.8 billion"),
        (3e-14, "1 in 33 trillion"),
        (1e-42, "1 in 10^42"),
        (0.0, "less than 1 in 10^300"),
    ],
)
def test_a_chance_is_one_in_so_many(value: float, said: str) -> None:
    assert odds(value) == said


def test_what_no_float_holds_is_told_by_its_power() -> None:
    assert odds(0.0, -954.24) == "1 in 10^954"
    assert p_text(0.0, -954.24) == "1e-954"
    assert raised("1 in 10^954, not 7^2 nor 110^3") == "1 in 10⁹⁵⁴, not 7^2 nor 110^3"


@pytest.mark.parametrize("value", [0.0010004, 0.00099999, 0.001 * (1 + 1e-12)])
def test_a_value_beside_its_limit_never_looks_like_it(value: float) -> None:
    assert p_text(value, beside=0.001) != p_text(0.001)
    assert odds(value, beside=0.001) != odds(0.001)
    assert (p_text(0.001, beside=0.001), odds(0.001, beside=0.001)) == ("0.001", "1 in 1,000")


def test_numbers_go_with_their_nouns() -> None:
    assert [plural(count, "query") for count in (1, 2, 1000)] == ["1 query", "2 queries", "1,000 queries"]
