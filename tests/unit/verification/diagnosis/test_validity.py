"""The choice of a way to ask knows no secret label, and makes no independent suspect proven."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields

import pytest

from mwm.verification.diagnosis import diagnose, fit, probe
from mwm.verification.diagnosis.diagnose import Diagnosis
from mwm.verification.diagnosis.probe import Probe, make_probe
from tests.benchmarks.ways import measured, rates
from tests.helpers.verifying import random_key


def test_what_chooses_is_given_no_secret_label() -> None:
    assert list(inspect.signature(fit.best_fit).parameters) == ["told", "truth", "usual"]
    assert [one.name for one in fields(Diagnosis)] == ["suspect", "probe", "policy", "batch"]
    assert [one.name for one in fields(Probe)] == ["images", "truth", "classes", "source"]
    for module in (fit, diagnose):
        names = {node.id for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Name)}
        assert not names & {"Key", "load_key", "QuerySet"}, "a key is out of its reach"


def test_the_probe_of_a_key_holds_true_classes_alone() -> None:
    key = random_key(40)
    truth = {
        image.numpy().tobytes(): int(one) for image, one in zip(key.queries.images, key.queries.truth, strict=True)
    }
    made = make_probe(key)
    assert made.truth.tolist() == [truth[image.tobytes()] for image in made.images]
    asked = made.questions()
    assert asked.labels.tolist() == asked.truth.tolist() == made.truth.tolist()
    reads = {node.attr for node in ast.walk(ast.parse(inspect.getsource(probe))) if isinstance(node, ast.Attribute)}
    assert "labels" not in reads


@pytest.mark.parametrize("classes", [3, 10])
def test_the_way_that_fits_best_keeps_the_level(classes: int) -> None:
    found = rates(measured(800, classes=classes, queries=30, seed=classes))
    for form in ("labels", "scores"):
        assert all(one["kept"] for one in found[f"{form}, by true classes"].values()), found
        assert not found[f"{form}, by secret labels"]["0.05"]["kept"], "the measure would not see a choice that cheats"
