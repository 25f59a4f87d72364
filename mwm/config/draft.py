"""Drafts: trees as they are written, in which a record's text keeps its text and its numbers become numbers."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from mwm.config.written import Written

NUMBERS = (int, float)


@dataclasses.dataclass(frozen=True)
class Draft:
    """Metadata of a field that holds the tree of a `record` in place of the record, with domains in it."""

    record: Any


def settle(kind: Any, tree: Any) -> Any:
    """The tree with what is written in it as text or as value, as `kind` asks for it.

    What a record does not know is looked through: in `{grid: [1.10, 2]}` the options are what the place asks for.
    """
    return _settle(_options(kind), tree)


def places(record: Any, key: str) -> list[str]:
    """Where below a record a field of that name stands, as dotted paths: the nearest ones, none if there is none."""
    layer: dict[str, tuple[Any, ...]] = {"": (record,)}
    while layer:
        deeper = {
            f"{path}{name}.": _records(kinds)
            for path, records in layer.items()
            for one in records
            for name, kinds in _fields(one).items()
        }
        if found := [f"{path}{key}" for path, records in deeper.items() if any(key in _fields(one) for one in records)]:
            return found
        layer = {path: records for path, records in deeper.items() if records}
    return []


def _settle(kinds: tuple[Any, ...], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _settle(_at_key(kinds, tree, key), value) for key, value in tree.items()}
    if isinstance(tree, list):
        lists = [kind for kind in kinds if get_origin(kind) in (tuple, list)]
        inner = tuple(one for kind in lists for one in _options(get_args(kind)[0])) or kinds
        return [_settle(inner, value) for value in tree]
    return _scalar(kinds, tree) if isinstance(tree, Written) else tree


def _scalar(kinds: tuple[Any, ...], written: Written) -> Any:
    """Text where text alone is asked for. A number stays as it is, for messages tell it as it was written."""
    value = written.value
    fits = type(value) in kinds or (type(value) in NUMBERS and any(kind in kinds for kind in NUMBERS))
    if str in kinds and not fits:
        return written.text
    return written if type(value) in NUMBERS else value


def _at_key(kinds: tuple[Any, ...], tree: dict[str, Any], key: str) -> tuple[Any, ...]:
    """What is asked for under a key: by the record of that kind, by any record, by a mapping, or, else, as above."""
    records = _records(kinds)
    named = [one for one in records if getattr(one, "kind", None) == tree.get("kind")]
    found = [one for record in named or records for one in _fields(record).get(key, ())]
    found += [one for kind in kinds if get_origin(kind) is dict for one in _options(get_args(kind)[1])]
    return tuple(found) or kinds


def _records(kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(filter(dataclasses.is_dataclass, kinds))


@cache
def _fields(record: Any) -> dict[str, tuple[Any, ...]]:
    """The kinds of value that each field of a record may hold."""
    fields = record.__pydantic_fields__.items()
    return {name: tuple(_kinds(Annotated[field.annotation, *field.metadata, None])) for name, field in fields}


@cache
def _options(kind: Any) -> tuple[Any, ...]:
    return tuple(_kinds(kind))


def _kinds(kind: Any) -> Iterator[Any]:
    """The members of a union, without what bounds them; of a draft those of its record."""
    if get_origin(kind) is Annotated:
        held, *notes = get_args(kind)
        yield from _kinds(next((note.record for note in notes if isinstance(note, Draft)), held))
    elif get_origin(kind) in (Union, types.UnionType):
        for one in get_args(kind):
            yield from _kinds(one)
    else:
        yield kind
