"""A sweep that asks more than before: one run of MLflow for all of it, whose trials say what it asks now."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from mlflow import MlflowClient

from mwm.config.spec import decode, encode
from mwm.runner.execution.page import open_follower
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.tracking.follower import Followed, MlflowFollower
from mwm.runner.tracking.position import FOLLOWED
from mwm.runner.workspace.journal import Journal, read_events
from mwm.runner.workspace.location import PICTURES
from mwm.trials.names import trial_name
from tests.helpers.records import SPACE, swept
from tests.helpers.tracked import DONE, MARKED, runs

CONFIGS = ("0" * 16, "1" * 16)


def session(folder: Path, uri: str, *, configs: tuple[str, ...], tell: Any) -> None:
    """A driver's session of a sweep that asked `configs` so far: what it tells is brought."""
    (folder / PICTURES).mkdir(exist_ok=True)
    followed = Followed(
        "grown",
        partial(read_events, folder),
        folder,
        folder / PICTURES,
        tags={"n": str(len(configs))},
        before=configs[:-1],
    )
    with MlflowFollower(uri, followed, tags={"mwm.config_digest": configs[-1]}):
        journal = Journal(folder, print)
        journal.begin(config_digests=configs)
        tell(journal)
        journal.end("FINISHED")


def ended(journal: Journal, name: str, status: Literal["done", "failed"] = "done") -> None:
    trial = replace(MARKED, victim=replace(MARKED.victim, seed=int(name[1])))
    names = {"victim_digest": name, "data_digest": "d0"}
    journal.start(name, "victim", trial_name(trial), trial=encode(trial), **names)
    outcome: Any = replace(DONE, digest=name, victim_digest=name, status=status)
    journal.finish(encode(trial), asdict(outcome), trial_name(trial))


@pytest.fixture
def grown(tmp_path: Path, uri: str) -> Path:
    """A sweep of two sessions: the first had v0, and v1 which failed; the second has v0 still, and v2."""
    folder = tmp_path / "grown"
    folder.mkdir()

    def first(journal: Journal) -> None:
        ended(journal, "v0")
        ended(journal, "v1", "failed")

    def second(journal: Journal) -> None:
        journal.cached("v0", "victim", "done")
        ended(journal, "v2")

    session(folder, uri, configs=CONFIGS[:1], tell=first)
    session(folder, uri, configs=CONFIGS, tell=second)
    return folder


def configs(uri: str) -> dict[str, str]:
    return {name: run.data.tags["mwm.config_digest"] for name, run in runs(uri, "grown").items()}


def test_its_run_stays_and_says_what_it_asks_now(grown: Path, uri: str) -> None:
    found = runs(uri, "grown")
    assert found.keys() == {"sweep", "v0", "v1", "v2"}
    assert {run.data.tags.get("mlflow.parentRunId") for name, run in found.items() if name != "sweep"} == {
        found["sweep"].info.run_id
    }
    assert configs(uri) == {"sweep": CONFIGS[1], "v0": CONFIGS[1], "v1": CONFIGS[0], "v2": CONFIGS[1]}
    assert found["sweep"].data.tags["n"] == "2"
    assert "n" not in found["v0"].data.tags


def test_whoever_reads_the_journal_anew_changes_nothing(grown: Path, uri: str) -> None:
    before = configs(uri)
    (grown / FOLLOWED).unlink()
    session(grown, uri, configs=CONFIGS, tell=lambda _: None)
    assert configs(uri) == before


def test_what_was_brought_of_it_is_remembered_once(grown: Path) -> None:
    text = (grown / FOLLOWED).read_text()
    assert text.count('"tracking_uri"') == 1, "what was known of the smaller sweep stays for ever"
    assert "v2" in text


def test_a_sweep_of_other_digests_has_a_run_of_its_own(grown: Path, uri: str) -> None:
    session(grown, uri, configs=("2" * 16,), tell=lambda journal: journal.cached("v0", "victim", "done"))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("grown")
    assert experiment is not None
    whole = client.search_runs([experiment.experiment_id], "tags.kind = 'sweep'")
    assert sorted(run.data.tags["mwm.config_digest"] for run in whole) == [CONFIGS[1], "2" * 16]
    (own,) = (run.info.run_id for run in whole if run.data.tags["mwm.config_digest"] != CONFIGS[1])
    (victim,) = client.search_runs([experiment.experiment_id], "tags.`mwm.digest` = 'v0'")
    assert victim.data.tags["mlflow.parentRunId"] == own


def test_how_many_samples_are_drawn_is_a_tag_and_grows(tmp_path: Path, uri: str) -> None:
    for number in (2, 5):
        sweep: Sweep = decode(Sweep, encode(swept(SPACE, kind="random", num_samples=number)))
        with open_follower(uri, sweep, tmp_path, provenance={}, experiment=None):
            Journal(tmp_path, print).begin()
        (run,) = runs(uri, "s").values()
        assert run.data.params == {"search.kind": "random", "search.seed": "0"}
        assert run.data.tags["search.num_samples"] == str(number)
