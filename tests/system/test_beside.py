"""list, status and clean beside a real sweep, and after it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest

from mwm.runner.workspace.heartbeat import HEARTBEAT
from tests.helpers.asking import Say, heard, tree
from tests.helpers.beside import EPOCHS, Watched, asked, copied
from tests.system.test_launch import mlflow_runs, results

DAY = 86400.0


@pytest.mark.slow
def test_a_sweep_is_seen_while_it_runs(watched: Watched) -> None:
    running = [now for now in watched.seen if now["state"] == "running"]
    assert {now["pid"] for now in running} == {watched.seen[0]["pid"]}
    under_way = [trial for now in running for trial in now["running"]]
    epochs: dict[str, list[int]] = {}
    for trial in under_way:
        if trial["kind"] == "victim" and trial["epochs"] == EPOCHS:
            epochs.setdefault(trial["digest"], []).append(trial["epoch"])
    assert all(seen == sorted(seen) for seen in epochs.values())
    assert any(0 < epoch < EPOCHS for seen in epochs.values() for epoch in seen), "no epoch was seen"
    done = [now["counts"]["victims"]["done"] + now["counts"]["attacks"]["done"] for now in running]
    assert done == sorted(done)
    assert running[-1]["counts"]["victims"]["total"] == 2
    assert watched.text.startswith(f"small: running, process {running[0]['pid']} on ")
    assert "\nrunning\n  none seed 0" in watched.text
    assert watched.listed.splitlines()[1].split()[:2] == ["small", "running"]
    for refused, word in zip(watched.refused, ("small is running", "being run by process"), strict=True):
        assert refused.returncode == 2
        assert word in refused.stderr


@pytest.mark.slow
def test_a_sweep_is_seen_after_it_ended(watched: Watched) -> None:
    now = json.loads(asked(watched.folder, "status", "small", "--json"))
    assert (now["state"], now["running"], now["sessions"]) == ("failed", [], 1)
    victims, attacks = now["counts"]["victims"], now["counts"]["attacks"]
    assert (victims["done"], victims["failed"], attacks["done"], attacks["skipped"]) == (1, 1, 2, 2)
    assert (victims["total"], attacks["total"], victims["waiting"], attacks["waiting"]) == (2, 4, 0, 0)
    assert "recipe.lr 1e+30" in now["failures"][0]["error"]
    with (watched.folder / now["results"]).open() as file:
        rows = list(csv.DictReader(file))
    (best,) = (row for row in rows if row["kind"] == "victim" and row["worst_query_acc"])
    assert now["best"]["digest"] == best["digest"]
    assert now["best"]["worst_query_acc"] == float(best["worst_query_acc"])
    assert now["best"]["clean_acc"] == float(best["clean_acc"])
    assert not (watched.folder / "results" / "small" / HEARTBEAT).exists()


@pytest.mark.slow
def test_a_failed_victim_skips_its_attacks(watched: Watched) -> None:
    rows = results(watched.folder)
    counts = Counter((row["kind"], row["status"]) for row in rows)
    expected = {("victim", "done"): 1, ("victim", "failed"): 1, ("attack", "done"): 2, ("attack", "skipped"): 2}
    assert counts == expected
    failed = next(row for row in rows if row["status"] == "failed")
    assert "recipe.lr 1e+30" in failed["error"]
    statuses = Counter(run.info.status for run in mlflow_runs(watched.folder))
    assert statuses == {"FINISHED": 3, "FAILED": 2, "KILLED": 2}


@pytest.mark.slow
def test_clean_removes_a_sweep_that_was_removed(watched: Watched, say: Say, tmp_path: Path) -> None:
    folder = copied(watched, tmp_path)
    shutil.copytree(folder / "results" / "small", folder / "results" / "twin")
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    before = tree(folder / "store")
    assert heard(say, "clean", "--delete") == "nothing to remove\n"
    shutil.rmtree(folder / "results" / "small")
    assert heard(say, "clean", "--delete") == "nothing to remove\n", "its twin needs all of it"
    shutil.rmtree(folder / "results" / "twin")
    young = heard(say, "clean", "--older-than", "72").splitlines()
    assert young[0] == "nothing to remove"
    assert re.fullmatch(r"spared 3 things, [\d.]+ kB, written to in the last 72 hours: --older-than HOURS", young[1])
    said = heard(say, "clean").splitlines()
    assert len(said) == 4
    named = r"store/[0-9a-f]{2}/[0-9a-f]{16}: [\d.]+ kB, no sweep needs it(; holds the key of a victim)?"
    found = [re.fullmatch(named, line) for line in said[:3]]
    assert all(found), said
    assert sum(bool(one and one[1]) for one in found) == 1
    assert re.fullmatch(r"3 things, [\d.]+ kB; remove with --delete", said[3])
    assert tree(folder / "store") == before, "a dry run has removed something"
    removed = heard(say, "clean", "--delete").splitlines()
    assert removed[:3] == said[:3]
    assert removed[3].startswith("removed 3 things")
    left = {path.relative_to(folder / "store").parts[0] for path in (folder / "store").rglob("*") if path.is_file()}
    assert left == {".lock", "users"}
