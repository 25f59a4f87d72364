"""Validation errors in plain words: one line a fault, with its path, its value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mwm.config.written import Written, number_text, read_scalar

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

RENAMED = {
    "budget": ("query_budget", "limits"),
    "repeats": ("cache_answers",),
    "samples": ("num_samples",),
    "grace": ("grace_period",),
    "reduction": ("reduction_factor",),
    "base": ("trigger_set",),
    "same": ("victim_data",),
    "step": ("multistep",),
    "published": ("paper",),
}
"""Keys and kinds of the release before, and what they are called now."""


def fault_lines(faults: Sequence[Any], tree: Any, path: str, *, domains: Sequence[str] = ()) -> Iterator[str]:
    """One line per place: the branches of a union each refuse the same value in their own words.

    `domains` are the words that may stand for many values in this tree, as in `{grid: [1, 2]}`.
    """
    said: dict[tuple[str, str], dict[str, None]] = {}
    hints: dict[tuple[str, str], str] = {}
    for fault in faults:
        place = [path, *_keys(fault["loc"], tree, missing=fault["type"] == "missing")]
        for key, verdict, reason in _describe(fault):
            where = ".".join(str(part) for part in (*place, key) if part != "") or "(top level)"
            said.setdefault((where, verdict), {})[reason] = None
            hints[where, verdict] = _hint(fault, domains)
    for (where, verdict), reasons in said.items():
        yield f"{where}: {verdict}{' or '.join(reasons)}{hints[where, verdict]}"


def did_you_mean(word: str, allowed: Collection[str]) -> str:
    """What was meant by a word that is not allowed, to be said behind it; empty where nothing is like it."""
    close = difflib.get_close_matches(word, sorted(allowed), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def reason_of(error: BaseException) -> str:
    """Why something failed, in one line: what an error says, or what it is."""
    return " ".join(str(error).split()) or type(error).__name__


def shortened(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def unknown_key(key: str, allowed: Collection[str], below: Sequence[str] = ()) -> str:
    """What is wrong with a key that a record does not have: how it is called now, what was meant, what is allowed.

    `below` are the places deeper in the record that have such a key.
    """
    if now := [name for name in RENAMED.get(key, ()) if name in allowed]:
        return f"is now called {now[0]!r}"
    hint = f" (did you mean {' or '.join(map(repr, below))}?)" if below else did_you_mean(key, allowed)
    return f"unknown key{hint}; allowed: {', '.join(sorted(allowed))}"


def show(value: Any) -> str:
    """A value as it was written, or as people write it."""
    return number_text(value) if isinstance(value, float) and not isinstance(value, Written) else repr(value)


def _hint(fault: Any, domains: Sequence[str]) -> str:
    """What was probably meant by a value of another type: many values, a number in quotes, a text without any."""
    kind, given = fault["type"], fault["input"]
    if kind == "union_tag_invalid" and not isinstance(given["kind"], str):
        given = given["kind"]
    if kind == "string_type" and isinstance(given, (list, dict)):
        return "; write it in quotes"
    if kind in ("int_type", "float_type") and isinstance(given, str) and isinstance(read_scalar(given), Written):
        return "; leave out the quotes"
    if isinstance(given, list) and domains and kind != "too_short":
        return f"; for many values write {{{domains[0]}: {given}}}"
    if isinstance(given, Mapping):
        close = [word for key in given for word in difflib.get_close_matches(key, domains, 1, 0.75)]
        return f"; did you mean {{{close[0]}: [...]}}?" if close else ""
    return ""


def _describe(fault: Any) -> Iterator[tuple[str, str, str]]:
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
            kind, tags = given["kind"], context["expected_tags"]
            now = [name for name in RENAMED.get(str(kind), ()) if repr(name) in tags]
            meant = did_you_mean(str(kind), [tag.strip("'") for tag in tags.split(", ")])
            verdict = f"kind {kind!r} is unknown{meant}" if kind != "" else "needs a kind"
            yield "", verdict, f"; it is now called {now[0]!r}" if now else f"; allowed: {tags}"
        case "too_short" if len(given) >= context["min_length"]:
            return  # only its wrong items are missing, and they have a line of their own
        case _ if fault["msg"].startswith("Input should be "):
            right = PLAIN_WORDS.get(kind, fault["msg"].removeprefix("Input should be "))
            yield "", f"{show(given)} is not allowed: must be ", right
        case _:
            yield "", f"{show(given)} is not allowed: ", fault["msg"][0].lower() + fault["msg"][1:]


def _of_a_key(message: str, given: Any) -> tuple[str, str, str]:
    """What a record says of its own key, as in `step_size 2 is not allowed`, goes to that key's place."""
    first, _, rest = message.partition(" ")
    key = first.rstrip(":")
    known = isinstance(given, Mapping) and key.partition(".")[0] in given
    if known and isinstance(value := given.get(key), float):
        rest = rest.replace(f"{float(value)!r}", show(value), 1)
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
