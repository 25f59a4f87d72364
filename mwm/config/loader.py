"""YAML to a tree of plain values, with dotted overrides."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mwm.config.written import number_text, plain, read_scalar

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` and `4/255` are numbers, and only `true` and `false` are flags (`no` is a word)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """The reverse: words that would be read as something else are quoted, numbers are written as people write them."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        """What occurs twice is written twice."""
        del data
        return True


def _represent_scalar(dumper: yaml.SafeDumper, value: Any) -> yaml.ScalarNode:
    if isinstance(value, str):
        text, style = value, None if isinstance(read_scalar(value), str) and value.isprintable() else '"'
    else:
        text, style = number_text(value) if isinstance(value, float) else json.dumps(value), None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


for _kind in (str, bool, int, float, type(None)):
    _Dumper.add_representer(_kind, _represent_scalar)


def dump_yaml(tree: Any) -> str:
    """A tree of plain values as YAML that is read as the same tree; what is innermost stands on one line."""
    return yaml.dump(
        plain(tree), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )


def _construct_scalar(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    del loader
    return node.value if node.style else read_scalar(node.value)


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: set[str] = set()
    for key, value in node.value:
        line = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"{line}: a key must be a single word")
        if key.value in seen:
            raise ValueError(f"{line}: the key {key.value!r} is given twice")
        nothing = isinstance(value, yaml.ScalarNode) and not value.value and not value.style
        if not key.style and ":" in key.value and nothing:
            raise ValueError(f"{line}: {key.value!r} is not allowed: write a space after the colon")
        seen.add(key.value)
    loader.flatten_mapping(node)
    # Keys are words, `1` too: keys of two types do not sort.
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _construct_sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_Loader.add_implicit_resolver(MERGE, re.compile(r"<<$"), ["<"])
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG, _construct_scalar)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SEQUENCE_TAG, _construct_sequence)


def parse_yaml(text: str) -> Any:
    """Read one YAML document to dicts, lists, words and what is `Written`, of which `decode` makes what a field holds.

    Raises ValueError with one line that names the place.
    """
    try:
        for token in yaml.scan(text, _Loader):
            if isinstance(token, yaml.TagToken):
                raise ValueError(f"line {token.start_mark.line + 1}: tags such as !!str are not allowed")
        return _copy_aliases(yaml.load(text, _Loader))
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        hint = "; indent with spaces" if "\\t" in str(error.problem) else ""
        raise ValueError(f"{line}{error.problem}{hint}") from None
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
        tree = parse_yaml(decode_text(path.read_bytes()))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        found = "a list" if isinstance(tree, list) else repr(tree) if plain(tree) is not None else "nothing"
        raise ValueError(f"{path}: must hold keys and values; it holds {found}")
    for item in overrides:
        apply_override(tree, item)
    return tree


def decode_text(content: bytes) -> str:
    """The text of a file in UTF-8, with a byte order mark or without; ValueError for any other encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("is UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: byte 0x{content[error.start]:02x} is not UTF-8: save it as UTF-8") from None


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
        at[_index(at, keys[-1], path)] = _parse_value(text)
    except ValueError as error:
        raise ValueError(f"--set {item}: {error}") from None


def _parse_value(text: str) -> Any:
    """The value of an override: YAML, but nothing in it is a comment."""
    tree = parse_yaml(text)
    quoted = text.lstrip().startswith(("'", '"'))
    return tree if quoted or isinstance(tree, (dict, list)) else read_scalar(text.strip())


def _enter(at: Any, key: str, path: str) -> Any:
    """The container under `key`, the last of `path`: made if missing; the bare word `cnn` opens to `{kind: cnn}`."""
    place = _index(at, key, path)
    if isinstance(at, dict) and plain(at.get(place)) is None:
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
