"""Power by labels against sums of fractions and a search through every number of queries, and the command itself."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mwm.stats.binomial import critical_matches, p_value
from mwm.stats.power import (
    MAX_QUERIES,
    _enough,
    _sufficient_bound,
    _thresholds,
    average_sample_number,
    power,
    required_queries,
)
from mwm.stats.rank_sum import CellRank
from mwm.stats.sample_number import last_totals, mean_length
from mwm.stats.sequential import SequentialTest
from tests.helpers.asking import Say

ROOT = Path(__file__).parents[3]


def binomial(n: int, k: int, p: Fraction) -> Fraction:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def proved(queries: int, *, classes: int, level: float, survival: Fraction, others: Fraction) -> float:
    """The chance of wrong answers and matches among them whose p-value is small enough, term by term."""
    share, total = survival + others, Fraction()
    for wrong in range(1, queries + 1):
        detects = [k for k in range(wrong + 1) if p_value(k, wrong, classes) <= level]
        given_wrong = sum(binomial(wrong, k, survival / share) for k in detects)
        total += binomial(queries, wrong, share) * given_wrong
    return float(total)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(3, 100), st.floats(1e-9, 0.9), st.integers(1, 20), st.data())
def test_power_is_the_exact_sum(queries: int, classes: int, level: float, kept: int, data: st.DataObject) -> None:
    survival, others = Fraction(kept, 20), Fraction(data.draw(st.integers(0, 20 - kept)), 20)
    expected = proved(queries, classes=classes, level=level, survival=survival, others=others)
    found = power(queries, classes=classes, level=level, survival=float(survival), others=float(others))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_copy_that_gives_no_other_wrong_label_needs_a_few_matches() -> None:
    """In closed form: 4 matches of 4 wrong answers are (1/9)^4, 3 of 3 are too few."""
    for queries in range(1, 60):
        exact = float(sum(binomial(queries, k, Fraction(1, 4)) for k in range(4, queries + 1)))
        assert power(queries, classes=10, level=1e-3, survival=0.25) == pytest.approx(exact, rel=1e-12, abs=1e-300)
    assert average_sample_number(0.25, classes=10, level=1e-3) == pytest.approx(16)


@pytest.mark.parametrize("wrong", [0.1, 0.5, 1.0])
def test_power_of_an_independent_model_is_the_false_positive_rate(wrong: float) -> None:
    for queries in range(1, 200, 7):
        found = power(queries, classes=10, level=0.05, survival=wrong / 9, others=8 * wrong / 9)
        assert found <= 0.05 * (1 + 1e-9)


def test_power_is_saw_toothed() -> None:
    """One more query may make a proof less likely, and so the first number that suffices is not the answer."""
    chances = [power(n, classes=10, level=1e-3, survival=0.4, others=0.6) for n in range(1, 80)]
    assert any(later < earlier for earlier, later in pairwise(chances))
    first = 1 + next(n for n, chance in enumerate(chances) if chance >= 0.9)
    assert (first, required_queries(0.4, classes=10, level=1e-3, power=0.9, others=0.6)) == (39, 42)


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("level", [0.05, 1e-6])
@pytest.mark.parametrize(("survival", "others"), [(0.3, 0.0), (0.3, 0.3), (0.6, 0.4), (0.95, 0.0), (1.0, 0.0)])
@pytest.mark.parametrize("wanted", [0.5, 0.9])
def test_number_is_the_first_from_which_on_all_suffice(
    classes: int, level: float, survival: float, others: float, wanted: float
) -> None:
    how = {"classes": classes, "level": level, "others": others}
    enough = required_queries(survival, power=wanted, **how)  # type: ignore[arg-type]
    if enough is None:
        assert survival / (survival + others) <= 1 / (classes - 1)
        return
    assert enough == 1 or power(enough - 1, survival=survival, **how) < wanted  # type: ignore[arg-type]
    for queries in [*range(enough, enough + 60), *range(enough + 60, enough + 400, 23)]:
        assert power(queries, survival=survival, **how) >= wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "classes"), [(0.3, 10), (0.6, 3), (1.0, 10)])
@pytest.mark.parametrize("level", [0.05, 1e-6])
def test_so_many_wrong_answers_surely_suffice(share: float, classes: int, level: float) -> None:
    bound = _sufficient_bound(share, classes=classes, level=level, power=0.9)
    for wrong in range(bound, bound + 200, 7):
        assert power(wrong, classes=classes, level=level, survival=share, others=1 - share) >= 0.9
    queries = _enough(bound, 0.5, 0.95)
    chances = [sum(binomial(n, k, Fraction(1, 2)) for k in range(bound, n + 1)) for n in (queries - 1, queries)]
    assert chances[0] < 0.95 <= chances[1]


def test_no_number_suffices_for_what_an_independent_model_does() -> None:
    assert required_queries(0.1, classes=10, level=0.05, others=0.8) is None
    assert required_queries(0.05, classes=10, level=0.05, others=0.9) is None
    assert required_queries(0.112, classes=10, level=0.05, others=0.888) is None, "more than 10,000"
    assert required_queries(0.0003, classes=10, level=0.05) is None, "more than 10,000"
    assert required_queries(1 / 9, classes=10, level=0.05) is not None, "none of its wrong answers misses"
    assert average_sample_number(0.1, classes=10, level=0.05, others=0.8) is None
    assert average_sample_number(0.112, classes=10, level=0.05, others=0.888) is None


@pytest.mark.parametrize("classes", [3, 10, 1000])
@pytest.mark.parametrize("level", [0.5, 1e-3, 1e-9])
def test_thresholds_in_a_row_are_those_of_the_verdict(classes: int, level: float) -> None:
    expected = [critical_matches(n, classes, level) or n + 1 for n in range(1, 121)]
    assert list(islice(_thresholds(classes, level), 120)) == expected


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("level", [0.5, 1e-3])
@pytest.mark.parametrize("silent", [0, 1])
def test_sums_end_the_sequential_test_where_it_ends(classes: int, level: float, silent: int) -> None:
    """After 40 cells or fewer with one pattern of ties, each way the test may have gone is one sum."""
    for ties in ((1, classes - 2), (1,) * (classes - 1)):
        step = (classes - 1) if len(ties) == 2 else 2
        for n, last in enumerate(islice(last_totals(ties, level=level, most=40, silent=silent), 40), 1):
            for total in {max(0, last), last + 1}:
                test = SequentialTest(classes, 1 + silent)
                for cell in range(n):
                    rank = step * (total * (cell + 1) // n - total * cell // n)
                    test.add([CellRank(rank, ties), *[CellRank(classes - 2, (classes - 1,))] * silent])
                if last == -1 or total > last:
                    assert test.log_e < -math.log(level) + 1e-9
                else:
                    assert test.log_e >= -math.log(level) - 1e-9


@pytest.mark.parametrize(("survival", "others"), [(0.5, 0.0), (0.4, 0.3), (1.0, 0.0)])
def test_mean_of_one_by_one_against_tries(survival: float, others: float) -> None:
    rng, lengths = np.random.default_rng(0), []
    for _ in range(400):
        test = SequentialTest(10)
        while test.p_value > 1e-3:
            drawn = rng.random()
            wrong = CellRank(0 if drawn < survival else 9, (1, 8))
            test.add([wrong if drawn < survival + others else CellRank(8, (9,))])
        lengths.append(test.cells)
    error = float(np.std(lengths)) / math.sqrt(len(lengths))
    expected = average_sample_number(survival, classes=10, level=1e-3, others=others)
    assert expected == pytest.approx(np.mean(lengths), abs=4 * error + 1e-9)


def test_mean_length_by_hand() -> None:
    """A coin with the sides 0 and 1, tossed until the first 0, or the second."""
    assert mean_length((1.0, 0.0), [-1, -1, 0]) == 3
    assert mean_length((0.5, 0.5), range(60)) == pytest.approx(2)
    assert mean_length((0.5, 0.5), range(-1, MAX_QUERIES)) == pytest.approx(4)
    assert mean_length((0.5, 0.5), [0] + [-1] * 50) is None, "half of the ways never end"


def test_the_command_shows_what_was_asked(say: Say) -> None:
    words = ("power", "--classes", "10", "--level", "1e-3", "--survival", ".3", "0.1", "--queries", "100")
    status, out, err = say(*words, "--wrong", "0", ".7", "--rank", ".3", ".5")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    for line in (
        ["0.3", "0", "21", "13.3"],
        ["0.3", "0.7", "87", "69.8"],
        ["0.1", "0.7", "-", "-"],
        ["0.3", "51", "47.9"],
        ["0.5", "-", "-"],
        ["100", "0.001", "0.7", "0.952", "0.002"],
        ["100", "0.001", "0.999", "0.000"],
    ):
        assert line in lines, out


def test_shares_that_leave_no_room_are_left_out(say: Say) -> None:
    _, out, _ = say("power", "--classes", "10", "--survival", ".3", ".9", "--wrong", ".5", "--queries", "10")
    lines = [line.split() for line in out.splitlines()]
    assert [line[:2] for line in lines if line[:1] == ["0.9"]] == []
    assert ["10", "0.001", "0.5", "0.095", "-"] in lines, out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("--classes", "2"), "2 classes leave no wrong label"),
        (("--classes", "10", "--level", "1e-3", "1"), "level 1.0 is not allowed"),
        (("--classes", "10", "--survival", "0"), "survival 0.0 is not allowed"),
        (("--classes", "10", "--survival", "nan"), "survival nan is not allowed"),
        (("--classes", "10", "--power", "1.5"), "power 1.5 is not allowed"),
        (("--classes", "0"), "0 classes leave no wrong label"),
        (("--classes", "10", "--level", "0"), "level 0.0 is not allowed"),
        (("--classes", "10", "--survival", ".5", "1.01"), "survival 1.01 is not allowed"),
        (("--classes", "10", "--wrong", "-.1"), "other wrong answers -0.1 are not allowed"),
        (("--classes", "10", "--survival", ".9", "--wrong", ".2"), "other wrong answers 0.2 are not allowed beside"),
        (("--classes", "10", "--rank", "1.5"), "rank 1.5 is not allowed"),
        (("--classes", "10", "--survival", "-1"), "survival -1.0 is not allowed"),
        (("--classes", "10", "--power", "0"), "power 0.0 is not allowed"),
        (("--classes", "10", "--power", "1"), "power 1.0 is not allowed"),
        (("--classes", "10", "--queries", "0"), "0 queries prove nothing"),
        (("--classes", "10", "--queries", "50", "-5"), "-5 queries prove nothing"),
        (("--classes", "10", "--queries", "10001"), "queries 10001 is not allowed; it must be at most 10000"),
    ],
)
def test_mistakes_are_one_line(say: Say, words: tuple[str, ...], fault: str) -> None:
    status, out, err = say("power", *words)
    assert (status, out) == (2, "")
    assert err.startswith(fault)
    assert err.count("\n") == 1


def test_the_command_needs_no_torch() -> None:
    run = "import sys, launch; launch.main(['power', '--classes', '10']); assert 'torch' not in sys.modules"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 20, "seconds on a busy machine; half of one on a free one"
