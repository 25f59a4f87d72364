"""The Python API: the nine lines of the documentation, the same digests as a sweep's, and a quick import."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import mwm
from mwm.config.spec import decode, encode
from mwm.storage.store import Store
from mwm.training.evaluation import predict_logits
from mwm.trials import api, validation
from mwm.trials.trial import Trial, trial_digest
from mwm.watermarks.key import commitment
from mwm.watermarks.proof import WITHOUT_PROOF
from tests.helpers.records import MARKED, VICTIM, Loaded, done

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = encode(VICTIM) | {"recipe": {"epochs": 2, "batch_size": 16}}


@pytest.fixture
def inputs(sets: Loaded, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """The small data sets of the tests, under the names that their records give."""
    monkeypatch.setattr(validation, "load_datasets", lambda wanted, _: ({key: sets[key] for key in wanted}, []))
    return sets


def test_a_victim_and_an_attack_are_those_of_a_sweep(inputs: Loaded, tmp_path: Path) -> None:
    seen: list[mwm.EpochMetrics] = []
    victim = mwm.train_victim(**SMALL, store=tmp_path / "mine", on_epoch=seen.append)
    attack = mwm.run_attack(victim, {"kind": "extraction", "labels": "hard"})
    trial = Trial(victim=decode(mwm.Victim, SMALL))
    other = Store(tmp_path / "sweep")
    theirs = done(trial, inputs, other)
    student = done(Trial(victim=trial.victim, attack=attack.spec), inputs, other)
    assert victim.outcome.digest == theirs.digest == trial_digest(trial, inputs)
    assert attack.outcome.digest == student.digest
    assert tuple(seen) == victim.epochs
    assert [row.loss for row in victim.epochs] == [row["loss"] for row in other.rows(theirs.digest)]
    assert (attack.outcome.query_acc, attack.outcome.oracle_calls) == (student.query_acc, student.oracle_calls)
    images = victim.key.queries.images
    assert predict_logits(attack.model, images).argmax(1).tolist() == [
        *predict_logits(attack.model, images).argmax(1).tolist()
    ]
    weights = other.weights(student.digest)
    assert all(torch.equal(value, weights[name]) for name, value in attack.model.state_dict().items())


def test_a_victim_of_two_keys_has_both(inputs: Loaded, tmp_path: Path) -> None:
    both = {"kind": "combined", "queries": encode(VICTIM.scheme)}
    victim = mwm.train_victim(**SMALL | {"scheme": both}, store=tmp_path)
    assert victim.second_key is not None
    assert (victim.key.scheme, victim.second_key.scheme) == ("margin", "confusion")
    assert mwm.run_attack(victim, "extraction").outcome.second_log10_p is not None
    assert mwm.train_victim(**SMALL, store=tmp_path).second_key is None


def test_what_is_finished_is_taken_from_the_store(inputs: Loaded, tmp_path: Path) -> None:
    first = mwm.train_victim(**SMALL, store=tmp_path)
    again: list[mwm.EpochMetrics] = []
    second = mwm.train_victim(first.spec, store=tmp_path, on_epoch=again.append)
    assert again == []
    assert (second.outcome, second.epochs) == (first.outcome, first.epochs)


def test_a_store_of_its_own_goes_with_the_result(inputs: Loaded) -> None:
    victim = mwm.train_victim(**SMALL)
    folder = Path(victim.store.root)
    assert (victim.store.folder(victim.outcome.digest) / "model.safetensors").is_file()
    del victim
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schem": "margin"}, "schem: unknown key (did you mean 'scheme'?)"),
        ({"scheme": {"kind": "base"}}, "scheme: kind 'base' is unknown; it is now called 'trigger_set'"),
        ({"recipe": {"batch_size": 10_000}}, "victim.recipe.batch_size: 10000 is not allowed"),
    ],
)
def test_a_mistake_is_one_line(change: dict[str, Any], fault: str, inputs: Loaded) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011 - the whole line is compared
        mwm.train_victim(**SMALL | change)
    assert str(told.value).startswith(fault)
    assert len(str(told.value).splitlines()) == 1


def test_an_attack_that_cannot_be_run_is_one_line(inputs: Loaded) -> None:
    victim = mwm.train_victim(**SMALL)
    with pytest.raises(ValueError, match=r"^attack\.query_budget: 9999 is not allowed: the attacker has \d+ images"):
        mwm.run_attack(victim, mwm.Extraction(query_budget=9999))
    with pytest.raises(ValueError, match=r"^attack: kind 'piracy' is unknown"):
        mwm.run_attack(victim, "piracy")


@pytest.mark.parametrize("seen", [True, False])
def test_progress_is_shown_where_somebody_looks(seen: bool, inputs: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return seen

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(api, "SHOW_AFTER_SECONDS", 0.0)
    mwm.train_victim(**SMALL)
    assert ("margin n=9" in screen.getvalue()) == seen


def test_a_key_proves_the_victim_and_not_the_control(inputs: Loaded) -> None:
    victim = mwm.train_victim(**SMALL | {"recipe": {"epochs": 12, "batch_size": 16, "lr": 0.1, "momentum": 0.9}})
    verdict = mwm.verify(victim.key, victim.model)
    assert verdict.suspects[0].p_value == pytest.approx(victim.outcome.p_value)


TABLE = ast.parse((ROOT / "mwm" / "__init__.py").read_text())


def test_the_public_names_are_those_that_are_imported_for_type_checkers() -> None:
    imported = {
        alias.name
        for node in ast.walk(TABLE)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mwm")
        for alias in node.names
    }
    assert imported == {*mwm.__all__}
    for name in mwm.__all__:
        assert getattr(mwm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mwm.nothing


QUICK = """
import sys, time
began = time.perf_counter()
import mwm
took = time.perf_counter() - began
assert took < 0.1, f"import mwm took {took:.3f} s"
assert not {"torch", "ray", "numpy", "mlflow"} & {*sys.modules}, "a library was imported"
assert {"train_victim", "__version__"} <= {*dir(mwm)}
"""


def test_an_import_takes_no_time_and_no_library() -> None:
    done = subprocess.run([sys.executable, "-c", QUICK], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


NINE_LINES = """
import mwm

victim = mwm.train_victim(
    data="digits", model=mwm.Cnn(width=16), seed=0,
    scheme=mwm.Margin(num_queries=20, step_size=6 / 255),
    recipe=mwm.Recipe(epochs=30, batch_size=64, lr=0.05, momentum=0.9),
)
student = mwm.run_attack(victim, mwm.Extraction(labels="soft"))
print(student.outcome.clean_acc, student.outcome.query_acc, student.outcome.oracle_calls)
verdict = mwm.verify(victim.key, student.model, level=1e-3)       # or a path, a URL, "models:/…", a callable, several
print(verdict.decision, verdict.suspects[0].p_value)
"""


@pytest.mark.slow
def test_the_nine_lines_run_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(NINE_LINES, names)
    measured, decided = capsys.readouterr().out.splitlines()
    student, verdict = names["student"].outcome, names["verdict"]
    assert measured == f"{student.clean_acc} {student.query_acc} {student.oracle_calls}"
    assert decided == f"{verdict.decision} {verdict.suspects[0].p_value}"
    assert verdict.suspects[0].p_value == pytest.approx(student.p_value)
    assert (verdict.decision == "proven") == (student.p_value <= 1e-3)


def test_a_key_is_handed_out_with_its_proof_or_refused(inputs: Loaded, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="unmarked: the own key is not proven at p ≤ .001"):
        bare = mwm.train_victim(VICTIM)
    assert bare.outcome.marked is False
    with pytest.raises(ValueError, match=rf"^victim: {bare.outcome.digest} {WITHOUT_PROOF}: .*; force=True takes it"):
        mwm.export_key(bare, tmp_path / "bare")
    assert not (tmp_path / "bare").exists()
    (place,) = mwm.export_key(bare, tmp_path / "bare", force=True)
    assert place == tmp_path / "bare"
    with pytest.raises(ValueError, match=rf"^folder: {place} {WITHOUT_PROOF}: .*; force=True takes it"):
        mwm.commit_key(place)
    assert mwm.commit_key(place, force=True) == commitment(bare.key)
    marked = mwm.train_victim(MARKED)
    assert marked.outcome.marked is True
    assert mwm.commit_key(*mwm.export_key(marked, tmp_path / "marked")) == commitment(marked.key)
    with pytest.raises(ValueError, match=r"^folder: .*/marked cannot be made \(File exists\)"):
        mwm.export_key(marked, tmp_path / "marked")
