"""list, status, sync and clean beside a real sweep, and after it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import launch
from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.journal import JOURNAL
from tests.helpers.asking import Say, heard, one_line, tree
from tests.helpers.launching import command, environment, sweep
from tests.helpers.refusing import Refusal, at, gate
from tests.helpers.servers import mlflow_server
from tests.system.test_launch import mlflow_runs, results

DAY = 86400.0
EPOCHS = 300
"""Of the victim: seconds, so that it is seen under way more than once."""


@dataclass
class Watched:
    """A sweep that ran to its end, and what `status` and `list` said meanwhile."""

    folder: Path
    seen: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    listed: str = ""
    refused: list[subprocess.CompletedProcess[str]] = field(default_factory=list)


def _hopeless(tree: dict[str, Any]) -> None:
    tree["victim"]["recipe"] |= {"lr": {"grid": [0.05, 1e30]}, "epochs": EPOCHS}
    tree["victim"]["scheme"] = {"kind": "none"}
    tree["attacks"][0]["recipe"] = {"epochs": 2, "batch_size": 128, "lr": 0.05, "momentum": 0.9}


def _said(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, which is another one than the driver's and has imported everything already."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(folder), redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        status = launch.main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def _asked(folder: Path, *words: str) -> str:
    done = _said(folder, *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Watched:
    """One victim is trained and attacked, the other diverges, so that its attacks are skipped."""
    folder = tmp_path_factory.mktemp("watched")
    found = Watched(folder)
    shutil.copy(mlflow_db, folder / "mlflow.db")
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
                        found.refused = [_said(folder, "clean"), _said(folder, "sync", "small")]
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    assert process.returncode == 3, (folder / "log").read_text()
    return found


@pytest.mark.slow
def test_a_sweep_is_seen_while_it_runs(watched: Watched) -> None:
    running = [now for now in watched.seen if now["state"] == "running"]
    assert {now["pid"] for now in running} == {watched.seen[0]["pid"]}
    under_way = [trial for now in running for trial in now["running"]]
    epochs = [trial["epoch"] for trial in under_way if trial["kind"] == "victim" and trial["epochs"] == EPOCHS]
    assert epochs == sorted(epochs)
    assert any(0 < epoch < EPOCHS for epoch in epochs), "no epoch was seen"
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
    now = json.loads(_asked(watched.folder, "status", "small", "--json"))
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
    watched: Watched, say: Say, tmp_path: Path, mlflow_db: Path
) -> None:
    expected = records(watched.folder / "mlflow.db")
    folder = copied(watched, tmp_path)
    shutil.copy(mlflow_db, folder / "mlflow.db")
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
    watched: Watched, say: Say, tmp_path: Path, mlflow_db: Path
) -> None:
    folder = copied(watched, tmp_path)
    shutil.copy(mlflow_db, folder / "mlflow.db")
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
def test_sync_brings_all_that_the_store_alone_knows_and_no_later_than_it_was(
    watched: Watched, say: Say, tmp_path: Path, mlflow_db: Path
) -> None:
    folder = copied(watched, tmp_path)
    shutil.copy(mlflow_db, folder / "mlflow.db")
    path = folder / "results" / "small" / JOURNAL
    events = [json.loads(line) for line in path.read_text().splitlines()]
    ends = [event for event in events if event["event"] == "finish" and event["trial"]["attack"]]
    attack = next(event["outcome"]["digest"] for event in ends if event["outcome"]["status"] == "done")
    untold = [event for event in events if attack in (event.get("digest"), event.get("outcome", {}).get("digest"))][1:]
    kept = [event for event in events if event["event"] != "end" and event not in untold]
    path.write_text("".join(json.dumps(event) + "\n" for event in kept) + '{"at": 1, "event": "finish"}\n')
    for _ in range(2):
        status, _, err = say("sync", "small")
        assert status == 0
        assert "an event of the journal is damaged" in err
        told = json.loads((folder / "results" / "small" / "summary.json").read_text())
        assert told["seconds"] == pytest.approx(kept[-1]["at"] - kept[0]["at"], abs=2)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (row,) = (row for row in results(folder) if row["digest"] == attack)
    run = client.get_run(row["mlflow_run_id"])
    assert run.info.end_time <= 1000 * (kept[-1]["at"] + 1)
    epochs = [point.value for point in client.get_metric_history(run.info.run_id, "epoch")]
    assert epochs == [float(epoch) for epoch in range(1, len(epochs) + 1)]
    assert len(epochs) == max(event["rows"][-1]["epoch"] for event in untold if event["event"] == "epochs")


@pytest.mark.slow
def test_sync_says_what_is_missing_and_brings_it_where_the_sweep_went(
    watched: Watched, say: Say, tmp_path: Path, mlflow_db: Path
) -> None:
    folder = copied(watched, tmp_path)
    shutil.copy(mlflow_db, folder / "server.db")
    journal = folder / "results" / "small" / JOURNAL
    begin = next(event for event in map(json.loads, journal.read_text().splitlines()) if event["event"] == "begin")
    assert begin["experiment"] == "small"
    journal.write_text(journal.read_text().replace('"experiment":"small"', '"experiment":"lab/mine"'))
    with mlflow_server(f"sqlite:///{folder / 'server.db'}", folder) as server, gate(server.uri) as through:
        words = ("sync", "small", "--tracking-uri", through.uri)
        through.rules.append(at("runs/log-inputs", Refusal(501)))
        status, out, err = say(*words)
        assert status == 3
        assert out.splitlines()[-1].endswith(f"brought to {through.uri}, but for 6 of data sets")
        assert len(err.splitlines()) == 2
        through.rules.clear()
        assert heard(say, *words).splitlines()[-1].endswith(f"brought to {through.uri}")
    client = MlflowClient(f"sqlite:///{folder / 'server.db'}")
    experiment = client.get_experiment_by_name("lab/mine")
    assert experiment is not None
    found = [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["kind"] != "sweep"]
    assert len(found) == 6
    assert all(run.data.params and run.inputs and run.inputs.dataset_inputs for run in found)


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
