"""What the catalogues of schemes and attacks say of a kind: its record, its defaults, by which field it is strong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args

from mwm.attacks import Attack
from mwm.config.spec import shown_fields
from mwm.watermarks.schemes import Scheme

STEP = re.compile(r"steps\.\d+\.")
"""Where the step of a sequence of attacks stands in it."""


@cache
def schemes() -> tuple[type, ...]:
    """The catalogue of schemes."""
    return get_args(get_args(Scheme)[0])


@cache
def attacks() -> Mapping[str, Any]:
    """The catalogue of attacks by kind."""
    return {kind.kind: kind for kind in get_args(get_args(Attack)[0])}


@cache
def defaults(kind: str) -> Mapping[str, Any]:
    """The defaults of an attack's fields, but of those that are always told."""
    record = attacks().get(kind)
    if record is None:
        return {}
    told = shown_fields(record)
    return {one.name: one.default for one in fields(record) if one.name not in told or not told[one.name].always}


@cache
def part_defaults(kind: str, field: str) -> Mapping[str, Mapping[str, Any]]:
    """The defaults of the records that a field of an attack may hold several of, by their kinds."""
    told = attacks()[kind].__pydantic_fields__ if kind in attacks() else {}
    found = _records(told[field].annotation) if field in told else ()
    return {one.kind: {own.name: own.default for own in fields(one)} for one in found}


def _records(kind: Any) -> Iterator[Any]:
    """The records of kinds in a type."""
    if is_dataclass(kind) and hasattr(kind, "kind"):
        yield kind
    for part in get_args(kind):
        yield from _records(part)


def kinds(attack: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """The kinds of the steps of a sequence by where they stand in it; of another attack its own, which stands at ""."""
    leaves = dict(attack)
    steps = {path.removesuffix("kind"): kind for path, kind in leaves.items() if path.endswith(".kind")}
    found = {place: kind for place, kind in steps.items() if STEP.fullmatch(place)}
    return found or {"": leaves.get("kind", "")}


def strengths(attack: Iterable[tuple[str, Any]]) -> list[str]:
    """The fields that say how strong an attack is, as dotted paths: one at most, or one for each step of a sequence."""
    told = {place: getattr(attacks().get(kind), "strength", "") for place, kind in kinds(attack).items()}
    return [f"{place}{field}" for place, field in told.items() if field]
