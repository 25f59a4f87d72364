"""Search spaces: every combination once, every draw inside, every path as it stands in the file."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.runner.sweeps.space import Domain, corner_options, expand, grid_options, iter_domains, parse_domain, sample

LEAF = st.integers(0, 5) | st.sampled_from(["a", "b"])
OPTIONS = st.lists(LEAF, min_size=1, max_size=3, unique_by=repr)
SPACES = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=2),
        st.fixed_dictionaries({"grid": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=6,
)


def by_hand(tree: Any) -> list[Any]:
    """Every tree of a space of grids, by plain recursion."""
    if isinstance(tree, dict) and set(tree) == {"grid"}:
        return [one for option in tree["grid"] for one in by_hand(option)]
    if isinstance(tree, dict):
        return [dict(zip(tree, values, strict=True)) for values in itertools.product(*map(by_hand, tree.values()))]
    if isinstance(tree, list):
        return [list(values) for values in itertools.product(*map(by_hand, tree))]
    return [tree]


def at(tree: Any, path: str) -> Any:
    """What stands at a dotted path of a tree."""
    for key in path.split(".")[1:]:
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    return tree


@given(SPACES)
def test_a_grid_is_every_combination_in_order(tree: Any) -> None:
    assert list(expand(tree, grid_options)) == by_hand(tree)


@given(SPACES)
def test_a_domain_stands_at_its_path(tree: Any) -> None:
    for here in iter_domains(tree, "top"):
        assert at(tree, here.path) == {here.kind: list(here.options)}
    expanded: list[Domain] = []
    list(expand(tree, lambda here: expanded.append(here) or here.options, "top"))  # type: ignore[func-returns-value]
    assert {here.path for here in expanded} == {here.path for here in iter_domains(tree, "top")}


@given(OPTIONS, OPTIONS)
def test_the_last_grid_varies_fastest(first: list[Any], last: list[Any]) -> None:
    trees = list(expand({"x": {"grid": first}, "y": {"grid": last}}, grid_options))
    assert [(tree["x"], tree["y"]) for tree in trees] == [(x, y) for x in first for y in last]


def test_the_extremes_of_a_space_are_its_corners() -> None:
    tree = {"x": {"uniform": [0, 1]}, "y": {"choice": ["a", {"deep": {"integers": [3, 9]}}]}}
    found = list(expand(tree, corner_options))
    options = ["a", {"deep": 3}, {"deep": 9}]
    assert found == [{"x": x, "y": y} for x in (0, 1) for y in options]


def test_a_sample_draws_only_what_it_needs_and_leaves_grids() -> None:
    tree = {
        "a": {"choice": [1, {"deep": {"uniform": [0, 1]}}]},
        "b": [{"integers": [1, 4]}, {"grid": [1, {"choice": [7, 8]}]}],
    }
    asked: list[str] = []

    def last(here: Domain) -> Any:
        asked.append(f"{here.path}: {here.kind}")
        return here.options[-1]

    assert sample(tree, last, "v") == {"a": {"deep": 1}, "b": [4, {"grid": [1, 8]}]}
    assert asked == ["v.a: choice", "v.a.choice.1.deep: uniform", "v.b.0: integers", "v.b.1.grid.1: choice"]
    asked.clear()
    assert sample(tree["a"], lambda here: here.options[0], "v") == 1


@pytest.mark.parametrize("kind", ["choice", "uniform", "loguniform", "integers"])
def test_a_grid_search_refuses_chance(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^victim\.x\.1\.{kind}: is not allowed in a grid search"):
        list(expand({"x": [0, {kind: [1, 2]}]}, grid_options, "victim"))


WRONG = [
    ("grid", []),
    ("grid", 3),
    ("grid", "abc"),
    ("choice", None),
    ("choice", {}),
    ("uniform", [1]),
    ("uniform", [1, 2, 3]),
    ("uniform", [2, 1]),
    ("uniform", [1, 1]),
    ("uniform", [0, True]),
    ("uniform", ["a", "b"]),
    ("uniform", [0, math.inf]),
    ("uniform", [math.nan, 1]),
    ("loguniform", [0, 1]),
    ("loguniform", [-1, 1]),
    ("integers", [0, 1.5]),
    ("integers", [3, 2]),
]


@pytest.mark.parametrize(("kind", "options"), WRONG)
def test_a_domain_that_holds_nothing_is_one_line(kind: str, options: Any) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_domain({kind: options}, "victim.seed")
    assert str(caught.value).startswith(f"victim.seed.{kind}: {options!r} is not allowed: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("tree", [3, "grid", None, [], {}, {"gird": [1]}, [{"grid": [1]}]])
def test_other_trees_are_no_domain(tree: Any) -> None:
    assert parse_domain(tree, "x") is None


@pytest.mark.parametrize("kind", ["grid", "uniform"])
def test_nothing_stands_beside_a_domain(kind: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_domain({"num_queries": 10, kind: [{"kind": "none"}, 3]}, "victim.scheme")
    said = f"victim.scheme: is {{{kind}: [...]}} and holds no 'num_queries' beside it; "
    inside = f"set num_queries in one of its options, such as victim.scheme.{kind}.0.num_queries, or "
    assert str(caught.value) == f"{said}{inside}replace victim.scheme as a whole"
    with pytest.raises(ValueError, match=r"'x' beside it; replace victim.seed as a whole$"):
        parse_domain({kind: [1, 2], "x": 1}, "victim.seed")
