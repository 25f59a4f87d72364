"""Functions of the user's own, named as module:function: their code runs only where it is trusted."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any
from weakref import WeakKeyDictionary

from mwm.config.spec import Field, Strict, spec

FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"
"""`module:function`, as it would be imported from the folder that the command is run in."""

FunctionName = Annotated[str, Strict(), Field(pattern=FUNCTION)]


@spec
class FromFunction:
    """Something that a function of the user's own returns: `function` is called with `arguments`."""

    function: FunctionName
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def call(self, **offered: Any) -> Any:
        """What the function returns; it gets those of `offered` for which it has a parameter.

        Raises ValueError, in one line, for what cannot be imported, and for what the function raises.
        """
        function = load_function(self.function)
        taken = inspect.signature(function).parameters
        every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values())
        fitting = {name: value for name, value in offered.items() if every or name in taken}
        try:
            return function(**fitting | self.arguments)
        except (Exception, SystemExit) as error:
            raise ValueError(f"{self.function}: failed ({_described(error)})") from error


def load_function(name: str) -> Callable[..., Any]:
    """The function that `module:function` names, from an installed package or from the folder of the command.

    Raises ValueError, in one line, if it cannot be imported or is no function.
    """
    module, _, path = name.partition(":")
    _search_here()
    try:
        found: Any = importlib.import_module(module)
        imported: ModuleType = found
        for part in path.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name}: cannot be imported ({_described(error)})") from error
    _require_as_imported(name, imported)
    if not callable(found):
        raise ValueError(f"{name}: is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


_IMPORTED: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""The digest of the code of each module of the user's own, as it was when a function was first asked of it here."""


def _require_as_imported(name: str, module: ModuleType) -> None:
    """Refuse a function whose code has changed since: Python goes on with the old one, and a digest would be wrong."""
    if not str(getattr(module, "__file__", "")).endswith(".py") or own_module(name) is None:
        return
    now = source_digest(name)
    if _IMPORTED.setdefault(module, now) != now:
        raise ValueError(f"{name}: its code has changed since it was imported in this process; start a new one")


def require_unchanged(functions: Iterable[tuple[str, str]], sources: Mapping[str, str]) -> None:
    """Refuse functions, each with its place, whose code is not that of the digests in `sources`."""
    for _, name in functions:
        if (now := source_digest(name)) != sources[name]:
            raise ValueError(f"{name}: its code has the digest {now}, and had {sources[name]} when this was begun")


def functions_in(record: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every function that a record names, and those in it, each with its place below `path`."""
    if isinstance(record, FromFunction):
        yield f"{path}.function", record.function
    if dataclasses.is_dataclass(record):
        for field in dataclasses.fields(record):
            yield from functions_in(getattr(record, field.name), f"{path}.{field.name}")
    elif isinstance(record, tuple):
        for place, one in enumerate(record):
            yield from functions_in(one, f"{path}.{place}")


def source_digest(name: str) -> str:
    """Sixteen hex digits of the code behind a function: of its module, or of all modules of the package around it.

    Raises ValueError, in one line, if there is no such module, or none in Python.
    """
    content = hashlib.sha256()
    for file in _sources(name):
        content.update(file.read_bytes())
    return content.hexdigest()[:16]


def own_module(name: str) -> Path | None:
    """The file of a function's module, or the folder of the package around it; None for what is installed."""
    place = _place(name)
    installed = {Path(sysconfig.get_paths()[kind]) for kind in ("purelib", "platlib", "stdlib")}
    return None if any(place.is_relative_to(folder) for folder in installed) else place


def _sources(name: str) -> list[Path]:
    place = _place(name)
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _place(name: str) -> Path:
    top = name.partition(":")[0].partition(".")[0]
    _search_here()
    found: ModuleSpec | None = find_spec(top)
    if found is None:
        raise ValueError(f"{name}: cannot be imported (there is no module {top!r})")
    if found.submodule_search_locations:
        return Path(found.submodule_search_locations[0])
    if found.origin is None or not found.origin.endswith(".py"):
        raise ValueError(f"{name}: is not allowed: {top} is not written in Python")
    return Path(found.origin)


def _search_here() -> None:
    """Let modules be found in the folder of the command, after all others."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)


def _described(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
