"""Innocents: which models of a sweep are asked, and what a suspect is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mwm.config.loader import load_yaml as tree
from mwm.config.spec import decode
from mwm.runner.sweeps.sweep import Sweep, victim_specs
from mwm.runner.workspace.journal import JOURNAL
from mwm.verification.null_models import ask_null_models
from mwm.verification.questions import order_queries
from mwm.watermarks.key import load_key
from tests.helpers.court import Court, answers
from tests.repository.tune_configs import ROOT


def test_unmarked_victims_and_their_students_are_asked(hall: Court) -> None:
    """Three victims and a student; not the marked network, nor its student, nor the control of this very key."""
    key = load_key(hall.key)
    asked = order_queries(key, 20, 0)
    found = ask_null_models(hall.null, key, asked)
    assert (found.left_out, len(found.names)) == (1, 4)
    assert found.answers.shape == (4, 20)
    own = answers(hall.innocent)(asked.images).argmax(1)
    assert any((row == own).all() for row in found.answers)
    first = [int((row[:7] == asked.labels[:7]).sum()) for row in found.answers]
    assert found.matches(asked.labels[:7]) == first


def test_a_marked_model_is_no_innocent_though_its_key_is_another(hall: Court, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "marked"
    folder.mkdir(parents=True)
    lines = (hall.null / JOURNAL).read_text().splitlines(keepends=True)
    other = [line.replace('"query_digest":"', '"query_digest":"x') for line in lines if '"kind":"base"' in line]
    assert other
    (folder / JOURNAL).write_text("".join(other))
    key = load_key(hall.key)
    with pytest.raises(ValueError, match=r"^--null: .*marked has no innocent model that is done"):
        ask_null_models(folder, key, order_queries(key, None, 0))


def test_a_store_that_is_gone_is_told(hall: Court, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "null"
    folder.mkdir(parents=True)
    (folder / JOURNAL).write_bytes((hall.null / JOURNAL).read_bytes())
    key = load_key(hall.key)
    with pytest.raises(ValueError, match=r"^--null: .*store"):
        ask_null_models(folder, key, order_queries(key, None, 0))


def test_innocents_answer_labels(hall: Court) -> None:
    key = load_key(hall.key)
    found = ask_null_models(hall.null, key, order_queries(key, None, 0))
    assert found.answers.dtype == np.int64
    assert max(found.matches(order_queries(key, None, 0).labels)) < 25


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"data_digest":"', '"data_digest":"x', "has other data (x"),
        (
            '"seed":0}',
            '"seed":1}',
            "images; needed: a sweep with split.seed 0 and split.queries of 30 or more",
        ),
        ('"queries":30', '"queries":29', "split.queries of 30 or more"),
    ],
)
def test_who_may_have_seen_the_images_is_no_innocent(
    old: str, new: str, said: str, hall: Court, tmp_path: Path
) -> None:
    """Trained on them with their true labels, it matches less than a model that never saw them."""
    folder = tmp_path / "results" / "null"
    folder.mkdir(parents=True)
    text = (hall.null / JOURNAL).read_text()
    assert old in text
    (folder / JOURNAL).write_text(text.replace(old, new))
    key = load_key(hall.key)
    with pytest.raises(ValueError, match=r"^--null: .*null: ") as told:
        ask_null_models(folder, key, order_queries(key, None, 0))
    assert said in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(("old", "new"), [('"queries":30', '"queries":31'), ('"disjoint":0.0', '"disjoint":0.5')])
def test_other_shares_of_the_rest_keep_the_images_out_as_well(old: str, new: str, hall: Court, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "null"
    folder.mkdir(parents=True)
    text = (hall.null / JOURNAL).read_text()
    assert old in text
    (folder / JOURNAL).write_text(text.replace(old, new))
    (tmp_path / "store").symlink_to(hall.home / "store")
    key = load_key(hall.key)
    found = ask_null_models(folder, key, order_queries(key, None, 0))
    assert found.names == ask_null_models(hall.null, key, order_queries(key, None, 0)).names


def test_the_shipped_innocents_are_so_for_the_keys_of_the_quickstart() -> None:
    quickstart, null = (
        decode(Sweep, tree(ROOT / "tune_configs" / name)) for name in ("quickstart.yaml", "null_models.yaml")
    )
    key = victim_specs(quickstart)[0].split
    assert (
        {one.split.seed for one in victim_specs(null)}
        == {one.split.seed for one in victim_specs(quickstart)}
        == {key.seed}
    )
    assert min(one.split.queries for one in victim_specs(null)) >= key.queries
