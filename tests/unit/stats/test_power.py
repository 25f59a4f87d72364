"""Power against sums of fractions, a search through every number of queries, and the command itself."""

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
from mwm.stats.power import _boundary, _sufficient_bound, _thresholds, average_sample_number, power, required_queries
from mwm.stats.sequential import SequentialTest
from tests.helpers.asking import Say

ROOT = Path(__file__).parents[3]


def proved(queries: int, classes: int, level: float, survival: Fraction) -> float:
    """The chance of a match count whose p-value is small enough, term by term."""
    detects = [k for k in range(queries + 1) if p_value(k, queries, classes) <= level]
    return float(sum(math.comb(queries, k) * survival**k * (1 - survival) ** (queries - k) for k in detects))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 60), st.integers(3, 100), st.floats(1e-9, 0.9), st.integers(1, 20))
def test_power_is_the_exact_tail(queries: int, classes: int, level: float, twentieths: int) -> None:
    survival = Fraction(twentieths, 20)
    expected = proved(queries, classes, level, survival)
    found = power(queries, classes=classes, level=level, survival=float(survival))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_power_of_a_null_model_is_the_false_positive_rate() -> None:
    for queries in range(1, 200):
        assert power(queries, classes=10, level=0.05, survival=1 / 9) <= 0.05 * (1 + 1e-9)


def test_power_is_saw_toothed() -> None:
    """One more query may make a proof less likely, and so the first number that suffices is not the answer."""
    chances = [power(n, classes=10, level=1e-3, survival=0.4) for n in range(1, 60)]
    assert any(later < earlier for earlier, later in pairwise(chances))
    first = 1 + next(n for n, chance in enumerate(chances) if chance >= 0.9)
    assert (first, required_queries(0.4, classes=10, level=1e-3, power=0.9)) == (39, 42)


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-6])
@pytest.mark.parametrize("survival", [0.3, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("wanted", [0.5, 0.9])
def test_number_is_the_first_from_which_on_all_suffice(
    classes: int, level: float, survival: float, wanted: float
) -> None:
    enough = required_queries(survival, classes=classes, level=level, power=wanted)
    if enough is None:
        assert survival <= 1 / (classes - 1)
        return
    bound = _sufficient_bound(survival, classes=classes, level=level, power=wanted)
    assert enough <= bound
    assert enough == 1 or power(enough - 1, classes=classes, level=level, survival=survival) < wanted
    for queries in [*range(enough, min(enough + 40, int(bound))), *range(int(bound), int(bound) + 200, 20)]:
        assert power(queries, classes=classes, level=level, survival=survival) >= wanted


def test_no_number_suffices_for_what_a_null_model_does() -> None:
    assert required_queries(1 / 9, classes=10, level=0.05) is None
    assert required_queries(0.05, classes=10, level=0.05) is None
    assert required_queries(0.112, classes=10, level=0.05) is None, "more than 10,000"
    assert average_sample_number(1 / 9, 10, 0.05) is None
    assert average_sample_number(0.112, 10, 0.05) is None


@pytest.mark.parametrize("classes", [3, 10, 1000])
@pytest.mark.parametrize("level", [0.5, 1e-3, 1e-9])
def test_thresholds_in_a_row_are_those_of_the_verdict(classes: int, level: float) -> None:
    expected = [critical_matches(n, classes, level) or n + 1 for n in range(1, 121)]
    assert list(islice(_thresholds(classes, level), 120)) == expected


@pytest.mark.parametrize("classes", [3, 10, 100])
@pytest.mark.parametrize("level", [0.5, 1e-3])
def test_boundary_is_where_the_sequential_test_ends(classes: int, level: float) -> None:
    for n, fewest in enumerate(islice(_boundary(classes, level), 40), 1):
        ends = []
        for k in range(n + 1):
            test = SequentialTest(classes)
            for matched in [True] * k + [False] * (n - k):
                test.add(matched)
            ends.append(test.current_p_value <= level)
        assert ends == [k >= fewest for k in range(n + 1)]


@pytest.mark.parametrize("survival", [0.5, 0.8, 1.0])
def test_mean_of_one_by_one_against_tries(survival: float) -> None:
    rng, lengths = np.random.default_rng(0), []
    for _ in range(400):
        test = SequentialTest(10)
        while test.p_value > 1e-3:
            test.add(bool(rng.random() < survival))
        lengths.append(test.queries)
    error = float(np.std(lengths)) / math.sqrt(len(lengths))
    assert average_sample_number(survival, 10, 1e-3) == pytest.approx(np.mean(lengths), abs=4 * error + 1e-9)


def test_the_command_shows_what_was_asked(say: Say) -> None:
    words = ("power", "--classes", "10", "--level", "1e-3", "--survival", ".3", "0.1", "--queries", "100")
    status, out, err = say(*words)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["0.3", "87", "65.0"] in lines
    assert ["0.1", "-", "-"] in lines
    assert ["100", "0.001", "23", "0.952", "0.000"] in lines


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
