"""Search spaces: trees in which some values stand for many, such as `{grid: [1/255, 4/255]}`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["grid", "choice", "uniform", "loguniform", "integers"]
DOMAIN_KINDS: tuple[Kind, ...] = get_args(Kind)
LARGEST = 2**63


@dataclass(frozen=True)
class Domain:
    """The values one place of a tree may take.

    `grid` and `choice` list options (which may hold domains again): every one is tried, or one is drawn. `uniform`,
    `loguniform` and `integers` are a range, both ends included. `path` is the place as it stands in the file.
    """

    path: str
    kind: Kind
    options: tuple[Any, ...]


def parse_domain(tree: Any, path: str) -> Domain | None:
    """Read `{kind: [...]}` as a domain; None for any other tree.

    Raises ValueError for a domain that holds nothing, or has other keys beside it.
    """
    kind = next((kind for kind in DOMAIN_KINDS if kind in tree), None) if isinstance(tree, dict) else None
    if kind is None:
        return None
    options = tree[kind]
    if beside := [key for key in tree if key != kind]:
        whole = f"replace {path} as a whole"
        inside = f"set {beside[0]} in one of its options, such as {path}.{kind}.0.{beside[0]}, or {whole}"
        records = isinstance(options, list) and any(isinstance(option, dict) for option in options)
        hint = inside if records else whole
        raise ValueError(f"{path}: is {{{kind}: [...]}} and holds no {beside[0]!r} beside it; {hint}")
    if not isinstance(options, list) or not options:
        raise ValueError(f"{path}.{kind}: {options!r} is not allowed: give a list of one value or more")
    if kind not in ("grid", "choice"):
        _check_range(options, kind, f"{path}.{kind}")
    return Domain(path, kind, tuple(options))


def _check_range(options: list[Any], kind: str, path: str) -> None:
    allowed = int if kind == "integers" else (int, float)
    numbers = all(isinstance(value, allowed) and not isinstance(value, bool) for value in options)
    if not numbers or len(options) != 2 or not -LARGEST < options[0] < options[1] < LARGEST:
        noun = "two whole numbers" if kind == "integers" else "two numbers"
        raise ValueError(f"{path}: {options!r} is not allowed: give {noun}, the lower one first")
    if kind == "loguniform" and options[0] <= 0:
        raise ValueError(f"{path}: {options!r} is not allowed: both numbers must be above 0")


def iter_domains(tree: Any, path: str = "") -> Iterator[Domain]:
    """Every domain of a tree, outer ones first."""
    here = parse_domain(tree, path)
    if here is not None:
        yield here
    for key, value in _children(tree):
        yield from iter_domains(value, _join(path, key))


def expand(tree: Any, options: Callable[[Domain], tuple[Any, ...]], path: str = "") -> Iterator[Any]:
    """Every tree in which each domain is replaced by one of its `options`; the last domain varies fastest."""
    here = parse_domain(tree, path)
    if here is not None:
        for index, option in enumerate(options(here)):
            yield from expand(option, options, f"{_join(path, here.kind)}.{index}")
    elif isinstance(tree, (dict, list)):
        keys, values = zip(*_children(tree), strict=True) if tree else ((), ())
        branches = [list(expand(value, options, _join(path, key))) for key, value in zip(keys, values, strict=True)]
        for chosen in itertools.product(*branches):
            yield dict(zip(keys, chosen, strict=True)) if isinstance(tree, dict) else list(chosen)
    else:
        yield tree


def count(tree: Any, options: Callable[[Domain], tuple[Any, ...]], path: str = "") -> int:
    """How many trees `expand` gives."""
    here = parse_domain(tree, path)
    if here is None:
        return math.prod(count(value, options, _join(path, key)) for key, value in _children(tree))
    places = enumerate(options(here))
    return sum(count(option, options, f"{_join(path, here.kind)}.{index}") for index, option in places)


def grid_options(here: Domain) -> tuple[Any, ...]:
    """The options of a grid. Any other domain is refused: a grid search draws nothing."""
    if here.kind != "grid":
        raise ValueError(f"{here.path}.{here.kind}: is not allowed in a grid search: use grid, or search.kind: random")
    return here.options


def corner_options(here: Domain) -> tuple[Any, ...]:
    """The corners of a domain: all options of a list, both ends of a range (as numbers of the kind that is drawn)."""
    return tuple(map(float, here.options)) if here.kind in ("uniform", "loguniform") else here.options


def sample(tree: Any, draw: Callable[[Domain], Any], path: str = "") -> Any:
    """The tree with every domain but the grids replaced by what `draw` takes from it."""
    here = parse_domain(tree, path)
    if here is not None and here.kind != "grid":
        value = draw(here)
        if here.kind != "choice":
            return value
        return sample(value, draw, f"{_join(path, here.kind)}.{here.options.index(value)}")
    if isinstance(tree, dict):
        return {key: sample(value, draw, _join(path, key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [sample(value, draw, _join(path, index)) for index, value in enumerate(tree)]
    return tree


def _children(tree: Any) -> list[tuple[Any, Any]]:
    if isinstance(tree, dict):
        return list(tree.items())
    return list(enumerate(tree)) if isinstance(tree, list) else []


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
