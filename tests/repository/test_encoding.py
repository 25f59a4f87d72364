"""Files are UTF-8 whatever the locale says: whoever reads or writes text names its encoding."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "launch.py", *sorted((ROOT / "mwm").rglob("*.py"))]


def in_the_locale(tree: ast.AST) -> Iterator[int]:
    """The lines that read or write text in the locale's encoding."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        *owner, called = ast.unparse(node.func).rsplit(".", 1)
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        modes = [one.value for one in (*node.args, *named.values()) if isinstance(one, ast.Constant)]
        binary = any(isinstance(mode, str) and "b" in mode and set(mode) <= set("rwaxb+") for mode in modes)
        texts = called in ("read_text", "write_text") or (
            called in ("open", "fdopen") and owner not in (["os"], ["Image"], ["webbrowser"]) and not binary
        )
        flags = [named.get(name) for name in ("text", "universal_newlines")]
        texts |= any(isinstance(flag, ast.Constant) and flag.value is True for flag in flags)
        if texts and "encoding" not in named:
            yield node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_is_read_and_written_in_a_named_encoding(path: Path) -> None:
    assert list(in_the_locale(ast.parse(path.read_bytes()))) == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.open()\nopen(path, 'w')", [1, 2]),
        ("path.open('rb')\nopen(path, mode='ab')\npath.read_text(encoding='utf-8')\nos.open(path, 0)", []),
        ("subprocess.run(words, text=True)", [1]),
        ("write(tag, text=words)", []),
    ],
)
def test_the_search_finds_them(code: str, lines: list[int]) -> None:
    assert list(in_the_locale(ast.parse(code))) == lines
