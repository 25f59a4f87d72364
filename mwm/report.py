"""Results of a sweep as tables and pictures: for a spreadsheet, for a program, and for a person."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor

from mwm import retention
from mwm.progress import KINDS, STATUSES, heading, plain, share
from mwm.queries import QuerySet
from mwm.results import COLUMNS, Result, rows
from mwm.retention import POINTS_LOST, Point, headline, points
from mwm.settings import (
    Groups,
    Members,
    Setting,
    attacks_of,
    grouped,
    measured,
    moments,
    names,
    stolen_of,
    varying,
    victims_of,
)
from mwm.store import put
from mwm.trial import LEVELS
from mwm.verdict import interval

GROUPED = ("clean_acc", "query_acc", "clean_drop", "agreement", "log10_p", *LEVELS)
TILE, GAP, LABEL = 96, 8, 26
"""Pixels of the query picture: least width of an image, space around it, height of its label."""


def write(folder: Path, sweep: str, results: Sequence[Result], *, seconds: float, complete: bool) -> None:
    """Write results.csv, summary.json and, where something was stolen, retention.csv, each replaced at once.

    `seconds` is the sweep's duration.
    """
    text, table = io.StringIO(), rows(sweep, results)
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    put(folder / "results.csv", text.getvalue())
    counts: Counter[tuple[str, str]] = Counter((row["kind"], row["status"]) for row in table)
    groups = grouped(results, table)
    found = points(groups)
    best = headline(found, stolen_of(groups))
    summary = {
        "sweep": sweep,
        "complete": complete,
        "seconds": seconds,
        **{f"{kind}s": {status: counts[kind, status] for status in STATUSES} for kind in KINDS},
        "table": [_entry(*settings, members) for settings, members in groups.items()],
        "convictions": [
            {"scheme": scheme, "attack": dict(attack), **_convicted(members)}
            for (scheme, attack), members in _by_scheme(groups).items()
        ],
        "headline": [
            {"victim": dict(victim), "points_lost": {str(most): _thief(point) for most, point in thieves.items()}}
            for victim, thieves in best.items()
        ],
    }
    put(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    if found:
        retention.write(found, folder / "retention.csv")


def picture(folder: Path, results: Sequence[Result]) -> None:
    """Draw the retention of a sweep's watermarks into retention.png, where something was stolen."""
    if found := points(grouped(results, rows("", results))):
        retention.draw(found, folder / "retention.png")


def _entry(victim: Setting, attack: Setting | None, members: Members) -> dict[str, Any]:
    entry: dict[str, Any] = {"victim": dict(victim), "attack": None if attack is None else dict(attack)}
    entry |= {status: sum(row["status"] == status for row in members) for status in STATUSES}
    return entry | {name: moments(measured(members, name)) for name in GROUPED}


def _by_scheme(groups: Groups) -> dict[tuple[str, Setting], Members]:
    """The students of each attack on each kind of scheme, all its settings together."""
    found: dict[tuple[str, Setting], list[Mapping[str, Any]]] = {}
    for (victim, attack), members in groups.items():
        if attack is not None:
            found.setdefault((dict(victim)["scheme.kind"], attack), []).extend(members)
    return dict(found)


def _convicted(members: Members) -> dict[str, Any]:
    """How many of the students are shown to be copies at p <= 0.001; their share, and its 95 % interval."""
    proofs = measured(members, "owned_1e3")
    count, students = round(sum(proofs)), len(proofs)
    low, high = interval(count, students) if students else (None, None)
    part = count / students if students else None
    return {"students": students, "convicted": count, "share": part, "low": low, "high": high}


def _thief(point: Point | None) -> dict[str, Any] | None:
    """The thief of a headline, and what it left."""
    if point is None or point.lost is None:
        return None
    told = {"query_acc": point.query_acc.value, "points_lost": 100 * point.lost}
    return told | {"attack": dict(point.attack), "budget": point.budget}


def tables(results: Sequence[Result]) -> Iterator[Table]:
    """What a person reads at the end: what survives, whom it convicts, and what the best thief leaves.

    The last two only where something was stolen.
    """
    groups = grouped(results, rows("", results))
    yield survival(groups)
    if attacks_of(groups):
        yield convictions(groups)
        yield kept(groups)


def survival(groups: Groups) -> Table:
    """What each setting of the victim costs and what of it survives each attack, as mean ± sd over seeds.

    One line per setting; of its fields only those are shown in which the results differ. Student figures are query
    accuracies, bold where every student proves the theft at p <= 0.001.
    """
    counts = sorted({sum(row["status"] == "done" for row in members) for members in groups.values()} - {0})
    attacks = attacks_of(groups)
    headings = ["victim clean", "clean drop", "victim query", *names(attacks, "kind").values()]
    return _by_setting(headings, {one: _figures(one, attacks, groups) for one in victims_of(groups)}, _caption(counts))


def _by_setting(headings: Sequence[str], cells: Mapping[Setting, Sequence[Text]], caption: str) -> Table:
    """A table with a line per setting of the victim: the fields in which they differ, then its cells."""
    paths = [path for path in varying(cells) if path != "scheme.kind"]
    made = _blank(caption)
    for name in ("scheme", *map(heading, paths), *headings):
        side: Literal["left", "right"] = "left" if name == "scheme" else "right"
        made.add_column(Text(name.replace(" ", "\n")), justify=side, overflow="fold")
    for victim, own in cells.items():
        values = dict(victim)
        shown = [Text(plain(path, values[path]) if path in values else "") for path in paths]
        made.add_row(values["scheme.kind"], *shown, *own)
    return made


def _blank(caption: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, caption=caption, caption_justify="left")


def _figures(victim: Setting, attacks: Sequence[Setting], groups: Groups) -> list[Text]:
    own = groups.get((victim, None), [])
    texts = (_figure(own, "clean_acc", 3) + _ends(own), _figure(own, "clean_drop", 3), _figure(own, "query_acc", 2))
    cells = [Text(text) for text in texts]
    for attack in attacks:
        members = groups.get((victim, attack), [])
        proofs = measured(members, "owned_1e3")
        style = "bold" if proofs and all(proofs) else ""
        cells.append(Text(_figure(members, "query_acc", 2) + _ends(members), style))
    return cells


def _figure(members: Members, name: str, digits: int) -> str:
    found = moments(measured(members, name))
    # The space in front keeps figures further apart than the fields before them.
    mean = "" if found["mean"] is None else f" {share(found['mean'], digits)}"
    return mean if found["sd"] is None else f"{mean} ± {share(found['sd'], digits)}"


def _ends(members: Members) -> str:
    """What did not end well, on a line of its own so that columns stay narrow; on the first if nothing ended well."""
    counts = Counter(row["status"] for row in members)
    ends = [f"{counts[status]} {status}" for status in STATUSES if status != "done" and counts[status]]
    return ("\n" if counts["done"] else "") + f"({', '.join(ends)})" if ends else ""


def _caption(counts: Sequence[int]) -> str:
    if not counts:
        return "no results yet"
    seeds = f"{counts[0]}-{counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    spread = f"mean ± sd of {seeds} seeds" if counts[-1] > 1 else "1 seed"
    return f"{spread}; attacks: the student's query accuracy, p ≤ .001 for every seed in bold"


def convictions(groups: Groups) -> Table:
    """How many students of each attack the watermark convicts, by kind of scheme, all settings and seeds together."""
    by_scheme, named = _by_scheme(groups), names(attacks_of(groups), "kind")
    schemes = list(dict.fromkeys(scheme for scheme, _ in by_scheme))
    made = _blank("students convicted (p ≤ .001) of all settings and seeds of a scheme; 95 % interval of their share")
    for name in ("attack", *schemes):
        made.add_column(name, justify="left" if name == "attack" else "right")
    for attack, name in named.items():
        made.add_row(name, *(_share(by_scheme.get((scheme, attack), [])) for scheme in schemes))
    return made


def _share(members: Members) -> str:
    told = _convicted(members)
    if not told["students"]:
        return "-"
    return f"  {told['convicted']}/{told['students']} [{share(told['low'], 2)}, {share(told['high'], 2)}]"


def kept(groups: Groups) -> Table:
    """The headline: what is left against the best thief that gives up 1, 3 or 5 points of accuracy at most."""
    best = headline(points(groups), stolen_of(groups))
    cells = {victim: [_left(point) for point in thieves.values()] for victim, thieves in best.items()}
    caption = "the least query accuracy left by a thief that lost so many points of clean accuracy at most"
    return _by_setting([f"≤ {most} lost" for most in POINTS_LOST], cells, caption)


def _left(point: Point | None) -> Text:
    return Text(" -" if point is None else f" {share(point.query_acc.value, 2)}")


def query_picture(queries: QuerySet, perturbed: Tensor, path: Path) -> None:
    """Draw all queries with "true -> assigned" labels into a PNG, and beneath each what the ascent made of it.

    `perturbed`: the images after the ascent (uint8 n c h w), shown if any differs.
    """
    from PIL import Image, ImageDraw

    assert perturbed.shape == queries.images.shape, f"{tuple(perturbed.shape)} for {tuple(queries.images.shape)}"
    moved = bool((queries.images != perturbed).any())
    height, width = queries.images.shape[2:]
    scale = -(-TILE // width)
    across, high = min(len(queries), 10), scale * height
    step = (scale * width + GAP, LABEL + (high + GAP) * (1 + moved))
    sheet = Image.new("RGB", (across * step[0] + GAP, -(-len(queries) // across) * step[1] + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (truth, assigned) in enumerate(zip(queries.truth.tolist(), queries.labels.tolist(), strict=True)):
        left, top = GAP + i % across * step[0], GAP + i // across * step[1]
        pen.text((left + scale * width / 2, top), f"{truth} -> {assigned}", "black", anchor="ma", font_size=18)
        for down, image in enumerate([queries.images[i], perturbed[i]][: 1 + moved]):
            colour = Image.fromarray(image.expand(3, -1, -1).permute(1, 2, 0).cpu().contiguous().numpy())
            shown = colour.resize((scale * width, high), Image.Resampling.NEAREST)
            sheet.paste(shown, (left, top + LABEL + down * (high + GAP)))
    content = io.BytesIO()
    sheet.save(content, "PNG")
    put(path, content.getvalue())
