"""Results as rows, files, a table and a picture."""

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

from mwm.plan import robustness
from mwm.queries import QuerySet
from mwm.report import COLUMNS, Result, control_key, query_picture, rows, table, write
from mwm.spec import decode, digest
from mwm.trial import Outcome, Trial, complete_attack

MARGIN = {"kind": "margin", "num_queries": 20, "step_size": 10 / 255}
NONE = {"kind": "none", "num_queries": 20}
SOFT, HARD = {"kind": "extraction"}, {"kind": "extraction", "labels": "hard"}
DISTILLED = {"kind": "distillation"}


def trial(scheme: dict[str, Any], seed: int = 0, attack: dict[str, Any] | None = None, **victim: Any) -> Trial:
    tree = {"data": "digits", "model": {"kind": "cnn", "width": 8}, "recipe": {"epochs": 3, "batch_size": 64}}
    made: Trial = decode(Trial, {"victim": tree | {"scheme": scheme, "seed": seed} | victim, "attack": attack})
    return replace(made, attack=made.attack and complete_attack(made.attack, made.victim))


def result(made: Trial, **measured: Any) -> Result:
    told: dict[str, Any] = {
        "status": "done",
        "clean_acc": 0.95,
        "query_acc": 0.5,
        "log10_p": -5.0,
        "seconds": 6.1,
    } | measured
    name, victim = digest(made), digest(replace(made, attack=None))
    return Result(made, Outcome(digest=name, victim_digest=victim, data_digest="d" * 16, **told), f"run-{name}")


def failed(made: Trial, status: str = "failed") -> Result:
    return result(made, status=status, clean_acc=None, query_acc=None, log10_p=None, error="the loss is nan")


def shown(results: list[Result]) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(table(results))
    return console.export_text()


def cells(results: list[Result]) -> list[list[str]]:
    """The table's cells, row by row."""
    made = table(results)
    return [
        list(row)
        for row in zip(*([str(cell).strip() for cell in column.cells] for column in made.columns), strict=True)
    ]


def headings(results: list[Result]) -> list[str]:
    return [str(column.header).replace("\n", " ") for column in table(results).columns]


def test_rows_put_each_attack_behind_its_victim_and_orphans_last() -> None:
    first, second = trial(MARGIN, 0), trial(MARGIN, 1)
    on_first, on_second = trial(MARGIN, 0, SOFT), trial(MARGIN, 1, HARD)
    orphan, late = trial(MARGIN, 2, SOFT), trial(MARGIN, 0, HARD)
    ended = [result(made) for made in (orphan, on_second, second, on_first, first, late)]
    expected = [second, on_second, first, on_first, late, orphan]
    assert [row["digest"] for row in rows("s", ended)] == [digest(made) for made in expected]


def test_a_row_tells_the_trial_and_what_it_measured() -> None:
    attack = {"kind": "extraction", "labels": "hard", "source": "svhn", "student": "resnet18", "seed": 4}
    attack["recipe"] = {"epochs": 3}
    (row,) = rows("s", [result(trial(MARGIN | {"queries_per_step": "all"}, 3, attack), oracle_calls=77, device="cpu")])
    told = {name: value for name, value in row.items() if value is not None}
    assert tuple(row) == COLUMNS
    assert all(told.pop(name) for name in ("digest", "victim_digest", "mlflow_run_id"))
    assert decode(Trial, json.loads(told.pop("trial"))).attack.seed == 4
    assert told == {
        **{"sweep": "s", "kind": "attack", "scheme": "margin", "model": "cnn", "num_queries": 20, "victim_seed": 3},
        **{"step_size": 10 / 255, "steps": 5, "weight": 0.1, "queries_per_step": "all", "batchnorm": "reference"},
        **{"attack": "extraction", "labels": "hard", "source": "svhn", "student": "resnet18", "attack_seed": 4},
        **{"clean_acc": 0.95, "query_acc": 0.5, "log10_p": -5.0, "oracle_calls": 77, "seconds": 6.1},
        **{"checkpoint": "last", "device": "cpu", "status": "done", "error": ""},
        **{"data_digest": "d" * 16, "query_digest": ""},
    }


def test_clean_drop_is_taken_from_the_control_with_all_else_equal() -> None:
    ended = [
        result(trial(MARGIN, 0), clean_acc=0.90),
        result(trial(MARGIN, 1), clean_acc=0.80),
        result(trial(MARGIN, 0, SOFT), clean_acc=0.95),
        result(trial(MARGIN, 0, HARD), clean_acc=0.5),
        result(trial(MARGIN, 0, split={"seed": 9}), clean_acc=0.1),
        failed(trial(MARGIN | {"steps": 9}, 0)),
        result(trial(NONE, 0), clean_acc=0.99),
        result(trial(NONE | {"num_queries": 7}, 1), clean_acc=0.98),
        result(trial(NONE, 0, SOFT), clean_acc=0.97),
        failed(trial(NONE, 0, HARD)),
    ]
    drops = {row["digest"]: row["clean_drop"] for row in rows("s", ended)}
    found = [drops[one.outcome.digest] for one in ended]
    expected = [0.09, 0.18, 0.02, None, None, None, 0.0, 0.0, 0.0, None]
    assert found == [None if value is None else pytest.approx(value) for value in expected]


def test_control_key_forgets_the_scheme_and_nothing_else() -> None:
    key = control_key(trial(MARGIN, 0, SOFT))
    assert key == control_key(trial(NONE, 0, SOFT))
    others = [trial(NONE, 1, SOFT), trial(NONE, 0, HARD), trial(NONE), trial(NONE, 0, SOFT, data="cifar10")]
    assert key not in map(control_key, others)


accuracies = st.lists(st.tuples(st.floats(0, 1), st.floats(-300, 0)), min_size=1, max_size=6)


@given(accuracies, st.integers(0, 2))
def test_robustness_is_that_of_the_worst_and_unknown_if_one_failed(measured: list[Any], broken: int) -> None:
    done = [result(trial(MARGIN), query_acc=acc, log10_p=p).outcome for acc, p in measured]
    worst, total, proof = 1.0, 0.0, -math.inf
    for acc, p in measured:
        worst, total, proof = min(worst, acc), total + acc, max(proof, p)
    found = robustness([failed(trial(MARGIN)).outcome] * broken + done)
    right = {"worst_query_acc": worst, "mean_query_acc": pytest.approx(total / len(measured)), "worst_log10_p": proof}
    assert found == ({} if broken else right)


def test_robustness_of_nothing_is_nothing_and_goes_into_the_victims_row() -> None:
    assert robustness([]) == robustness([failed(trial(MARGIN)).outcome]) == {}
    students = [result(trial(MARGIN, 0, SOFT), query_acc=0.2), result(trial(MARGIN, 0, HARD), query_acc=0.6)]
    victim, *rest = rows("s", [result(trial(MARGIN)), *students])
    assert (victim["worst_query_acc"], victim["mean_query_acc"], victim["worst_log10_p"]) == (0.2, 0.4, -5.0)
    assert {row["worst_query_acc"] for row in rest} == {None}


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
    soft, hard = table(ended).columns[-2:]
    assert [getattr(cell, "style", None) for column in (soft, hard) for cell in column.cells] == ["bold", ""]


def test_three_fields_and_three_attacks_fit_a_hundred_columns() -> None:
    ended = []
    for count, norm, size, seed in product((20, 100), ("reference", "clean"), (4 / 255, 10 / 255), range(3)):
        scheme = MARGIN | {"num_queries": count, "batchnorm": norm, "step_size": size}
        ended.append(result(trial(scheme, seed), clean_acc=0.9 + seed / 50))
        ended += [result(trial(scheme, seed, a), query_acc=seed / 4) for a in (SOFT, HARD, DISTILLED)]
    ended += [result(trial(NONE, seed), clean_acc=0.93) for seed in range(3)]
    lines = [line.rstrip() for line in shown(ended).splitlines()]
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
