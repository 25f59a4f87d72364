"""list, status, sync and clean, as a user asks for them: beside a real sweep, after it, and where there is none."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import launch
from mwm.journal import JOURNAL, PULSE
from mwm.lock import alone
from tests.launching import ROOT, command, environment, launched, sweep
from tests.test_shelf import begun

DAY = 86400.0
LOOK = """
import sys
import launch
status = launch.main(sys.argv[1:])
slow = {"torch", "ray", "mlflow", "optuna", "numpy", "pyarrow"} & sys.modules.keys()
assert not slow, f"{slow} were imported"
sys.exit(status)
"""

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """The command in this process: its exit status, and what it says on stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.chdir(tmp_path)
        status = launch.main(words)
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def heard(say: Say, *words: str) -> str:
    status, out, err = say(*words)
    assert (status, err) == (0, "")
    return out


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def one_line(said: tuple[int, str, str], *words: str) -> None:
    status, out, err = said
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert all(word in err for word in words), err


def test_no_sweeps(say: Say, tmp_path: Path) -> None:
    assert say("list") == (0, "no sweeps in results\n", "")
    for verb in ("status", "sync"):
        one_line(say(verb, "small"), "NAME: there is no sweep 'small' in results; there are none")
    one_line(say("clean"), "--storage: . has no results/")
    assert tree(tmp_path) == {}


def test_every_sweep_is_one_line(say: Say, tmp_path: Path) -> None:
    begun(tmp_path / "results" / "first").end("FAILED", totals={"victim": 2, "attack": 4})
    begun(tmp_path / "results" / "second")
    before = tree(tmp_path)
    status, out, _ = say("list")
    today = time.strftime("%Y-%m-%d")
    assert status == 0
    head, *lines = out.splitlines()
    assert head.split("  ")[0] == "sweep"
    assert [re.split(r"  +", line)[:6] for line in lines] == [
        ["first", "failed", "1/2", "1/4", "1", "2"],
        ["second", "interrupted", "1/2", "1/4", "1", "2"],
    ]
    assert all(today in line for line in lines)
    assert say("list", "--storage", str(tmp_path)) == (status, out, "")
    assert tree(tmp_path) == before


def test_a_sweep_tells_how_it_stands(say: Say, tmp_path: Path) -> None:
    begun(tmp_path / "results" / "small").end("FAILED", totals={"victim": 2, "attack": 4})
    begun(tmp_path / "results" / "other")
    status, out, _ = say("status", "small")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "small: failed"
    assert "victims  1 done, 1 failed, 0 waiting; 2 in all" in lines
    assert "attacks  1 done, 2 skipped, 1 waiting; 4 in all" in lines
    assert "best     attack a0: query .50" in lines
    assert lines[-3:] == ["failed", "  victim v1: it diverged", "results  results/small/results.csv"]
    status, out, _ = say("status", "small", "--json")
    told = json.loads(out)
    assert (status, told["state"], told["best"]["digest"]) == (0, "failed", "a0")
    one_line(say("status", "smal"), "NAME: there is no sweep 'smal'", "there are other, small")


def test_a_long_list_of_failures_is_cut(say: Say, tmp_path: Path) -> None:
    journal = begun(tmp_path / "results" / "small")
    for number in range(60):
        told = {"status": "failed", "error": "two\nlines", "digest": f"f{number}", "victim_digest": "v0"}
        journal.finish({"attack": None}, told, f"victim {number}")
    _, out, _ = say("status", "small")
    assert sum(": two lines" in line for line in out.splitlines()) == 19
    assert "  and 41 more" in out


def test_to_look_is_quick_and_writes_nothing(tmp_path: Path) -> None:
    begun(tmp_path / "results" / "small")
    before = tree(tmp_path)
    for words in (["list"], ["status", "small"], ["status", "small", "--json"]):
        ask = [sys.executable, "-W", "error", "-c", LOOK, *words, "--storage", str(tmp_path)]
        done = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert tree(tmp_path) == before


def test_what_is_being_run_is_left_alone(say: Say, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "small"
    begun(folder)
    with alone(folder):
        before = tree(tmp_path)
        one_line(say("sync", "small"), "name: 'small' is being run by process", "sync it when that has ended")
        for more in ([], ["--delete"]):
            one_line(say("clean", *more), "--storage: .: small is running; clean when it has ended")
        assert tree(tmp_path) == before
    (folder / PULSE).write_text(json.dumps({"at": time.time(), "host": "elsewhere"}))
    one_line(say("clean", "--delete"), "small is running")


def test_an_age_must_be_an_age(say: Say, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for hours in ("-1", "nan"):
        one_line(say("clean", "--older-than", hours), f"--older-than: {hours} is not allowed", "0 hours or more")
    with pytest.raises(SystemExit):
        say("clean", "--older-than", "soon")


def test_nothing_to_resume_leaves_nothing(say: Say, tmp_path: Path) -> None:
    one_line(say("run", str(sweep(tmp_path)), "--resume"), "--resume: there is no sweep 'small'")
    assert say("list") == (0, "no sweeps in results\n", "")
    assert not (tmp_path / "results" / "small").exists()


def test_what_has_not_begun_is_not_synced(say: Say, tmp_path: Path) -> None:
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "results" / "small" / "sweep.json").write_text("{}")
    assert say("sync", "small") == (0, "small has not begun: there is nothing to bring\n", "")
    assert not (tmp_path / "mlflow.db").exists()


@dataclass
class Watched:
    """A sweep that ran to its end, and what `status` and `list` said meanwhile."""

    folder: Path
    seen: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    listed: str = ""
    refused: list[subprocess.CompletedProcess[str]] = field(default_factory=list)


def _hopeless(tree: dict[str, Any]) -> None:
    tree["victim"]["recipe"] |= {"lr": {"grid": [0.05, 1e30]}, "epochs": 60}
    tree["victim"]["scheme"] = {"kind": "none", "num_queries": 10}
    tree["attacks"][0]["recipe"] = {"epochs": 2, "batch_size": 128, "lr": 0.05, "momentum": 0.9}


def _asked(folder: Path, verb: str, *words: str) -> str:
    done = launched(folder, verb, *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """One victim is trained and attacked, the other diverges, so that its attacks are skipped."""
    folder = tmp_path_factory.mktemp("watched")
    found = Watched(folder)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command("run", sweep(folder, _hopeless)), cwd=folder, env=environment(), stdout=log, stderr=log
        )
        try:
            while process.poll() is None:
                if (folder / "results" / "small" / JOURNAL).exists():
                    found.seen.append(json.loads(_asked(folder, "status", "small", "--json")))
                    if found.seen[-1]["running"] and not found.text:
                        found.text, found.listed = _asked(folder, "status", "small"), _asked(folder, "list")
                        found.refused = [launched(folder, "clean"), launched(folder, "sync", "small")]
                time.sleep(0.5)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    assert process.returncode == 1, (folder / "log").read_text()
    return found


@pytest.mark.slow
def test_a_sweep_is_seen_while_it_runs(watched: Watched) -> None:
    running = [now for now in watched.seen if now["state"] == "running"]
    assert {now["pid"] for now in running} == {watched.seen[0]["pid"]}
    under_way = [trial for now in running for trial in now["running"]]
    epochs = [trial["epoch"] for trial in under_way if trial["kind"] == "victim" and trial["epochs"] == 60]
    assert epochs == sorted(epochs)
    assert any(0 < epoch < 60 for epoch in epochs), "no epoch was seen"
    done = [now["counts"]["victims"]["done"] + now["counts"]["attacks"]["done"] for now in running]
    assert done == sorted(done)
    assert running[-1]["counts"]["victims"]["total"] == 2
    assert watched.text.startswith(f"small: running, process {running[0]['pid']} on ")
    assert "\nrunning\n  none n=10 seed 0" in watched.text
    assert watched.listed.splitlines()[1].split()[:2] == ["small", "running"]
    for refused, word in zip(watched.refused, ("small is running", "being run by process"), strict=True):
        assert refused.returncode == 2
        assert word in refused.stderr


@pytest.mark.slow
def test_a_sweep_is_seen_after_it_ended(watched: Watched) -> None:
    now = json.loads(_asked(watched.folder, "status", "small", "--json"))
    assert (now["state"], now["running"], now["sessions"]) == ("failed", [], 1)
    victims, attacks = now["counts"]["victims"], now["counts"]["attacks"]
    assert (victims["done"], victims["failed"], attacks["done"], attacks["skipped"]) == (1, 1, 2, 2)
    assert (victims["total"], attacks["total"], victims["waiting"], attacks["waiting"]) == (2, 4, 0, 0)
    assert "recipe.lr 1e+30" in now["failures"][0]["error"]
    with (watched.folder / now["results"]).open() as file:
        rows = list(csv.DictReader(file))
    best = max((row for row in rows if row["kind"] == "attack"), key=lambda row: float(row["query_acc"] or -1))
    assert now["best"]["query_acc"] == float(best["query_acc"])
    assert not (watched.folder / "results" / "small" / PULSE).exists()


def records(path: Path) -> dict[str, dict[str, Any]]:
    """All that MLflow holds of a sweep's runs, by the digests of trials, but for ids and times."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = list(client.search_runs([experiment.experiment_id]))
    names = {run.info.run_id: run.data.tags.get("mwm.digest", "sweep") for run in runs}
    assert len(set(names.values())) == len(runs), "a run has a twin"
    found = {}
    for run in runs:
        metrics = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        found[names[run.info.run_id]] = {
            **{"status": run.info.status, "name": run.info.run_name, "params": run.data.params, "tags": tags},
            **{"metrics": metrics, "above": names.get(run.data.tags.get("mlflow.parentRunId", ""), "")},
            "data": [used.dataset.digest for used in run.inputs.dataset_inputs] if run.inputs else [],
            "files": sorted(item.path for item in client.list_artifacts(run.info.run_id)),
        }
    return found


def copied(watched: Watched, folder: Path) -> Path:
    """The storage of the sweep, at another place."""
    for name in ("results", "store"):
        shutil.copytree(watched.folder / name, folder / name)
    return folder


@pytest.mark.slow
def test_sync_brings_all_that_a_running_sweep_would_have(
    watched: Watched, say: Say, tmp_path: Path, migrated: Path
) -> None:
    expected = records(watched.folder / "mlflow.db")
    folder = copied(watched, tmp_path)
    shutil.copy(migrated, folder / "mlflow.db")
    before = (folder / "results" / "small" / JOURNAL).read_bytes()
    first = heard(say, "sync", "small")
    assert first.splitlines()[-1].startswith("3 done, 1 failed, 2 skipped; brought to sqlite:///")
    found = records(folder / "mlflow.db")
    failed = next(name for name, run in expected.items() if run["status"] == "FAILED" and name != "sweep")
    for run in (expected[failed], found[failed]):
        del run["metrics"]  # no store keeps the epochs of what failed
    assert found == expected
    assert Counter(run["status"] for run in found.values()) == {"FINISHED": 3, "FAILED": 2, "KILLED": 2}
    left = tree(folder / "store")
    csv_text = (folder / "results" / "small" / "results.csv").read_text()
    heard(say, "sync", "small")
    again = records(folder / "mlflow.db")
    del again[failed]["metrics"]
    assert again == found
    assert tree(folder / "store") == left
    assert (folder / "results" / "small" / "results.csv").read_text() == csv_text
    assert (folder / "results" / "small" / JOURNAL).read_bytes() == before
    ids = [
        [(row["digest"], row["status"]) for row in csv.DictReader(text.splitlines())]
        for text in (csv_text, (watched.folder / "results" / "small" / "results.csv").read_text())
    ]
    assert ids[0] == ids[1], "the table has changed"


@pytest.mark.slow
def test_sync_of_a_killed_sweep_leaves_nothing_running(
    watched: Watched, say: Say, tmp_path: Path, migrated: Path
) -> None:
    folder = copied(watched, tmp_path)
    shutil.copy(migrated, folder / "mlflow.db")
    path = folder / "results" / "small" / JOURNAL
    events = [json.loads(line) for line in path.read_text().splitlines()]
    victim = next(event for event in events if event["event"] == "finish" and event["outcome"]["status"] == "done")
    kept = [event for event in events if event["event"] != "end" and event is not victim]
    path.write_text("".join(json.dumps(event) + "\n" for event in kept) + '{"at": 1, "ev')
    heard(say, "sync", "small")
    found = records(folder / "mlflow.db")
    assert found["sweep"]["status"] == "KILLED"
    name = victim["outcome"]["digest"]
    assert found[name]["status"] == "FINISHED", "what the store knows of a victim"
    assert sum(run["above"] == name for run in found.values()) == 2
    assert not [run for run in found.values() if run["status"] == "RUNNING"]


@pytest.mark.slow
def test_sync_needs_an_mlflow(watched: Watched, say: Say, tmp_path: Path) -> None:
    folder = copied(watched, tmp_path)
    before = tree(folder / "results" / "small")
    said = say("sync", "small", "--tracking-uri", "http://user:secret@127.0.0.1:9")
    one_line(said, "--tracking-uri: http://")
    assert "secret" not in said[2]
    after = tree(folder / "results" / "small")
    assert before.keys() == after.keys()


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
    assert heard(say, "clean", "--older-than", "72") == "nothing to remove\n"
    said = heard(say, "clean").splitlines()
    assert len(said) == 4
    assert all(re.fullmatch(r"store entry [0-9a-f]{16}: [\d.]+ kB, no sweep refers to it", line) for line in said[:3])
    assert re.fullmatch(r"3 things, [\d.]+ kB; remove with --delete", said[3])
    assert tree(folder / "store") == before, "a dry run has removed something"
    removed = heard(say, "clean", "--delete").splitlines()
    assert removed[:3] == said[:3]
    assert removed[3].startswith("removed 3 things")
    assert not [path for path in (folder / "store").rglob("*") if path.is_file()]
