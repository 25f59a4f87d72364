"""list, status, sync and clean, as a user asks for them, where no sweep is at work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

from mwm.runner.workspace.heartbeat import HEARTBEAT
from mwm.runner.workspace.lock import sweep_lock
from tests.helpers.asking import Say, one_line, tree
from tests.helpers.launching import ROOT, sweep
from tests.unit.runner.workspace.test_status import begun

LOOK = """
import sys
import launch
status = launch.main(sys.argv[1:])
slow = {"torch", "ray", "mlflow", "optuna", "numpy", "pyarrow"} & sys.modules.keys()
assert not slow, f"{slow} were imported"
sys.exit(status)
"""


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
    journal = begun(tmp_path / "results" / "small")
    journal.measures("v0", {"worst_query_acc": 0.5, "worst_log10_p": -3.0}, {"worst_attack": "hard"})
    journal.end("FAILED", totals={"victim": 2, "attack": 4})
    begun(tmp_path / "results" / "other")
    status, out, _ = say("status", "small")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "small: failed"
    assert not [line for line in lines if line.startswith("reason")]
    assert "victims  1 done, 1 failed, 0 waiting; 2 in all" in lines
    assert "attacks  1 done, 2 skipped, 1 waiting; 4 in all" in lines
    assert "best     v0 victim v0; hard leaves -log10 p 3.0, query .50" in lines
    assert lines[lines.index("networks") + 1] == "  v0 victim v0"
    assert lines[-3:] == ["failed", "  victim v1: it diverged", "results  results/small/results.csv"]
    status, out, _ = say("status", "small", "--json")
    told = json.loads(out)
    assert (status, told["state"], told["best"]["digest"]) == (0, "failed", "v0")
    assert told["victims"] == [{"digest": "v0", "label": "victim v0", "clean_acc": None}]
    one_line(say("status", "smal"), "NAME: there is no sweep 'smal'", "there are other, small")


def test_why_a_driver_ended_stands_in_every_view(say: Say, tmp_path: Path) -> None:
    begun(tmp_path / "results" / "small").end("FAILED", totals={}, reason="RuntimeError: Ray is\ngone")
    begun(tmp_path / "results" / "dead")
    for name, reason in (("small", "RuntimeError: Ray is gone"), ("dead", "its driver ended without a word")):
        lines = say("status", name)[1].splitlines()
        assert [line for line in lines if line.startswith(f"reason   {reason}")] == lines[1:2]
        assert reason in " ".join(json.loads(say("status", name, "--json")[1])["reason"].split())
        assert any(line.startswith(name) and reason in line for line in say("list")[1].splitlines())


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
    with sweep_lock(folder):
        before = tree(tmp_path)
        one_line(say("sync", "small"), "name: 'small' is being run by process", "sync it when that has ended")
        for more in ([], ["--delete"]):
            one_line(say("clean", *more), "--storage: .: small is running; clean when it has ended")
        assert tree(tmp_path) == before
    (folder / HEARTBEAT).write_text(json.dumps({"at": time.time(), "host": "elsewhere"}))
    one_line(say("clean", "--delete"), "small is running")


def test_what_is_no_folder_is_one_line(say: Say, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "results").write_text("")
    for place, why in (("file", "Not a directory"), ("odd", "Not a directory"), ("x" * 300, "File name too long")):
        for words in (["list"], ["status", "small"], ["sync", "small"], ["clean"]):
            one_line(say(*words, "--storage", place), f"--storage: {place}/results cannot be read ({why})")
        one_line(say("run", str(sweep(tmp_path)), "--storage", place), f"--storage: {place}/", why)


def test_an_age_must_be_an_age(say: Say, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for hours in ("-1", "nan"):
        one_line(say("clean", "--older-than", hours), f"--older-than: {hours} is not allowed", "0 hours or more")
    one_line(say("clean", "--older-than", "soon"), "--older-than", '"soon"')


def test_nothing_to_resume_leaves_nothing(say: Say, tmp_path: Path) -> None:
    one_line(say("run", str(sweep(tmp_path)), "--resume"), "--resume: there is no sweep 'small'")
    assert say("list") == (0, "no sweeps in results\n", "")
    assert not (tmp_path / "results" / "small").exists()


def test_what_has_not_begun_is_not_synced(say: Say, tmp_path: Path) -> None:
    (tmp_path / "results" / "small").mkdir(parents=True)
    (tmp_path / "results" / "small" / "sweep.json").write_text("{}")
    assert say("sync", "small") == (0, "small has not begun: there is nothing to bring\n", "")
    assert not (tmp_path / "mlflow.db").exists()
