"""What is true of every picture: it can be read at its size, in the dark, in grey, and is the same each time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mwm.runner.reporting.figures import style
from mwm.runner.reporting.figures.catalogue import drawn
from tests.helpers.drawn import CASES, assert_readable, draw_pictures, figures_of, grouped
from tests.helpers.ended import MARGIN, failed, result, trial

EXPECTED = {
    "one of each": {"heatmap"},
    "no control": {"heatmap", "retention"},
    "no exact test": {"heatmap", "retention"},
    "budgets": {"heatmap", "front", "retention", "strength"},
    "long names": {"heatmap", "front", "retention", "strength"},
    "many": {"heatmap", "front", "retention", "strength"},
    "many attacks": {"matrix", "front", "retention", "strength"},
}
"""The pictures of which there are no more than these; of the other cases there are all."""


@pytest.mark.parametrize("width", [style.FULL, style.COLUMN])
@pytest.mark.parametrize("case", CASES)
def test_what_can_be_seen_is_drawn_and_can_be_read(case: str, width: float) -> None:
    figures = figures_of(case, width)
    assert {*figures} == EXPECTED.get(case, {"heatmap", "front", "retention"})
    for name, figure in figures.items():
        assert figure.get_figwidth() == width or (name in ("heatmap", "matrix") and figure.get_figwidth() > width)
        assert_readable(figure)


@pytest.mark.parametrize("ended", [[], [result(trial(MARGIN))], [failed(trial(MARGIN))]])
def test_nothing_is_drawn_where_nothing_was_attacked(ended: list[Any], tmp_path: Path) -> None:
    assert drawn(grouped(ended)) == {}
    (tmp_path / "front.png").write_bytes(b"of an earlier sweep of this name")
    draw_pictures(tmp_path, ended)
    assert [*tmp_path.iterdir()] == []


def test_files_are_the_same_each_time_whatever_the_settings_of_a_machine(tmp_path: Path) -> None:
    def written(folder: Path, figures: dict[str, Any]) -> dict[str, bytes]:
        folder.mkdir()
        for name, figure in figures.items():
            for suffix in ("png", "svg", "pdf"):
                style.save(figure, folder / f"{name}.{suffix}")
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first = written(tmp_path / "one", figures_of("no exact test"))
    with mpl.rc_context({"font.size": 20, "svg.fonttype": "none", "lines.linewidth": 9, "savefig.transparent": True}):
        assert written(tmp_path / "two", drawn(grouped(CASES["no exact test"]))) == first
    assert len(first) == 6
    assert not any(word in content for content in first.values() for word in (b"dc:date", b"CreationDate", b"Software"))


def test_pictures_of_a_results_folder_are_wide_enough_for_a_screen(tmp_path: Path) -> None:
    draw_pictures(tmp_path, CASES["a control"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.png", "heatmap.png", "retention.png"]
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width == round(180 * style.FULL)


def inlined(case: str) -> list[str]:
    return [style.inline_svg(figure, f"{name} of <{case}>") for name, figure in figures_of(case).items()]


def test_inline_pictures_are_elements_of_a_page_on_their_own() -> None:
    page = "".join(inlined("budgets") + inlined("a control"))
    tree = ET.fromstring(f"<div>{page}</div>")
    pictures = [*tree]
    assert len(pictures) == 7
    ids = [element.attrib["id"] for element in tree.iter() if "id" in element.attrib]
    assert len(ids) == len({*ids})
    named = re.findall(r'(?:href="#|url\(#|labelledby=")([^")]+)', page)
    assert {*named} <= {*ids}
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert "://" not in value, f"{name}={value} is elsewhere"
            assert not name.endswith("href") or value.startswith("#")
    assert "font-family" not in page
    assert "@import" not in page


def test_inline_pictures_say_what_they_are_and_have_the_size_of_their_place() -> None:
    for picture in inlined("a control"):
        root = ET.fromstring(picture)
        title = root[0]
        assert title.tag.endswith("title")
        assert title.text is not None
        assert title.text.endswith("of <a control>")
        assert (root.attrib["role"], root.attrib["aria-labelledby"]) == ("img", title.attrib["id"])
        assert "viewBox" in root.attrib
        assert not {"width", "height"} & {*root.attrib}


def test_black_follows_the_page_and_its_ground_is_not_covered() -> None:
    figure = Figure((1, 1))
    panel = figure.subplots()
    panel.plot([0, 1], color="black")
    panel.plot([1, 0], color=style.COLOURS[0])
    text = style.inline_svg(figure, "lines")
    assert "#000000" not in text
    assert "currentColor" in text
    assert style.COLOURS[0].lower() in text
    root = ET.fromstring(text)
    assert root.attrib["fill"] == "currentColor"
    grounds = [element for element in root.iter() if element.attrib.get("id", "").endswith(("patch_1", "patch_2"))]
    assert len(grounds) == 2
    assert all(
        "fill: none" in ET.tostring(ground, "unicode") or "opacity: 0" in ET.tostring(ground, "unicode")
        for ground in grounds
    )
