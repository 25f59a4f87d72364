"""model, as a user asks for it: a trial's network in every form, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import mwm
from mwm.attacks import Distillation
from mwm.data.images import to_float
from mwm.models.networks import Cnn
from mwm.runner.cli import models
from mwm.storage.store import WEIGHTS, Store
from mwm.training.evaluation import predict_logits
from mwm.trials.trial import Trial
from mwm.verification.suspects import open_suspect
from mwm.watermarks.proof import WITHOUT_PROOF
from tests.helpers.asking import Say, heard, one_line, tree
from tests.helpers.records import CONTROL, VICTIM, Loaded, done, theft
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE


class Made(NamedTuple):
    """A store with a victim, a student of another architecture, and a control, by their digests."""

    store: Store
    place: str
    victim: str
    student: str
    control: str


@pytest.fixture(scope="module")
def made(sets: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("storage")
    store = Store(place / "store")
    student = theft(Distillation(student=Cnn(width=3, depth=1)))
    trials = (Trial(victim=VICTIM), student, Trial(victim=CONTROL))
    return Made(store, str(place), *(done(trial, sets, store).digest for trial in trials))


def answers(network: nn.Module) -> Any:
    return predict_logits(network, torch.from_numpy(IMAGES)).double().numpy()


@pytest.mark.parametrize("whose", ["victim", "student"])
def test_a_weights_file_is_that_of_the_store(whose: str, say: Say, made: Made, tmp_path: Path) -> None:
    digest = getattr(made, whose)
    out = heard(say, "model", digest, "own/net.safetensors", "--storage", made.place)
    what = f"own/net.safetensors: safetensors, cnn of {digest}, images 1x6x6 in [0, 1] to 4 logits"
    assert out == f"{what}; 16 random images answered as by the network, logits within 0\n"
    file = tmp_path / "own" / "net.safetensors"
    assert file.read_bytes() == made.store.kept(digest, WEIGHTS)
    assert np.array_equal(answers(mwm.load_model(file)), answers(mwm.load_model(made.store.folder(digest))))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), [("net.onnx", "onnx"), ("net.ts", "torchscript"), ("net", "mlflow")])
def test_every_form_answers_as_the_network(name: str, form: str, say: Say, made: Made, tmp_path: Path) -> None:
    out = heard(say, "model", made.victim[:9], name, "--storage", made.place)
    assert out.startswith(f"{name}: {form}, cnn of {made.victim}, ")
    want = answers(mwm.load_model(made.store.folder(made.victim)))
    said = open_suspect(tmp_path / name, shape=SHAPE, classes=CLASSES, trust=True)(IMAGES)
    assert np.allclose(said, want, atol=1e-5)
    if form != "onnx":
        found = mwm.load_model(tmp_path / name, trust=True)
        assert np.allclose(found(to_float(torch.from_numpy(IMAGES))).detach().numpy(), want, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="is not allowed; must be"):
            mwm.load_model(tmp_path / name, trust=True)


def test_a_form_may_be_named(say: Say, made: Made, tmp_path: Path) -> None:
    assert "torchscript" in heard(say, "model", made.victim, "a.pt", "--format", "torchscript", "--storage", made.place)
    assert mwm.load_model(tmp_path / "a.pt", trust=True)(torch.zeros(1, *SHAPE)).shape == (1, CLASSES)


def test_what_is_asked_for_is_looked_at_first(say: Say, made: Made, tmp_path: Path) -> None:
    (tmp_path / "there.onnx").touch()
    before = tree(tmp_path)
    for words, said in (
        (["zz", "a.onnx"], ["DIGEST: 'zz' is not allowed", "8 or more"]),
        ([made.victim[:7], "a.onnx"], ["DIGEST: ", "must be 16 hexadecimal digits"]),
        (["0" * 16, "a.onnx"], ["DIGEST: 0000000000000000 is no finished trial of this store"]),
        (["00000000", "a.onnx"], ["DIGEST: 00000000: no finished trial begins so"]),
        ([made.victim], ["FILE: is missing"]),
        ([made.victim, "--format", "onnx", "--register", "x"], ["--format: onnx is of no use without FILE"]),
        ([made.victim, "a.h5"], ["FILE: a.h5: '.h5' says no form", ".safetensors, .onnx, .ts"]),
        ([made.victim, "a.onnx", "--format", "torchscript"], ["FILE: a.onnx is not allowed for torchscript", ".ts"]),
        ([made.victim, "there.onnx"], ["FILE: there.onnx is there already; name a new one"]),
        ([made.victim, "a.onnx", "--tracking-uri", "http://x"], ["--tracking-uri: is of no use without --register"]),
    ):
        one_line(say("model", *words, "--storage", made.place), *said)
    assert tree(tmp_path) == before


def test_what_begins_several_digests_names_none(say: Say, made: Made, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digests = [f"{made.victim[:10]}{end}" for end in ("000000", "ffffff")]
    for digest in digests:
        store.save_weights(digest, made.store.weights(made.victim))
        store.commit(digest, {})
    one_line(say("model", made.victim[:8], "a.ts", "--storage", str(tmp_path)), "several trials", *digests)


def test_a_file_that_answers_otherwise_is_not_kept(
    say: Say, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of another network of that shape, written in place of the victim's."""
    student = made.store.folder(made.control) / WEIGHTS

    def other(found: Any, file: Path, form: str) -> None:
        file.write_bytes(student.read_bytes())

    monkeypatch.setattr(models, "_write", other)
    words = "a.safetensors: its logits differ by", "it was not kept"
    one_line(say("model", made.victim, "a.safetensors", "--storage", made.place), *words)
    assert not (tmp_path / "a.safetensors").exists()


def test_a_damaged_entry_is_told(say: Say, made: Made, tmp_path: Path, sets: Loaded) -> None:
    store = Store(tmp_path / "store")
    digest = done(Trial(victim=VICTIM), sets, store).digest
    file = store.folder(digest) / WEIGHTS
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    for named in (digest, digest[:8]):
        one_line(say("model", named, "a.ts"), f"DIGEST: {digest} is no finished trial", "damaged")
    assert not (tmp_path / "a.ts").exists()


def test_only_a_marked_victim_is_registered(say: Say, made: Made, uri: str) -> None:
    there = ["--register", "mine", "--tracking-uri", uri, "--storage", made.place]
    refused = f"--register: {made.student} is an attack on {made.victim}: only a victim is registered"
    one_line(say("model", made.student, *there), refused)
    one_line(say("model", made.control, *there), f"--register: {made.control} is the key of a control", "no watermark")
    one_line(say("model", made.victim, *there), f"--register: {made.victim} {WITHOUT_PROOF}")
    nowhere = ["--register", "mine", "--tracking-uri", "sqlite:///nowhere.db", "--storage", made.place]
    one_line(say("model", made.victim, *nowhere), "--tracking-uri: sqlite:///", "nowhere.db")
