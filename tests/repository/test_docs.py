"""README and docs/: links lead somewhere, commands parse, YAML decodes, Python runs, lines are short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

from mwm.config.loader import parse_yaml
from mwm.config.spec import decode
from mwm.runner.cli.app import COMMANDS, parse
from mwm.runner.sweeps.sweep import Sweep
from tests.helpers.launching import ROOT, environment
from tests.repository.reference import FOLDER, PAGES

PAGES_READ = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST, README_LINES = 100, 150
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(.*)$")
TRAINS = ("train_victim", "run_attack")


@dataclass(frozen=True)
class Block:
    """A block of code, as it stands on a page."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of code of a page."""
    lines = path.read_text().splitlines()
    begun: int | None = None
    for number, line in enumerate(lines):
        if found := FENCE.match(line.strip()):
            if begun is None:
                begun, info = number, found[1].strip()
            else:
                yield Block(path, begun + 1, info, "\n".join(lines[begun + 1 : number]))
                begun = None
    assert begun is None, f"{path}:{(begun or 0) + 1}: a block of code does not end"


def prose(path: Path) -> str:
    """A page without its blocks of code and inline code."""
    text = re.sub(r"(?ms)^\s*```.*?^\s*```$", "", path.read_text())
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as they are made where it is read."""
    text = re.sub(r"(?ms)^```.*?^```$", "", path.read_text())
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")
        same = sum(one == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", one) is not None for one in found)
        found.add(f"{slug}-{same}" if slug in found else slug)
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words after each `launch.py` in a piece of shell, up to the next operator."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words = list(lexer)
        for place, word in enumerate(words):
            if Path(word).name == "launch.py":
                yield list(takewhile(lambda word: not set(word) <= set(";&|<>"), words[place + 1 :]))


EVERY = [block for path in PAGES_READ for block in blocks(path)]
SHELL = [block for block in EVERY if block.info in ("sh", "bash", "shell", "console") and "launch.py" in block.text]
YAML = [block for block in EVERY if block.info.startswith("yaml")]
PYTHON = [block for block in EVERY if block.info == "python"]


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    current = (FOLDER / name).read_text() == PAGES[name]()
    assert current, "write it anew: python -m tests.repository.reference --write"


@pytest.mark.parametrize("path", PAGES_READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        found = (path.parent / place).resolve() if place else path
        assert found.exists(), f"{path.name}: {target}"
        assert found.is_relative_to(ROOT), f"{path.name}: {target} leaves the repository"
        if anchor:
            assert anchor in anchors(found), f"{path.name}: {target}"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_command_parses(block: Block) -> None:
    found = list(commands(block.text))
    assert found, "a launch.py that is no command"
    for words in found:
        parse(words)


@pytest.mark.parametrize("path", PAGES_READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_sentence_is_one(path: Path) -> None:
    for said in re.findall(r"`(?:\.venv/bin/python )?launch\.py ([^`]+)`", path.read_text()):
        first = said.split()[0]
        assert first in COMMANDS or first.startswith("-") or first == "COMMAND", said


@pytest.mark.parametrize("block", YAML, ids=str)
def test_every_yaml_is_a_sweep_or_says_that_it_is_a_part(block: Block) -> None:
    tree = parse_yaml(block.text)
    if block.info == "yaml fragment":
        assert isinstance(tree, (dict, list))
        return
    assert block.info == "yaml", "either a whole sweep, or `yaml fragment`"
    sweep: Sweep = decode(Sweep, tree)
    assert sweep.victim_specs
    assert sweep.attack_specs is not None


def _runs(block: Block, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=folder,
        env={**environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [one for one in PYTHON if not any(word in one.text for word in TRAINS)], ids=str)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    _runs(block, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", [one for one in PYTHON if any(word in one.text for word in TRAINS)], ids=str)
def test_python_that_trains_runs(block: Block, tmp_path: Path) -> None:
    _runs(block, tmp_path)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("path", PAGES_READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_are_short(path: Path) -> None:
    """Only a row of a table may be longer, where it cannot be cut: in the reference."""
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        row = path.parent == FOLDER and line.startswith("|")
        assert row or len(line) <= LONGEST, f"{path.name}:{number}: {len(line)} characters"


def test_every_page_is_found_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / one.partition("#")[0]).resolve() for one in LINK.findall(index.read_text())}
    assert {path for path in PAGES_READ if path.parent.name != "."} - linked - {index, ROOT / "README.md"} == set()
