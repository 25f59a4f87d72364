"""Records: what is right round-trips and is named by its content, what is wrong is one line per fault."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwm.attacks import Attack
from mwm.config.spec import (
    Count,
    NonEmptyStr,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    Seed,
    Share,
    StrictBool,
    decode,
    digest,
    encode,
    flatten,
    spec,
)
from mwm.runner.sweeps.sweep import Sweep
from mwm.training.recipe import Recipe
from mwm.trials.trial import Victim
from mwm.watermarks.schemes import Margin, Scheme, TriggerSet


@spec
class Plain:
    """A record with a value of every kind."""

    count: Count = 1
    size: NonNegativeInt = 0
    share: Share = 0.5
    positive: PositiveFloat = 1.0
    wide: NonNegativeFloat = 0.0
    flag: StrictBool = False
    text: NonEmptyStr = "a"
    seed: Seed = 0


FINITE = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
PLAIN = st.fixed_dictionaries(
    {
        "count": st.integers(min_value=1),
        "size": st.integers(min_value=0),
        "share": st.floats(0, 1),
        "positive": FINITE.filter(bool),
        "wide": FINITE,
        "flag": st.booleans(),
        "text": st.text(min_size=1),
        "seed": st.integers(0, 2**63 - 1),
    }
)
WRONG: dict[str, list[Any]] = {
    "count": [0, -1, True, 1.0, "1", None, [1], math.nan],
    "size": [-1, False, 0.5, "0"],
    "share": [-0.1, 1.1, math.nan, math.inf, True, "0.5"],
    "positive": [0, 0.0, -1e-9, math.nan, math.inf, True, "1"],
    "wide": [-1e-9, math.nan, math.inf, False],
    "flag": [0, 1, "true", None],
    "text": ["", 1, None],
    "seed": [-1, 2**63, 1.0, True],
}
VICTIM = {"data": "digits", "model": "cnn", "scheme": "margin"}
SWEEP = {"name": "a", "victim": {}}
MARGIN_KEYS = "batchnorm, kind, mass, num_queries, queries_per_step, step_size, steps, weight"


@given(PLAIN)
def test_a_record_survives_the_way_through_a_tree_and_through_json(tree: dict[str, Any]) -> None:
    record = decode(Plain, tree)
    assert encode(record) == tree
    assert decode(Plain, encode(record)) == record
    assert decode(Plain, json.loads(json.dumps(encode(record)))) == record


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_wrong_value_is_one_line_with_place_and_value(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match="not allowed") as caught:
        decode(Plain, {key: value}, "here")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"here.{key}: {value!r} is not allowed: ")
    with pytest.raises(pydantic.ValidationError):
        Plain(**{key: value})


def victim(**changes: Any) -> tuple[Any, Any, str]:
    return Victim, VICTIM | changes, "victim"


def margin(**changes: Any) -> tuple[Any, Any, str]:
    return Scheme, {"kind": "margin"} | changes, "scheme"


def attack(**changes: Any) -> tuple[Any, Any, str]:
    return Attack, {"kind": "extraction"} | changes, "attacks.0"


def sweep(**changes: Any) -> tuple[Any, Any, str]:
    return Sweep, SWEEP | changes, ""


FAULTS = [
    (margin(queries_per_step=0), "queries_per_step: 0 is not allowed: must be greater than or equal to 1 or 'all'"),
    (margin(queries_per_step="al"), "queries_per_step: 'al' is not allowed: must be a whole number or 'all'"),
    (margin(queries_per_step=True), "queries_per_step: True is not allowed: must be a whole number or 'all'"),
    (margin(step_size=0), "step_size: 0 is not allowed: must be greater than 0"),
    (margin(step_size=300 / 255), "step_size: 300/255 is not allowed: images are in [0, 1]"),
    (margin(step_size=-3 / 255), "step_size: -3/255 is not allowed: must be greater than 0"),
    (margin(step_size=2), "step_size: 2.0 is not allowed: images are in [0, 1]; write k/255"),
    (margin(weight=math.nan), "weight: nan is not allowed: must be a finite number"),
    (margin(batchnorm="x"), "batchnorm: 'x' is not allowed: must be 'reference', 'clean', 'frozen' or 'joint'"),
    (margin(stepsize=1), f"stepsize: unknown key (did you mean 'step_size'?); allowed: {MARGIN_KEYS}"),
    (margin(**{"{kind}": 1}), f"{{kind}}: unknown key (did you mean 'kind'?); allowed: {MARGIN_KEYS}"),
    (victim(scheme="x"), "scheme: kind 'x' is unknown; allowed: 'none', 'trigger_set', 'margin'"),
    (victim(scheme={"kind": [1]}), "scheme: kind [1] is unknown; allowed: 'none', 'trigger_set', 'margin'"),
    (victim(scheme={"num_queries": 3}), "scheme: needs a kind; allowed: 'none', 'trigger_set', 'margin'"),
    (victim(scheme=3), "scheme: 3 is not allowed: must be a kind, or keys and values"),
    (victim(scheme=None), "scheme: None is not allowed: must be a kind, or keys and values"),
    (victim(data="npz"), "data.path: is missing"),
    (victim(data={"kind": "npz"}), "data.path: is missing"),
    (victim(data={"kind": "digits", "flip": 1}), "data.flip: 1 is not allowed: must be true or false"),
    (victim(model={"kind": "resnet18", "width": 3}), "model.width: unknown key; allowed: init, kind, normalize"),
    (victim(recipe={"nesterov": True}), "recipe.nesterov: true needs a momentum above 0"),
    (victim(recipe={"lr": "0.1"}), "recipe.lr: '0.1' is not allowed: must be a number; leave out the quotes"),
    (victim(recipe={"lr": "fast"}), "recipe.lr: 'fast' is not allowed: must be a number"),
    (victim(model="resnt18"), "model: kind 'resnt18' is unknown (did you mean 'resnet18'?); allowed: 'resnet18', "),
    (victim(epochs=3), "epochs: unknown key (did you mean 'recipe.epochs'?); allowed: control, data, model, "),
    (
        sweep(recipe={}),
        "recipe: unknown key (did you mean 'victim.recipe'?); allowed: attack_unmarked, attacks, description, ",
    ),
    (sweep(num_queries=3), "num_queries: unknown key (did you mean 'victim.scheme.num_queries'?); allowed: "),
    (sweep(limits={"hours": math.inf}), "limits.hours: inf is not allowed: must be a finite number"),
    (
        sweep(search={"kind": "random", "num_samples": 10**9}),
        "search.num_samples: 1000000000 is not allowed: must be less than or equal to 100000",
    ),
    (
        victim(recipe={"schedule": {"kind": "multistep", "milestones": 3}}),
        "recipe.schedule.milestones: 3 is not allowed: ",
    ),
    (
        victim(recipe={"schedule": {"kind": "multistep", "milestones": [1, 0]}}),
        "recipe.schedule.milestones.1: 0 is not ",
    ),
    (victim(recipe=None), "recipe: None is not allowed: must be keys and values"),
    (attack(student=3), "student: 3 is not allowed: must be a kind, or keys and values"),
    (
        attack(student={"kind": "cnn", "width": 0}),
        "student.width: 0 is not allowed: must be greater than or equal to 1",
    ),
    (attack(recipe=5), "recipe: 5 is not allowed: must be keys and values"),
    (attack(recipe={"epochs": 0}), "recipe.epochs: 0 is not allowed: must be greater than or equal to 1"),
    (attack(recipe={"nesterov": True}), "recipe.nesterov: true needs a momentum above 0"),
    (
        attack(kind="distillation", source="digits"),
        "source: 'digits' is not allowed: true labels need victim_data or disjoint",
    ),
    (attack(source="npz"), "source.path: is missing"),
    (sweep(name="a/b"), "name: 'a/b' is not allowed: "),
    (sweep(victim=3), "victim: 3 is not allowed: must be keys and values"),
    (sweep(attacks={}), "attacks: {} is not allowed: must be a list"),
    (sweep(attacks=[3]), "attacks.0: 3 is not allowed: must be a word or keys and values"),
    (sweep(search="optuna"), "search.num_samples: is missing"),
    (
        sweep(search={"kind": "optuna", "num_samples": 1, "objectives": ["x"]}),
        "search.objectives.0: 'x' is not allowed: ",
    ),
    (sweep(search={"kind": "optuna", "num_samples": 1, "objectives": []}), "search.objectives: [] is not allowed: "),
    (sweep(resources={"victim": {"gpus": -1}}), "resources.victim.gpus: -1 is not allowed: must be greater than or "),
    (sweep(tags={"a": 1}), "tags.a: 1 is not allowed: must be a word"),
    ((Sweep, 3, ""), "(top level): 3 is not allowed: must be keys and values"),
]


@pytest.mark.parametrize(("asked", "line"), FAULTS, ids=[line[:40] for _, line in FAULTS])
def test_a_fault_is_one_line_which_a_user_understands(asked: tuple[Any, Any, str], line: str) -> None:
    kind, tree, path = asked
    with pytest.raises(ValueError, match=r".") as caught:
        decode(kind, tree, path)
    said = str(caught.value)
    assert said.startswith(f"{path}.{line}" if path else line)
    assert len(said.splitlines()) == 1
    for jargon in ("pydantic", "Value error", "Assertion", "constrained", "literal[", "dictionary", "instance of"):
        assert jargon not in said


def test_every_fault_has_a_line_of_its_own() -> None:
    tree = VICTIM | {"scheme": {"kind": "margin", "setps": 1, "wieght": 1}, "recipe": {"epochs": 0, "lr": -1}}
    with pytest.raises(ValueError, match=r".") as caught:
        decode(Victim, tree, "victim")
    places = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert sorted(places) == [
        "victim.recipe.epochs",
        "victim.recipe.lr",
        "victim.scheme.setps",
        "victim.scheme.wieght",
    ]


def test_a_bare_word_stands_for_a_kind() -> None:
    assert decode(Scheme, "margin") == decode(Scheme, {"kind": "margin"}) == Margin()
    assert decode(Victim, VICTIM) == decode(Victim, {key: {"kind": word} for key, word in VICTIM.items()})


def test_a_record_is_frozen_and_takes_only_its_own_keys() -> None:
    record = Margin()
    with pytest.raises(AttributeError):
        record.steps = 3  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError, match="unknown key"):
        Margin(step=3)  # type: ignore[call-arg]


@given(PLAIN, PLAIN)
def test_equal_content_has_an_equal_name(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = decode(Plain, one), decode(Plain, other)
    assert (digest(first) == digest(second)) == (first == second)
    assert digest(first) == digest(encode(first)) == digest(dict(reversed(encode(first).items())))


def test_a_name_is_the_beginning_of_a_sha256_and_never_changes() -> None:
    tree = {"b": [1, 2.5, None], "a": "x"}
    assert digest(tree) == hashlib.sha256(b'[{"a": "x", "b": [1, 2.5, null]}]').hexdigest()[:16]
    assert digest("a", "b") != digest("ab")
    assert digest(Recipe(lr=1)) == digest(decode(Recipe, {"lr": 1.0}))
    assert digest(TriggerSet()) != digest(Margin())


TREES = st.recursive(
    st.integers() | st.text() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), TREES, max_size=3))
def test_flattening_keeps_every_leaf_under_its_path(tree: dict[str, Any]) -> None:
    rebuilt: dict[str, Any] = {}
    for path, leaf in flatten(tree).items():
        *above, last = path.split(".")
        at = rebuilt
        for key in above:
            at = at.setdefault(key, {})
        at[last] = leaf
    assert rebuilt == tree
