"""Strength: attacks that differ in nothing else are one curve, whatever field says how strong they are."""

from __future__ import annotations

from typing import Any

from mwm.runner.reporting.groups import catalogue
from mwm.runner.reporting.groups.configurations import Configuration
from mwm.runner.reporting.groups.names import attack_names, configuration_names, curve_names
from mwm.runner.reporting.groups.strength import Curve, curves
from tests.helpers.drawn import arsenal, grouped
from tests.helpers.ended import MARGIN, SOFT, result, stolen, trial

Spec = dict[str, Any]
REPAIR: Spec = {"kind": "batchnorm_reestimation"}


def tuned(epochs: int, **more: Any) -> Spec:
    return {"kind": "fine_tuning", "recipe": {"epochs": epochs}} | more


def sequence(*steps: Spec) -> Spec:
    return {"kind": "sequence", "steps": [*steps]}


def curves_of(*attacks: Spec) -> list[Curve]:
    """The curves in the order in which attacks are told."""
    groups = grouped([stolen(MARGIN, 0, attack, 0.5) for attack in attacks])
    found = curves([*attack_names(groups)])
    return [*found.values()]


def test_the_record_of_a_kind_says_which_of_its_fields_is_its_strength() -> None:
    for kind, record in catalogue.attacks().items():
        place: Any = None
        for part in filter(None, record.strength.split(".")):
            place = record.__pydantic_fields__ if place is None else type(place.default).__pydantic_fields__
            assert part in place, f"{kind}: {record.strength} is no field"
            place = place[part]


def test_attacks_that_differ_in_their_strength_alone_are_one_curve_the_weakest_first() -> None:
    found = curves_of(tuned(20), tuned(5), tuned(10), tuned(5, layers="last"))
    assert [(one.kind, one.field, one.strength) for one in found] == [
        *(("fine_tuning", "recipe.epochs", epochs) for epochs in (5, 10, 20)),
        ("fine_tuning", "recipe.epochs", 5),
    ]
    assert len({one.attack for one in found}) == 2


def test_a_default_that_is_always_told_does_not_come_before_weaker_ones() -> None:
    """5 bits are the default."""
    found = curves_of(*({"kind": "quantization", "bits": bits} for bits in (5, 2, 8, 3)))
    assert [one.strength for one in found] == [2, 3, 5, 8]


def test_an_attack_without_a_bound_is_the_strongest_and_has_no_place_on_the_axis() -> None:
    found = curves_of(SOFT, SOFT | {"query_budget": 100}, SOFT | {"query_budget": 30})
    assert [one.strength for one in found] == [30, 100, None]
    assert [one.number for one in found] == [30, 100, None]
    assert len({one.attack for one in found}) == 1


def test_a_strength_that_equals_a_field_of_the_victim_is_told_as_it_is() -> None:
    """The victims of these tests train for 3 epochs: other fields of a recipe that are alike are called so."""
    found = curves_of(tuned(3), tuned(6))
    assert [one.strength for one in found] == [3, 6]


def test_of_a_sequence_the_first_step_that_differs_says_how_strong_it_is() -> None:
    found = curves_of(*(sequence(REPAIR, tuned(count)) for count in (9, 3)), sequence(REPAIR, SOFT))
    assert [(one.kind, one.field, one.strength) for one in found] == [
        ("batchnorm_reestimation + fine_tuning", "steps.1.recipe.epochs", 3),
        ("batchnorm_reestimation + fine_tuning", "steps.1.recipe.epochs", 9),
        ("batchnorm_reestimation + extraction", "", None),
    ]


def test_strength_is_said_where_it_differs_even_at_its_default() -> None:
    groups = grouped([result(trial(MARGIN, 0, attack)) for attack in (tuned(20), tuned(5), SOFT)])
    assert [*attack_names(groups).values()] == ["extraction soft", "fine_tuning epochs=5", "fine_tuning epochs=20"]
    alone = grouped([result(trial(MARGIN, 0, attack)) for attack in (tuned(20), SOFT)])
    assert [*attack_names(alone).values()] == ["extraction soft", "fine_tuning"]


def test_a_curve_is_named_with_its_strength_where_that_is_one_alone() -> None:
    attacks = [SOFT | {"query_budget": 100}, tuned(5), tuned(20), REPAIR]
    groups = grouped(
        [result(trial(MARGIN, 0, attack)) for attack in [*attacks, SOFT | {"views": 2, "query_budget": 9}]]
    )
    assert {*curve_names([*attack_names(groups)]).values()} == {
        *("extraction soft 100 calls", "extraction soft x2 views 9 calls", "fine_tuning", "batchnorm_reestimation"),
    }


def test_no_two_attacks_of_a_large_sweep_have_one_name() -> None:
    groups = grouped([result(trial(MARGIN, 0, attack)) for attack in arsenal()])
    names = [*attack_names(groups).values()]
    assert len(names) == len({*names}) == len(arsenal()) == 60
    assert not [name for name in names if "extraction extraction" in name]


def test_a_field_that_holds_several_records_is_told_by_their_kinds_and_what_is_no_default() -> None:
    plain: Configuration = (("kind", "extraction"), ("labels", "soft"), ("oracle", ()))
    rounded: Configuration = (*plain[:2], ("oracle.0.kind", "rounding"), ("oracle.0.digits", 2))
    both: Configuration = (*rounded, ("oracle.1.kind", "top_k"), ("oracle.1.k", 1))
    finer: Configuration = (*rounded[:3], ("oracle.0.digits", 3))
    names = configuration_names([plain, rounded, both, finer], "kind")
    assert [names[one] for one in (plain, rounded, both, finer)] == [
        *("extraction", "extraction rounding digits=2", "extraction rounding digits=2 + top_k", "extraction rounding"),
    ]
