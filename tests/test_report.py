"""Results as files, tables and pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from mwm.queries import QuerySet
from mwm.report import picture, query_picture, tables, write
from mwm.results import COLUMNS, Result, rows
from mwm.verdict import interval
from tests.ended import DISTILLED, HARD, MARGIN, NONE, SOFT, failed, result, trial


def shown(results: list[Result]) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    for made in tables(results):
        console.print(made)
    return console.export_text()


def cells(results: list[Result], number: int = 0) -> list[list[str]]:
    """A table's cells, row by row."""
    made = [*tables(results)][number]
    return [
        list(row)
        for row in zip(*([str(cell).strip() for cell in column.cells] for column in made.columns), strict=True)
    ]


def headings(results: list[Result], number: int = 0) -> list[str]:
    return [str(column.header).replace("\n", " ") for column in [*tables(results)][number].columns]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_the_csv_gives_every_value_back(
    tmp_path_factory: pytest.TempPathFactory, measured: list[float], margin: float
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    ended = [result(trial(MARGIN, seed), clean_acc=acc, margin_mean=margin) for seed, acc in enumerate(measured)]
    ended.append(replace(failed(trial(NONE)), run_id='a, "b"\nc'))
    write(folder, "s", ended, seconds=1.5, complete=True)
    with (folder / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    for row, line in zip(rows("s", ended), read, strict=True):
        for name in COLUMNS:
            value = row[name]
            assert line[name] == ("" if value is None else repr(value) if isinstance(value, float) else str(value))
    assert [float(line["clean_acc"]) for line in read[:-1]] == measured
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "summary.json"]


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=3))
def test_the_summary_groups_over_seeds(tmp_path_factory: pytest.TempPathFactory, groups: list[list[float]]) -> None:
    folder = tmp_path_factory.mktemp("summary")
    ended = []
    for number, accs in enumerate(groups):
        for seed, acc in enumerate(accs):
            ended.append(result(trial(MARGIN | {"num_queries": number + 1}, seed), clean_acc=acc))
            ended.append(result(trial(MARGIN | {"num_queries": number + 1}, seed, SOFT), query_acc=acc))
    write(folder, "s", ended, seconds=1.5, complete=False)
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["table"]) == 2 * len(groups)
    for entry in summary["table"]:
        accs = groups[entry["victim"]["scheme.num_queries"] - 1]
        mean = sum(accs) / len(accs)
        spread = math.sqrt(sum((acc - mean) ** 2 for acc in accs) / (len(accs) - 1)) if len(accs) > 1 else None
        found = entry["query_acc" if entry["attack"] else "clean_acc"]
        assert found["n"] == entry["done"] == len(accs)
        assert found["mean"] == pytest.approx(mean)
        assert found["sd"] == (None if spread is None else pytest.approx(spread, abs=1e-9))


def test_the_summary_counts_what_ended_how(tmp_path: Path) -> None:
    ended = [
        result(trial(MARGIN, 0)),
        result(trial(MARGIN, 1)),
        failed(trial(MARGIN, 2)),
        result(trial(MARGIN, 0, SOFT)),
    ]
    ended += [failed(trial(MARGIN, 1, SOFT)), failed(trial(MARGIN, 2, SOFT), "skipped")]
    write(tmp_path / "new", "s", ended, seconds=1.5, complete=False)
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert summary["victims"] == {"done": 2, "failed": 1, "skipped": 0, "stopped": 0}
    assert summary["attacks"] == {"done": 1, "failed": 1, "skipped": 1, "stopped": 0}
    assert (summary["sweep"], summary["seconds"], summary["complete"]) == ("s", 1.5, False)
    assert [entry["agreement"] for entry in summary["table"]] == [{"n": 0, "mean": None, "sd": None}] * 2


def test_the_table_shows_means_and_deviations_over_seeds() -> None:
    ended = []
    for seed, (clean, query, stolen) in enumerate([(0.9, 1.0, 0.40), (0.92, 0.95, 0.5), (0.97, 0.9, 0.45)]):
        ended.append(result(trial(NONE, seed), clean_acc=0.98, query_acc=0.0, log10_p=0.0))
        ended.append(result(trial(MARGIN, seed), clean_acc=clean, query_acc=query))
        ended.append(result(trial(MARGIN, seed, SOFT), query_acc=stolen))
        ended.append(result(trial(NONE, seed, SOFT), query_acc=0.0, log10_p=0.0))
    ended.append(failed(trial(MARGIN, 3, SOFT)))
    assert cells(ended) == [
        ["none", ".980 ± .000", ".000 ± .000", ".00 ± .00", ".00 ± .00"],
        ["margin", ".930 ± .036", ".050 ± .036", ".95 ± .05", ".45 ± .05\n(1 failed)"],
    ]
    assert headings(ended) == ["scheme", "victim clean", "clean drop", "victim query", "extraction"]
    text = " ".join(shown(ended).split())
    for figure in (".930 ± .036", ".45 ± .05", "(1 failed)", "mean ± sd of 3 seeds", "query accuracy"):
        assert figure in text


def test_a_single_seed_has_no_deviation_and_a_lost_group_no_figure() -> None:
    ended = [result(trial(MARGIN), clean_acc=0.9994), failed(trial(MARGIN, 0, SOFT))]
    ended += [failed(trial(MARGIN, 0, HARD), "skipped")]
    assert cells(ended) == [["margin", ".999", "", ".50", "(1 failed)", "(1 skipped)"]]
    assert "1 seed;" in shown(ended)


def test_the_table_names_only_the_fields_that_differ() -> None:
    ended = [result(trial(NONE))]
    for size, per_step in ((10 / 255, 25), (0.1, "all")):
        scheme = MARGIN | {"step_size": size, "queries_per_step": per_step}
        ended += [result(trial(scheme)), result(trial(scheme, 1)), result(trial(scheme, split={"seed": 3}))]
    assert headings(ended)[:3] == ["scheme", "step size", "per step"]
    assert [row[:3] for row in cells(ended)] == [["none", "", ""], ["margin", "10/255", "25"], ["margin", "0.1", "all"]]


def test_attacks_are_named_by_what_tells_them_apart() -> None:
    attacks: list[dict[str, Any]] = [SOFT, HARD, DISTILLED, SOFT | {"student": "resnet18"}, SOFT | {"temperature": 4.0}]
    attacks += [SOFT | {"source": "svhn"}, SOFT | {"seed": 5}]
    ended = [result(trial(MARGIN, 0, attack)) for attack in attacks]
    names = ["extraction soft T=1", "extraction hard T=1", "distillation soft T=1", "extraction soft resnet18 T=1"]
    assert headings(ended)[4:] == [*names, "extraction soft T=4", "extraction soft svhn T=1"]


def test_students_that_follow_their_victim_are_one_attack_and_a_fixed_student_is_one_too() -> None:
    networks = ({"kind": "cnn", "width": 8}, {"kind": "cnn", "width": 16}, {"kind": "resnet20"})
    follow = [result(trial(MARGIN, 0, SOFT, model=network)) for network in networks]
    fixed = [result(trial(MARGIN, 0, SOFT | {"student": "resnet20"}, model=network)) for network in networks]
    for ended in (follow, fixed):
        assert headings(ended)[-1] == "extraction"
        assert [row[-1] for row in cells(ended)] == [".50"] * 3
    assert headings(follow)[1:3] == ["model", "width"]


def test_proven_thefts_are_bold() -> None:
    proofs = [(SOFT, 0, -3.0), (SOFT, 1, -9.0), (HARD, 0, -9.0), (HARD, 1, -2.9)]
    ended = [result(trial(MARGIN, seed, attack), log10_p=proof) for attack, seed, proof in proofs]
    soft, hard = next(tables(ended)).columns[-2:]
    assert [getattr(cell, "style", None) for column in (soft, hard) for cell in column.cells] == ["bold", ""]


def test_three_fields_and_three_attacks_fit_a_hundred_columns() -> None:
    ended = []
    for count, norm, size, seed in product((20, 100), ("reference", "clean"), (4 / 255, 10 / 255), range(3)):
        scheme = MARGIN | {"num_queries": count, "batchnorm": norm, "step_size": size}
        ended.append(result(trial(scheme, seed), clean_acc=0.9 + seed / 50))
        ended += [result(trial(scheme, seed, a), query_acc=seed / 4) for a in (SOFT, HARD, DISTILLED)]
    ended += [result(trial(NONE, seed), clean_acc=0.93) for seed in range(3)]
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(next(tables(ended)))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert max(map(len, lines)) <= 100
    assert len(lines) == 2 + 1 + 9 + 1, "a cell was broken over two lines"
    assert "margin 100 10/255 reference" in "\n".join(lines)


def test_no_results_make_an_empty_table_and_an_empty_file(tmp_path: Path) -> None:
    assert rows("s", []) == []
    assert cells([]) == []
    assert "no results" in shown([])
    write(tmp_path, "s", [], seconds=0.0, complete=True)
    assert (tmp_path / "results.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert json.loads((tmp_path / "summary.json").read_text())["table"] == []


def stolen(scheme: dict[str, Any], seed: int, attack: dict[str, Any], query: float, **more: Any) -> Result:
    """A student that cost 100 calls; it proves the theft above a fifth of the queries."""
    proof = {"query_acc": query, "log10_p": -30 * query, "oracle_calls": 100}
    return result(trial(scheme, seed, attack), **(proof | more))


def test_the_convicted_are_counted_by_attack_and_kind_of_scheme() -> None:
    wide, ended = MARGIN | {"step_size": 0.1}, []
    for seed in (0, 1, 2):
        ended += [result(trial(scheme, seed)) for scheme in (NONE, MARGIN, wide)]
        ended += [stolen(NONE, seed, SOFT, 0.0), stolen(MARGIN, seed, SOFT, 0.5), stolen(wide, seed, SOFT, seed / 10)]
        ended += [stolen(MARGIN, seed, HARD, 0.05)]
    ended += [failed(trial(MARGIN, 3, HARD)), failed(trial(wide, 0, HARD), "skipped"), failed(trial(NONE, 0, HARD))]
    assert headings(ended, 1) == ["attack", "none", "margin"]
    assert cells(ended, 1) == [
        ["extraction soft", "0/3 [.00, .71]", "5/6 [.36, 1.00]"],
        ["extraction hard", "-", "0/3 [.00, .71]"],
    ]
    assert "p ≤ .001" in shown(ended)


def test_the_headline_is_that_of_the_best_thief_who_gives_up_so_much() -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.95) for seed in (0, 1)]
    ended += [result(trial(NONE, seed), clean_acc=0.98) for seed in (0, 1)]
    for seed in (0, 1):
        ended.append(stolen(MARGIN, seed, SOFT, 0.6, clean_acc=0.96))
        ended.append(stolen(MARGIN, seed, SOFT | {"budget": 100}, 0.2 + 0.1 * seed, clean_acc=0.9 + 0.02 * seed))
        ended.append(stolen(NONE, seed, SOFT | {"budget": 100}, 0.0, clean_acc=0.8))
    assert headings(ended, 2) == ["scheme", "≤ 1 lost", "≤ 3 lost", "≤ 5 lost"]
    assert cells(ended, 2) == [["margin", ".60", ".60", ".25"], ["none", "-", "-", "-"]]


def test_the_summary_holds_convictions_and_the_headline(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT | {"budget": 100}, 0.5, clean_acc=0.93)]
    ended.append(failed(trial(MARGIN, 0, HARD)))
    write(tmp_path, "s", ended, seconds=1.5, complete=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    told, lost = summary["convictions"]
    low, high = interval(1, 1)
    assert (told["scheme"], told["attack"]["labels"], told["attack"]["budget"]) == ("margin", "soft", 100)
    assert [told[key] for key in ("students", "convicted", "share", "low", "high")] == [1, 1, 1.0, low, high]
    assert [lost[key] for key in ("students", "convicted", "share", "low", "high")] == [0, 0, None, None, None]
    (line,) = summary["headline"]
    assert line["victim"]["scheme.kind"] == "margin"
    kept = line["points_lost"]
    assert kept["1"] is None
    assert (
        kept["3"]
        == kept["5"]
        == {
            "query_acc": 0.5,
            "points_lost": pytest.approx(2.0),
            "attack": {key: value for key, value in told["attack"].items() if key != "budget"},
            "budget": 100,
        }
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "retention.csv", "summary.json"]


def test_what_was_not_stolen_has_one_table_and_no_picture(tmp_path: Path) -> None:
    for ended in ([], [result(trial(MARGIN))], [failed(trial(MARGIN))]):
        assert len([*tables(ended)]) == 1
        picture(tmp_path, ended)
        write(tmp_path, "s", ended, seconds=0.0, complete=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "summary.json"]


def test_a_sweep_whose_students_all_failed_is_still_told(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN)), failed(trial(MARGIN, 0, SOFT))]
    assert cells(ended, 1) == [["extraction", "-"]]
    assert cells(ended, 2) == [["margin", "-", "-", "-"]]
    picture(tmp_path, ended)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "channels", "side"), [(1, 1, 8), (3, 3, 32), (25, 1, 8)])
def test_the_picture_shows_every_query_and_the_ascent_only_if_it_moved_something(
    tmp_path: Path, count: int, channels: int, side: int
) -> None:
    images, labels = torch.full((count, channels, side, side), 100, dtype=torch.uint8), torch.arange(count) % 10
    asked = QuerySet(images, labels, (labels + 1) % 10)
    query_picture(asked, asked.images, tmp_path / "still.png")
    query_picture(asked, asked.images + 50, tmp_path / "moved.png")
    still, moved = (np.asarray(Image.open(tmp_path / name)) for name in ("still.png", "moved.png"))
    assert moved.shape[0] > still.shape[0]
    assert (still == 100).all(-1).sum() >= count * 96**2
    assert (moved == 150).all(-1).sum() >= count * 96**2
    assert (still == 150).all(-1).sum() < 96, "an image where nothing moved"
