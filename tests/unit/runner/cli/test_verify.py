"""verify as a command: old words of its options, the null models of a sweep, where a verdict goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mwm.config.loader import load_yaml
from mwm.config.spec import decode
from mwm.runner.cli.verify import find_null_models
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.workspace.journal import JOURNAL
from mwm.watermarks.key import load_key
from tests.helpers.asking import Ask, Say, one_line
from tests.helpers.launching import ROOT
from tests.helpers.verifying import VerificationCase


def journal_of(folder: Path, text: str) -> Path:
    """A results folder with a journal, beside no store."""
    folder.mkdir(parents=True)
    (folder / JOURNAL).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("old", "new"),
    [("--again", "--rerun"), ("--null", "--null-models"), ("--report", "--output"), ("--report=x", "--output")],
)
def test_an_old_word_names_the_new_one(old: str, new: str, say: Say, case: VerificationCase) -> None:
    said = say("verify", "--key", str(case.key), "--suspect", str(case.key), old)
    one_line(said, f"{old.partition('=')[0]}: unknown option (did you mean {new}?)")


def test_unwatermarked_victims_and_their_students_are_null_models(case: VerificationCase) -> None:
    """Three victims and a student; not the watermarked network, nor its student, nor the control of this very key."""
    found = find_null_models(case.null_sweep, load_key(case.key))
    assert (found.left_out, len(found.entries)) == (1, 4)
    assert case.independent in found.entries
    assert case.key not in found.entries


def test_a_watermarked_model_is_no_null_model_though_its_key_is_another(case: VerificationCase, tmp_path: Path) -> None:
    lines = (case.null_sweep / JOURNAL).read_text().splitlines(keepends=True)
    other = [line.replace('"query_digest":"', '"query_digest":"x') for line in lines if '"trigger_set"' in line]
    assert other
    folder = journal_of(tmp_path / "results" / "marked", "".join(other))
    with pytest.raises(ValueError, match=r"^null_models: .*marked has no null model that is done"):
        find_null_models(folder, load_key(case.key))


def test_a_store_that_is_gone_is_told(case: VerificationCase, say: Say, tmp_path: Path) -> None:
    folder = journal_of(tmp_path / "results" / "null", (case.null_sweep / JOURNAL).read_text())
    words = ("verify", "--key", str(case.key), "--suspect", str(case.key), "--null-models", str(folder))
    one_line(say(*words), "--null-models: ", "store")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"data_digest":"', '"data_digest":"x', "has other data (x"),
        ('"seed":0}', '"seed":1}', "images; needed: a sweep with split.seed 0 and split.queries of 30 or more"),
        ('"queries":30', '"queries":29', "split.queries of 30 or more"),
    ],
)
def test_a_model_that_may_have_seen_the_images_is_no_null_model(
    old: str, new: str, said: str, case: VerificationCase, tmp_path: Path
) -> None:
    """Trained on them with their true labels, it matches less than a model that never saw them."""
    text = (case.null_sweep / JOURNAL).read_text()
    assert old in text
    folder = journal_of(tmp_path / "results" / "null", text.replace(old, new))
    with pytest.raises(ValueError, match=r"^null_models: .*null: ") as told:
        find_null_models(folder, load_key(case.key))
    assert said in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(("old", "new"), [('"queries":30', '"queries":31'), ('"disjoint":0.0', '"disjoint":0.5')])
def test_other_shares_of_the_rest_keep_the_images_out_as_well(
    old: str, new: str, case: VerificationCase, tmp_path: Path
) -> None:
    text = (case.null_sweep / JOURNAL).read_text()
    assert old in text
    folder = journal_of(tmp_path / "results" / "null", text.replace(old, new))
    found, own = (find_null_models(one, load_key(case.key)) for one in (folder, case.null_sweep))
    assert [entry.name for entry in found.entries] == [entry.name for entry in own.entries]


def test_the_shipped_null_models_are_so_for_the_keys_of_the_quickstart() -> None:
    quickstart, null = (
        decode(Sweep, load_yaml(ROOT / "tune_configs" / name)) for name in ("quickstart.yaml", "null_models.yaml")
    )
    key = quickstart.victim_specs[0].split
    seeds = [{one.split.seed for one in sweep.victim_specs} for sweep in (null, quickstart)]
    assert seeds == [{key.seed}] * 2
    assert min(one.split.queries for one in null.victim_specs) >= key.queries


def test_a_folder_of_the_release_before_is_refused(ask: Ask, say: Say, case: VerificationCase, tmp_path: Path) -> None:
    """Its verdict says other words: nothing of it is read as one of today."""
    ask("--suspect", case.key, "--output", "mine")
    path = tmp_path / "mine" / "answers.jsonl"
    path.write_text(path.read_text().replace('{"plan":{"format":4,', '{"plan":{"format":3,'))
    said = say("verify", "--key", str(case.key), "--suspect", str(case.key), "--output", "mine")
    one_line(said, "--output: mine was begun otherwise: format was 3 there and is 4 here; name another folder")
