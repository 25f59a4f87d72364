"""YAML to a tree of plain values, with dotted overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?")
FRACTION = re.compile(r"[-+]?\d+(\.\d+)?/\d+(\.\d+)?")
INTEGER = re.compile(r"[-+]?\d[\d_]*")
MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` and `4/255` are numbers, and only `true` and `false` are flags (`no` is a word)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


def _construct_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if INTEGER.fullmatch(text):
        return int(text)
    if "/" not in text:
        return float(text)
    over, under = map(float, text.split("/"))
    if under == 0:
        raise ValueError(f"line {node.start_mark.line + 1}: {text} divides by zero")
    return over / under


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"line {key.start_mark.line + 1}: a key must be a single word")
        if key.value in seen:
            raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice")
        seen.add(key.value)
        if key.tag != MERGE:
            key.tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG  # `1` is a word here: keys of two types do not sort
    return loader.construct_mapping(node, deep=True)


def _construct_sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Loader.add_implicit_resolver("!number", re.compile(f"(?:{FRACTION.pattern}|{NUMBER.pattern})$"), [*"-+.0123456789"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:true|false|True|False)$"), list("tfTF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(MERGE, re.compile(r"<<$"), ["<"])
_Loader.add_constructor("!number", _construct_number)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _construct_sequence)


def parse_yaml(text: str) -> Any:
    """Read one YAML document. Raises ValueError with one line that names the place."""
    try:
        for token in yaml.scan(text, _Loader):
            if isinstance(token, yaml.TagToken):
                raise ValueError(f"line {token.start_mark.line + 1}: tags such as !!str are not allowed")
        return _copy_aliases(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"character {error.position + 1}: {error.reason}") from None


def _copy_aliases(tree: Any) -> Any:
    """A tree whose aliases are copies: an override of one place must not change another."""
    if isinstance(tree, dict):
        return {key: _copy_aliases(value) for key, value in tree.items()}
    return [_copy_aliases(value) for value in tree] if isinstance(tree, list) else tree


def load_yaml(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply overrides such as `victim.recipe.epochs=3`.

    Raises ValueError for a missing or unreadable file, wrong YAML, a document that is no mapping, a wrong override.
    """
    try:
        tree = parse_yaml(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file"
        raise ValueError(f"{path}: cannot be read ({reason})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: must hold keys and values, not {type(tree).__name__}")
    for item in overrides:
        apply_override(tree, item)
    return tree


def apply_override(tree: dict[str, Any], item: str) -> None:
    """Set one value in place, given as `dotted.path=value`; the value is YAML, a list is entered by its index."""
    path, equals, text = item.partition("=")
    keys = path.split(".")
    try:
        if not equals or not all(keys):
            raise ValueError("must read dotted.path=value")
        at: Any = tree
        for depth, key in enumerate(keys[:-1]):
            at = _enter(at, key, ".".join(keys[: depth + 1]))
        at[_index(at, keys[-1], path)] = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"--set {item}: {error}") from None


def _enter(at: Any, key: str, path: str) -> Any:
    """The container under `key`, the last of `path`: made if missing; the bare word `cnn` opens to `{kind: cnn}`."""
    place = _index(at, key, path)
    if isinstance(at, dict) and at.get(place) is None:
        at[place] = {}
    if isinstance(at[place], str):
        at[place] = {"kind": at[place]}
    if not isinstance(at[place], (dict, list)):
        raise ValueError(f"{path} is {at[place]!r} and holds no keys")
    return at[place]


def _index(at: Any, key: str, path: str) -> Any:
    """Where `key`, the last of `path`, leads in a container."""
    if isinstance(at, dict):
        return key
    if not key.isdecimal() or int(key) >= len(at):
        first = f"{path.rpartition('.')[0]}.0"
        entries = f"has entries 0 to {len(at) - 1}, such as {first}" if at else "is empty"
        raise ValueError(f"{key!r} is not allowed; the list {entries}")
    return int(key)
