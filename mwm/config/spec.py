"""Records: what a user may say, checked while it is read, and named by its content."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic
from pydantic import BeforeValidator, ConfigDict, TypeAdapter
from pydantic import Field as Field  # what records bound their fields with, here for all
from pydantic import Strict as Strict
from pydantic_core import PydanticCustomError

from mwm.config.draft import Draft as Draft  # for fields of records, as Field is
from mwm.config.draft import places, settle
from mwm.config.errors import fault_lines, unknown_key

T = TypeVar("T")

Count = Annotated[int, Strict(), Field(ge=1)]

NonNegativeInt = Annotated[int, Strict(), Field(ge=0)]

Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63)]

Share = Annotated[float, Strict(), Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Strict(), Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Strict(), Field(gt=0, le=1)]

PositiveFloat = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]

NonNegativeFloat = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]

StrictBool = Annotated[bool, Strict()]

DIGEST = r"^[0-9a-f]{16}$"

Digest = Annotated[str, Strict(), Field(pattern=DIGEST)]

NonEmptyStr = Annotated[str, Strict(), Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class Shown:
    """How people are told a field: its value in `form`, under `heading`; an empty form leaves it out of names.

    It is told where it differs from its default, or `always`. `fraction`: as k/255 where that is exact, for one. `off`
    is what false is told as, if it is told at all.
    """

    form: str = "{}"
    heading: str = ""
    always: bool = False
    fraction: int = 0
    off: str = ""


def shown_fields(record: type) -> dict[str, Shown]:
    """How the fields of a record are told, of those that say so."""
    fields = record.__pydantic_fields__  # type: ignore[attr-defined]
    return {name: one for name, field in fields.items() for one in field.metadata if isinstance(one, Shown)}


def _as_kind(value: Any) -> Any:
    if isinstance(value, str):
        return {"kind": value}
    # A kind that never fits, so that a missing one is refused with the list of those that do.
    return {"kind": "", **value} if isinstance(value, Mapping) else value


DISCRIMINATED = (Field(discriminator="kind"), BeforeValidator(_as_kind))
"""Metadata of a union of records told apart by `kind`; the bare word `margin` stands for `{kind: margin}`."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def spec(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only record which refuses unknown keys and wrong values."""
    told = inspect.get_annotations(cls).items()
    own = {name for name, kind in told if not name.startswith("_") and "ClassVar" not in str(kind)}
    bases = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
    allowed = own.union(field.name for base in bases for field in dataclasses.fields(base))

    def refuse_unknown(given: Any) -> Any:
        keys = given if isinstance(given, Mapping) else getattr(given, "kwargs", None) or ()
        unknown = {
            str(key): unknown_key(str(key), allowed, places(cls, str(key))) for key in keys if key not in allowed
        }
        if unknown:
            message = "; ".join(f"{key}: {reason}" for key, reason in unknown.items())
            raise PydanticCustomError("unknown_key", message, {"unknown": unknown})
        return given

    cls._refuse_unknown = pydantic.model_validator(mode="before")(refuse_unknown)  # type: ignore[attr-defined]
    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    return pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=strict)(cls)  # type: ignore[return-value]


def decode(kind: Any, tree: Any, path: str = "", *, domains: Sequence[str] = ()) -> Any:
    """Read a record of type `kind` from a tree of dicts, lists and scalars, or of what was written in their place.

    Raises ValueError with one line per fault: the dotted path from `path` on, the value, what is allowed. `domains` are
    the words that may stand for many values where the tree comes from.
    """
    tree = settle(kind, tree)
    try:
        return TypeAdapter(kind).validate_python(tree)
    except pydantic.ValidationError as error:
        raise ValueError("\n".join(fault_lines(error.errors(), tree, path, domains=domains))) from None


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of what `decode` reads as a `kind`."""
    return TypeAdapter(kind).json_schema()


def encode(record: Any) -> dict[str, Any]:
    """The tree of a record: `decode(type(record), encode(record)) == record`."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return encode(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a tree under its dotted path: `{"scheme": {"steps": 5}}` gives `{"scheme.steps": 5}`.

    Trees in a list are numbered from 0; a list of anything else is a leaf.
    """
    if isinstance(tree, list) and tree and all(isinstance(item, Mapping) for item in tree):
        tree = dict(enumerate(tree))
    if not isinstance(tree, Mapping):
        return {path: tree}
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flatten(value, f"{path}.{key}" if path else str(key))
    return leaves


def digest(*content: Any) -> str:
    """Sixteen hex digits of the SHA-256 of records, trees and scalars: equal content, equal name."""
    plain = [_plain(item) for item in content]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
