"""`launch.py report`: where it writes, where it takes sweeps from, and one line for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.helpers.asking import Say, heard, one_line
from tests.helpers.ended import MARGIN, result, trial
from tests.helpers.pages import Page
from tests.helpers.reported import ended, sweep_folder


def recorded(uri: str, name: str, *files: Path, experiment: str = "all") -> str:
    """A run of MLflow as a sweep leaves it, with these files; its id."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    place = found.experiment_id if found else client.create_experiment(experiment)
    tags = {"kind": "sweep", "mwm.sweep": name, "git.revision": "feed42", "version.torch": "2.14.1"}
    run: str = client.create_run(place, tags=tags).info.run_id
    for file in files:
        client.log_artifact(run, str(file))
    return run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return sweep_folder(tmp_path / "results" / "own", ended())


def test_the_report_of_a_sweep_lies_in_its_folder_with_files_for_a_paper(say: Say, sweep: Path) -> None:
    assert heard(say, "report", "own") == "results/own/report.html; figures and tables for a paper lie beside it\n"
    assert "Of 2 watermarks margin keeps the most proof" in Page((sweep / "report.html").read_text()).text
    assert {"figures", "tables"} <= {path.name for path in sweep.iterdir()}


def test_a_report_on_several_lies_in_a_folder_of_their_names(say: Say, sweep: Path, tmp_path: Path) -> None:
    sweep_folder(tmp_path / "results" / "other", [result(trial(MARGIN | {"weight": 0.5}))])
    assert heard(say, "report", "own", "other", "own").startswith("report-own-other/report.html;")
    assert "Question of other:" in Page((tmp_path / "report-own-other" / "report.html").read_text()).text


def test_a_sweep_that_mlflow_holds_is_taken_from_there_and_others_from_results(
    say: Say, sweep: Path, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = sweep_folder(tmp_path / "elsewhere" / "theirs", [result(trial(MARGIN | {"weight": 0.5}))])
    recorded(uri, "theirs", theirs / "results.csv", theirs / "sweep.json", theirs / "summary.json")
    heard(say, "report", "theirs", "own", "--tracking-uri", uri, "--output", "both")
    text = Page((tmp_path / "both" / "report.html").read_text()).text
    assert "feed42" in text, "what the tags of the run say"
    assert "abc123" in text, "what the journal says"
    heard(say, "report", "theirs", "--tracking-uri", uri, "--experiment", "all")
    assert (tmp_path / "report-theirs" / "report.html").exists()
    assert not (tmp_path / "results" / "theirs").exists()


def test_a_mistake_is_one_line(say: Say, sweep: Path, tmp_path: Path, uri: str) -> None:
    one_line(say("report", "nope"), "NAME: there is no sweep 'nope' in results; there are own")
    one_line(say("report", "own", "--experiment", "x"), "--experiment: needs an MLflow; name it by --tracking-uri")
    one_line(say("report", "nope", "--tracking-uri", uri), "NAME: there is no sweep 'nope'")
    recorded(uri, "empty")
    one_line(say("report", "empty", "--tracking-uri", uri), "NAME: 'empty' has no results.csv at sqlite:///")
    away = f"sqlite:///{tmp_path / 'away.db'}"
    one_line(say("report", "own", "--tracking-uri", away), "--tracking-uri:", "cannot be used", "there is no")
    one_line(say("report", "own", "--tracking-uri", "http://127.0.0.1:9"), "--tracking-uri:", "cannot be reached")
    (tmp_path / "file").write_text("")
    one_line(say("report", "own", "--output", "file"), "--output: file cannot be written (File exists)")
    (sweep / "results.csv").unlink()
    one_line(say("report", "own"), "NAME: nothing of 'own' has ended yet: there is no results/own/results.csv")
