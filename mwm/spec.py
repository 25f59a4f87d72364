"""Records: what a user may say, checked while it is read, and named by its content."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter
from pydantic_core import PydanticCustomError

T = TypeVar("T")

Count = Annotated[int, Strict(), Field(ge=1)]
Size = Annotated[int, Strict(), Field(ge=0)]
Seed = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
Share = Annotated[float, Strict(), Field(ge=0, le=1)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(min_length=1)]

PLAIN_WORDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a word",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "dataclass_type": "keys and values",
    "model_attributes_type": "a kind, or keys and values",
}
"""What a user would call the types that pydantic asks for."""


def _as_kind(value: Any) -> Any:
    if isinstance(value, str):
        return {"kind": value}
    # A kind that never fits, so that a missing one is refused with the list of those that do.
    return {"kind": "", **value} if isinstance(value, Mapping) else value


OF_A_KIND = (Field(discriminator="kind"), BeforeValidator(_as_kind))
"""Metadata of a union of records told apart by `kind`; the bare word `margin` stands for `{kind: margin}`."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def spec(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only record which refuses unknown keys and wrong values."""
    own = {name for name in inspect.get_annotations(cls) if not name.startswith("_")}
    allowed = own.union(*(getattr(base, "__dataclass_fields__", ()) for base in cls.__mro__[1:]))

    def refuse_unknown(given: Any) -> Any:
        keys = given if isinstance(given, Mapping) else getattr(given, "kwargs", None) or ()
        unknown = {str(key): _unknown(str(key), allowed) for key in keys if key not in allowed}
        if unknown:
            message = "; ".join(f"{key}: {reason}" for key, reason in unknown.items())
            raise PydanticCustomError("unknown_key", message, {"unknown": unknown})
        return given

    cls._refuse_unknown = pydantic.model_validator(mode="before")(refuse_unknown)  # type: ignore[attr-defined]
    strict = ConfigDict(extra="forbid")
    return pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=strict)(cls)  # type: ignore[return-value]


def _unknown(key: str, allowed: Collection[str]) -> str:
    close = difflib.get_close_matches(key, sorted(allowed), 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown key{hint}; allowed: {', '.join(sorted(allowed))}"


def decode(kind: Any, tree: Any, path: str = "") -> Any:
    """Read a record of type `kind` from a tree of dicts, lists and scalars.

    Raises ValueError with one line per fault: the dotted path from `path` on, the value, what is allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(tree)
    except pydantic.ValidationError as error:
        raise ValueError("\n".join(_lines(error.errors(), tree, path))) from None


def _lines(faults: Sequence[Any], tree: Any, path: str) -> Iterator[str]:
    """One line per place: the branches of a union each refuse the same value in their own words."""
    said: dict[tuple[str, str], dict[str, None]] = {}
    for fault in faults:
        place = [path, *_keys(fault["loc"], tree, missing=fault["type"] == "missing")]
        for key, verdict, reason in _said(fault):
            where = ".".join(str(part) for part in (*place, key) if part != "") or "(top level)"
            said.setdefault((where, verdict), {})[reason] = None
    for (where, verdict), reasons in said.items():
        yield f"{where}: {verdict}{' or '.join(reasons)}"


def _said(fault: Any) -> Iterator[tuple[str, str, str]]:
    """What a fault says: a key below its place, or nothing; what is wrong; what would be right."""
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    match kind:
        case "missing":
            yield "", "", "is missing"
        case "unknown_key":
            yield from ((key, "", reason) for key, reason in context["unknown"].items())
        case "value_error":
            yield _of_a_key(str(context["error"]), given)
        case "union_tag_invalid":
            verdict = f"kind {given['kind']!r} is unknown" if given["kind"] != "" else "needs a kind"
            yield "", verdict, f"; allowed: {context['expected_tags']}"
        case "too_short" if len(given) >= context["min_length"]:
            return  # only its wrong items are missing, and they have a line of their own
        case _ if fault["msg"].startswith("Input should be "):
            right = PLAIN_WORDS.get(kind, fault["msg"].removeprefix("Input should be "))
            yield "", f"{given!r} is not allowed: must be ", right
        case _:
            yield "", f"{given!r} is not allowed: ", fault["msg"][0].lower() + fault["msg"][1:]


def _of_a_key(message: str, given: Any) -> tuple[str, str, str]:
    """What a record says of its own key, as in `step_size 2 is not allowed`, goes to that key's place."""
    first, _, rest = message.partition(" ")
    key = first.rstrip(":")
    known = isinstance(given, Mapping) and key.partition(".")[0] in given
    return (key, "", rest) if known else ("", "", message)


def _keys(location: Sequence[str | int], tree: Any, *, missing: bool) -> Iterator[str | int]:
    """The path of a fault as the user wrote it: without the tags by which unions are told apart."""
    for key in location:
        held = range(len(tree)) if isinstance(tree, (list, tuple)) else tree if isinstance(tree, Mapping) else ()
        inside = key in held
        if inside:
            tree = tree[key]
            yield key
    if missing:
        yield location[-1]


def encode(record: Any) -> dict[str, Any]:
    """The tree of a record: `decode(type(record), encode(record)) == record`."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return encode(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a tree under its dotted path: `{"scheme": {"steps": 5}}` gives `{"scheme.steps": 5}`."""
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


def seal(tree: Mapping[str, Any]) -> bytes:
    """A tree as a JSON object that is closed by the SHA-256 of all that stands before."""
    return _closed(json.dumps(tree, indent=1).removesuffix("\n}").encode())


def unseal(data: bytes) -> dict[str, Any]:
    """The content of a sealed JSON object, the hash left out; empty if one bit of it is not as it was."""
    if _closed(data[: -len(_closed(b""))]) != data:
        return {}
    try:
        content: dict[str, Any] = json.loads(data)
    except (ValueError, RecursionError):  # sealed by somebody else
        return {}
    del content["sha256"]
    return content


def _closed(body: bytes) -> bytes:
    return body + f',\n "sha256": "{hashlib.sha256(body).hexdigest()}"\n}}'.encode()
