"""Results as files, tables and pictures."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mwm.config.spec import decode
from mwm.data.datasets import DatasetSpec
from mwm.runner.reporting.csv_files import read_results
from mwm.runner.reporting.export import write_results
from mwm.runner.reporting.figures.queries import draw_query_grid
from mwm.runner.reporting.results import result_rows
from mwm.stats.intervals import clopper_pearson
from mwm.watermarks.queries import QuerySet
from tests.helpers.drawn import draw_pictures
from tests.helpers.ended import (
    CONFUSION,
    HARD,
    MARGIN,
    NONE,
    SOFT,
    answers,
    control,
    failed,
    result,
    shown,
    stolen,
    trial,
)


def test_words_that_look_like_numbers_are_read_back_as_words(tmp_path: Path) -> None:
    secret = replace(trial(MARGIN).victim, secret="0012", data=decode(DatasetSpec, {"kind": "npz", "path": "61e9540"}))
    ended = result(replace(trial(MARGIN), victim=secret), clean_acc=0.5)
    write_results(tmp_path, "s", [ended], seconds=1.5, complete=True)
    (row,) = read_results(tmp_path)
    assert (row["victim.secret"], row["victim.data.path"]) == ("0012", "61e9540")
    assert row["clean_acc"] == 0.5
    data = decode(DatasetSpec, {"kind": "arrays", "digest": "1234567890123456"})
    ended = result(replace(trial(MARGIN), victim=replace(secret, data=data)))
    write_results(tmp_path, "s", [ended], seconds=1.5, complete=True)
    assert read_results(tmp_path)[0]["victim.data.digest"] == "1234567890123456"


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_the_csv_gives_every_value_back(
    tmp_path_factory: pytest.TempPathFactory, measured: list[float], margin: float
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    ended = [result(trial(MARGIN, seed), clean_acc=acc, margin_mean=margin) for seed, acc in enumerate(measured)]
    ended.append(replace(failed(trial(NONE)), run_id='a, "b"\nc'))
    write_results(folder, "s", ended, seconds=1.5, complete=True)
    with (folder / "results.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    for row, line in zip(result_rows(ended), read, strict=True):
        assert {*row} <= {*line}
        for name in line:
            value = row.get(name)
            assert line[name] == ("" if value is None else repr(value) if isinstance(value, float) else str(value))
    assert [float(line["clean_acc"]) for line in read[:-1]] == measured
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "summary.json"]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=3))
def test_the_summary_groups_over_seeds(tmp_path_factory: pytest.TempPathFactory, groups: list[list[float]]) -> None:
    folder = tmp_path_factory.mktemp("summary")
    ended = []
    for number, accs in enumerate(groups):
        for seed, acc in enumerate(accs):
            ended.append(result(trial(MARGIN | {"num_queries": number + 1}, seed), clean_acc=acc))
            ended.append(result(trial(MARGIN | {"num_queries": number + 1}, seed, SOFT), query_acc=acc))
    write_results(folder, "s", ended, seconds=1.5, complete=False)
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
    write_results(tmp_path / "new", "s", ended, seconds=1.5, complete=False)
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert summary["victims"] == {"done": 2, "failed": 1, "skipped": 0, "stopped": 0, "unmarked": 0}
    assert summary["attacks"] == {"done": 1, "failed": 1, "skipped": 1, "stopped": 0}
    assert (summary["sweep"], summary["seconds"], summary["complete"]) == ("s", 1.5, False)
    assert [entry["agreement"] for entry in summary["table"]] == [{"n": 0, "mean": None, "sd": None}] * 2


def test_no_results_make_an_empty_file(tmp_path: Path) -> None:
    assert result_rows([]) == []
    write_results(tmp_path, "s", [], seconds=0.0, complete=True)
    assert (tmp_path / "results.csv").read_text() == "\n"
    assert json.loads((tmp_path / "summary.json").read_text())["table"] == []


ASKED = {
    **{"access": "black box", "images": "victim_data", "true_labels": False},
    **{"answers": "soft", "start": "fresh", "adaptive": ""},
}


def test_the_summary_holds_convictions_and_the_headline(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN)), stolen(MARGIN, 0, SOFT | {"query_budget": 100}, 0.5, clean_acc=0.93)]
    ended.append(failed(trial(MARGIN, 0, HARD)))
    write_results(tmp_path, "s", ended, seconds=1.5, complete=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    told, lost = summary["detections"]
    low, high = clopper_pearson(1, 1)
    assert (told["scheme"], told["attack"]["labels"], told["attack"]["query_budget"]) == ("margin", "soft", 100)
    assert [told[key] for key in ("students", "detected", "share", "low", "high")] == [1, 1, 1.0, low, high]
    assert [lost[key] for key in ("students", "detected", "share", "low", "high")] == [0, 0, None, None, None]
    (line,) = summary["worst_case"]
    assert line["victim"]["scheme.kind"] == "margin"
    kept = line["accuracy_drop"]
    assert kept["1"] is None
    assert (
        kept["3"]
        == kept["5"]
        == {
            "students": 1,
            "detected": 1,
            "neg_log10_p": 15.0,
            "query_acc": 0.5,
            "accuracy_drop": pytest.approx(2.0),
            "oracle_calls": 100.0,
            "attack": {key: value for key, value in told["attack"].items() if key != "query_budget"},
            "query_budget": 100,
            "strength": 100,
            "strength_field": "query_budget",
            "threat": ASKED,
        }
    )
    assert told["threat"] == ASKED
    assert [entry.get("threat") for entry in summary["table"]] == [None, ASKED, ASKED | {"answers": "hard"}]
    (soft,) = summary["worst_case_by_threat"]
    assert {name: soft[name] for name in ASKED} == ASKED
    spent = {name: value for name, value in soft.items() if name.startswith(("oracle_calls", "attacker_images"))}
    assert spent == {"oracle_calls_least": 100, "oracle_calls_most": 100}
    assert soft["accuracy_drop"] == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "retention.csv", "summary.json"]


def test_the_summary_holds_the_means_of_every_test(tmp_path: Path) -> None:
    measured = [shown(*answers(4.0, seed=seed)) for seed in (0, 1)]
    ended = [result(trial(MARGIN, seed), **told, reestimated_query_acc=0.5) for seed, told in enumerate(measured)]
    write_results(tmp_path, "s", ended, seconds=1.5, complete=True)
    (entry,) = json.loads((tmp_path / "summary.json").read_text())["table"]
    for name in ("log10_p", "log10_p_labels", "log10_p_scores", "log10_p_unconditional", "mean_rank", "wrong_answers"):
        assert entry[name]["mean"] == pytest.approx(sum(told[name] for told in measured) / 2)
    assert entry["log10_p_uncontrolled"]["n"] == 0
    assert entry["reestimated_query_acc"] == {"n": 2, "mean": 0.5, "sd": 0.0}


def test_the_summary_warns_of_damaged_statistics(tmp_path: Path) -> None:
    ended = [result(trial(MARGIN, seed), clean_acc=0.93 + seed / 50, reestimated_clean_acc=0.99) for seed in (0, 1)]
    ended += [result(trial(MARGIN, 2), clean_acc=0.5), result(trial(MARGIN, 0, SOFT), clean_acc=0.96)]
    ended += [result(trial(NONE)), result(trial(MARGIN | {"mass": 0.4}), clean_acc=0.98, reestimated_clean_acc=0.99)]
    write_results(tmp_path, "s", ended, seconds=1.5, complete=True)
    (line,) = json.loads((tmp_path / "summary.json").read_text())["warnings"]
    assert (line["victim"]["scheme.kind"], line["victim"]["scheme.mass"]) == ("margin", 1.0)
    figures = (line["clean_acc"], line["reestimated_clean_acc"])
    assert figures == pytest.approx((0.94, 0.99)), "the seed without a second figure does not count"
    assert line["warning"] == "this accuracy rests on damaged statistics"


def test_the_ranks_of_cells_are_no_columns(tmp_path: Path) -> None:
    write_results(tmp_path, "s", [control(), result(trial(CONFUSION))], seconds=0.0, complete=True)
    image, other = read_results(tmp_path)
    assert (image["cells"], other["cells"], image["mean_rank"] > 0) == ("classes", "classes", True)
    assert not [name for name in image if "ranks" in name or name.startswith("class_")]
    assert image["query_hits"] == "0" * 10


def test_a_sweep_with_a_control_and_attacks_has_a_front(tmp_path: Path) -> None:
    ended = [control(), result(trial(MARGIN)), stolen(MARGIN, 0, SOFT, 0.5)]
    write_results(tmp_path, "s", ended, seconds=0.0, complete=True)
    draw_pictures(tmp_path, ended)
    names = ["front.csv", "heatmap.png", "results.csv", "retention.csv", "summary.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names, "one point is no picture"
    more = [*ended, stolen(MARGIN, 0, HARD, 0.4, clean_acc=0.93), control(0, SOFT)]
    draw_pictures(tmp_path, more)
    assert {path.stem for path in tmp_path.glob("*.png")} == {"front", "heatmap", "retention"}


def test_what_was_not_stolen_has_no_picture(tmp_path: Path) -> None:
    for ended in (
        [],
        [result(trial(MARGIN))],
        [failed(trial(MARGIN))],
        [result(trial(MARGIN)), failed(trial(MARGIN, 0, SOFT))],
    ):
        draw_pictures(tmp_path, ended)
        write_results(tmp_path, "s", ended, seconds=0.0, complete=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "summary.json"]


@pytest.mark.parametrize(("count", "channels", "side"), [(1, 1, 8), (3, 3, 32), (25, 1, 8)])
def test_the_picture_shows_every_query_and_the_ascent_only_if_it_moved_something(
    tmp_path: Path, count: int, channels: int, side: int
) -> None:
    images, labels = torch.full((count, channels, side, side), 100, dtype=torch.uint8), torch.arange(count) % 10
    asked = QuerySet(images, labels, (labels + 1) % 10)
    draw_query_grid(asked, asked.images, tmp_path / "still.png")
    draw_query_grid(asked, asked.images + 50, tmp_path / "moved.png")
    still, moved = (np.asarray(Image.open(tmp_path / name)) for name in ("still.png", "moved.png"))
    assert moved.shape[0] > still.shape[0]
    assert (still == 100).all(-1).sum() >= count * 96**2
    assert (moved == 150).all(-1).sum() >= count * 96**2
    assert (still == 150).all(-1).sum() < 96, "an image where nothing moved"
    draw_query_grid(asked, asked.images, tmp_path / "named.png", class_names=[f"{c} " * 40 for c in range(10)])
    named = np.asarray(Image.open(tmp_path / "named.png"))
    assert named.shape[1] == still.shape[1]
    assert still.shape[0] < named.shape[0] < moved.shape[0]


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    made = replace(result(trial(MARGIN), query_hits="0110", classes=10, oracle_calls=None), run_id="1e5")
    write_results(tmp_path, "s", [made], seconds=0.0, complete=True)
    (row,) = read_results(tmp_path)
    assert (row["query_hits"], row["mlflow_run_id"], row["classes"]) == ("0110", "1e5", 10)
    assert (row["proven_1e3"], row["oracle_calls"], row["clean_acc"]) == (True, None, 0.95)
    assert row["digest"] == made.outcome.digest
    with pytest.raises(ValueError, match=r"nowhere/results\.csv: cannot be read .No such file"):
        read_results("nowhere")
