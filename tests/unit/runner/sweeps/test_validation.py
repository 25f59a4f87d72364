"""The check before a start: whatever a sweep and its data do not agree on is one line with the place in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mwm.config.spec import decode
from mwm.data.datasets import Digits, Npz
from mwm.data.splits import split
from mwm.runner.sweeps.sweep import Sweep
from mwm.runner.sweeps.validation import require_compiler, validate
from mwm.trials.trial import data_key
from tests.helpers.checked import archive, leased, refusal, spread, swept

DIGITS = 1437
HALF = {"split": {"validation": 100, "queries": 100, "disjoint": 0.5}}
DISJOINT = {"kind": "extraction", "source": "disjoint"}
SAVED = {"kind": "extraction", "cache_answers": True}
GRAPH = {"batch_size": 64, "cuda_graph": True}
COMPILED = {"batch_size": 64, "compile": True}
STILL = {"kind": "digits", "flip": False, "pad": 0}


def test_a_sound_sweep_brings_its_data(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz")
    foreign = {"kind": "extraction", "source": {"kind": "npz", "path": str(path)}, "recipe": {"batch_size": 60}}
    sets, notes = validate(swept([DISJOINT, "distillation", foreign], **HALF))
    assert set(sets) == {data_key(Digits()), data_key(Npz(path=str(path)))}
    assert notes == []


def test_what_is_not_here_is_a_note_and_the_rest_is_checked(tmp_path: Path) -> None:
    cifar = {"kind": "cifar10", "root": str(tmp_path)}
    stranger = {"kind": "extraction", "source": cifar}
    sets, notes = validate(swept([stranger]))
    assert set(sets) == {data_key(Digits())}
    assert [note.partition(": ")[0] for note in notes] == ["attacks.0.source"]
    cifar100 = {"kind": "cifar100", "root": str(tmp_path)}
    _, notes = validate(swept([stranger], data=cifar100))
    assert [note.partition(": ")[0] for note in notes] == ["victim.data", "attacks.0.source"]
    _, notes = validate(swept([{"kind": "extraction"}], data=cifar))
    assert [note.partition(": ")[0] for note in notes] == ["victim.data"]
    assert refusal(swept([DISJOINT], data=cifar)).startswith("attacks.0.source: disjoint is not allowed")
    assert refusal(swept([stranger | {"query_budget": 63}], data=cifar100)).startswith(
        "attacks.0.query_budget: 63 is not allowed"
    )
    own = refusal(swept([stranger], data=cifar))
    assert own.startswith("attacks.0.source: 'cifar10' is not allowed: it is the victim's data set")
    assert not any(tmp_path.iterdir())


FAULTS = [
    (
        swept(scheme={"kind": "margin", "num_queries": 101}),
        "victim.scheme.num_queries: 101 is not allowed: must be at most split.queries, 100",
    ),
    (
        swept(scheme={"grid": ["none", {"kind": "trigger_set", "num_queries": {"grid": [20, 200]}}]}),
        "victim.scheme.num_queries: 200 is not allowed: must be at most split.queries, 100",
    ),
    (
        swept(split={"validation": 1337, "queries": 100}),
        "victim.split: 100 queries and 1337 validation images are not allowed: there are 1437 training images",
    ),
    (
        swept(split={"validation": 1300, "queries": 100}),
        "victim.recipe.batch_size: 64 is not allowed: the owner has 37 images",
    ),
    (
        swept(split={"validation": 100, "queries": 100, "disjoint": 0.96}),
        "victim.recipe.batch_size: 64 is not allowed: the owner has 50 images",
    ),
    (swept(recipe={"batch_size": 1238}), "victim.recipe.batch_size: 1238 is not allowed: the owner has 1237 images"),
    (swept(model={"kind": "cnn", "depth": 4}), "victim.model: cnn is not allowed for images 8 pixels wide"),
    (swept(model="resnet18"), "victim.model: resnet18 is not allowed for images 8 pixels wide: it needs 9"),
    (
        swept(["extraction", {"kind": "extraction", "student": "resnet34"}]),
        "attacks.1.student: resnet34 is not allowed for images 8 pixels wide: it needs 9",
    ),
    (
        swept(["extraction", DISJOINT]),
        "attacks.1.source: disjoint is not allowed: victim.split.disjoint is 0",
    ),
    (
        swept([DISJOINT], split={"validation": 100, "queries": 100, "disjoint": 0.01}),
        "victim.recipe.batch_size: 64 is not allowed: the attacker of attacks.0 has 12 images",
    ),
    (
        swept([DISJOINT | {"recipe": {"batch_size": 619}}], **HALF),
        "attacks.0.recipe.batch_size: 619 is not allowed: the attacker of attacks.0 has 618 images",
    ),
    (
        swept([{"kind": "extraction", "recipe": {"batch_size": 620}}], **HALF),
        "attacks.0.recipe.batch_size: 620 is not allowed: the attacker of attacks.0 has 619 images",
    ),
    (
        swept(["extraction", {"kind": "extraction", "query_budget": {"grid": [64, 1238]}}]),
        "attacks.1.query_budget: 1238 is not allowed: the attacker has 1237 images, each to be asked once",
    ),
    (
        swept([DISJOINT | {"query_budget": 619}], **HALF),
        "attacks.0.query_budget: 619 is not allowed: the attacker has 618 images, each to be asked once",
    ),
    (
        swept([{"kind": "distillation", "query_budget": {"grid": [None, 64, 63]}}]),
        "attacks.0.query_budget: 63 is not allowed: must be at least 64, victim.recipe.batch_size",
    ),
    (
        swept([{"kind": "extraction", "query_budget": 99, "recipe": {"batch_size": 100}}]),
        "attacks.0.query_budget: 99 is not allowed: must be at least 100, attacks.0.recipe.batch_size",
    ),
    (
        swept([SAVED]),
        "attacks.0.cache_answers: true is not allowed: augmented views never repeat: must be false, or "
        "victim.data.flip false and victim.data.pad 0",
    ),
    (
        swept(["extraction", DISJOINT | SAVED], data=STILL | {"flip": True}, **HALF),
        "attacks.1.cache_answers: true is not allowed: augmented views never repeat",
    ),
    (
        swept([SAVED | {"source": {"kind": "npz", "path": "nowhere.npz"}}], data=STILL),
        "attacks.0.cache_answers: true is not allowed: augmented views never repeat: must be false, or "
        "attacks.0.source.flip false and attacks.0.source.pad 0",
    ),
    (
        swept([{"kind": "extraction", "cache_answers": {"grid": [False, True]}}], data={"kind": "digits", "pad": 1}),
        "attacks.0.cache_answers: true is not allowed",
    ),
    (
        swept(recipe=GRAPH),
        "victim.recipe.cuda_graph: true is not allowed: resources.victim.gpus is 0, and only a GPU replays a step",
    ),
    (
        leased(0.5, 0, swept(["extraction"], recipe=GRAPH)),
        "victim.recipe.cuda_graph: true is not allowed: resources.attack.gpus is 0",
    ),
    (
        leased(1, 0, swept(["extraction", {"kind": "extraction", "recipe": GRAPH}])),
        "attacks.1.recipe.cuda_graph: true is not allowed: resources.attack.gpus is 0",
    ),
    (
        leased(0, 1, swept(recipe=GRAPH | {"cuda_graph": {"grid": [False, True]}})),
        "victim.recipe.cuda_graph: true is not allowed: resources.victim.gpus is 0",
    ),
    (
        spread(3, swept()),
        "victim.recipe.batch_size: 64 is not allowed: must be a multiple of resources.victim.workers, 3",
    ),
    (
        spread(4, swept(recipe={"batch_size": 64, "batchnorm_groups": {"grid": [1, 8, 2]}})),
        "victim.recipe.batchnorm_groups: 2 is not allowed: must be a multiple of resources.victim.workers, 4, or 1",
    ),
    (
        spread(2, swept(recipe=COMPILED)),
        "victim.recipe.compile: true is not allowed with resources.victim.workers 2",
    ),
    (
        spread(2, swept(recipe=GRAPH), gpus=1),
        "victim.recipe.cuda_graph: true is not allowed with resources.victim.workers 2",
    ),
]


@pytest.mark.parametrize(("sweep", "start"), FAULTS, ids=[start[:40] for _, start in FAULTS])
def test_a_disagreement_is_one_line_with_its_place(sweep: Sweep, start: str) -> None:
    assert refusal(sweep).startswith(start)


def test_what_a_lease_or_the_views_allow_is_not_refused(tmp_path: Path) -> None:
    own = {"kind": "extraction", "recipe": GRAPH}
    slow = {"kind": "extraction", "recipe": {"batch_size": 64}}
    validate(leased(0, 0.5, swept([own])))
    validate(leased(0.5, 1, swept(["extraction"], recipe=GRAPH)))
    validate(leased(1, 0, swept([slow], recipe=GRAPH)))
    validate(swept([SAVED, DISJOINT | SAVED], data=STILL, **HALF))
    still = {"kind": "npz", "path": str(archive(tmp_path / "x.npz")), "flip": False, "pad": 0}
    validate(swept([SAVED | {"source": still, "recipe": {"batch_size": 60}}]))


WORKERS = [
    ({"attack": {"workers": 2}}, "resources.attack.workers: 2 is not allowed: an attack is run by one worker"),
    ({"victim": {"workers": 2, "gpus": 0.5}}, "resources.victim.gpus: 0.5 is not allowed with workers 2: must be 0"),
    ({"victim": {"workers": 2, "gpus": 2}}, "resources.victim.gpus: 2 is not allowed with workers 2: must be 0 or 1"),
]


@pytest.mark.parametrize(("resources", "start"), WORKERS, ids=[start[:40] for _, start in WORKERS])
def test_workers_that_cannot_be_are_one_line(resources: dict[str, Any], start: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode(Sweep, {"name": "s", "victim": {}, "resources": resources})
    assert str(caught.value).startswith(start)
    assert len(str(caught.value).splitlines()) == 1


def test_queries_that_are_normalised_with_images_know_no_groups() -> None:
    joint = {"kind": "margin", "num_queries": 20, "batchnorm": "joint"}
    told = refusal(swept(scheme=joint, recipe={"batch_size": 64, "batchnorm_groups": 2}))
    assert told.startswith("victim.recipe.batchnorm_groups: 2 is not allowed: batchnorm joint of the scheme")


def test_compiling_for_this_machine_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"kind": "extraction", "recipe": COMPILED}
    faulty = {
        "victim.recipe.compile": swept(recipe=COMPILED),
        "attacks.0.recipe.compile": swept([own]),
    }
    spared = [leased(0, 1, swept([own])), swept(["extraction"])]
    for name in ("", "no-such-compiler -O2", str(tmp_path)):
        monkeypatch.setenv("CXX", name)
        for path, sweep in faulty.items():
            start = f"{path}: true is not allowed: there is no C\\+\\+ compiler '{name}' on this machine"
            with pytest.raises(ValueError, match=f"^{start}"):
                require_compiler(sweep)
        for sweep in spared:
            require_compiler(sweep)
    compiler = tmp_path / "own-c++"
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", f"{compiler} -O2")
    for sweep in (*faulty.values(), *spared):
        require_compiler(sweep)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="C\\+\\+"):
        require_compiler(swept(recipe=COMPILED))


def test_sizes_are_checked_to_the_image() -> None:
    validate(swept(scheme={"kind": "none"}))
    validate(swept(split={"validation": 1, "queries": 20, "disjoint": 0.0}, recipe={"batch_size": 1416}))
    validate(swept([DISJOINT | {"recipe": {"batch_size": 618}}], **HALF))
    validate(swept([DISJOINT | {"query_budget": {"grid": [64, 618]}}], **HALF))


@given(st.integers(1, 1500), st.integers(1, 1500), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.integers(1, 1500))
@settings(max_examples=40, deadline=None)
def test_what_is_accepted_can_be_dealt_out(validation: int, queries: int, disjoint: float, batch: int) -> None:
    assume(queries >= 20)
    shares = {"validation": validation, "queries": queries, "disjoint": disjoint}
    sweep = swept(["extraction", DISJOINT] if disjoint else ["extraction"], split=shares, recipe={"batch_size": batch})
    left = DIGITS - validation - queries
    taken = int(disjoint * left)
    fits = left >= 1 and batch <= left - taken and (not disjoint or batch <= taken)
    if not fits:
        assert refusal(sweep).startswith(("victim.split: ", "victim.recipe.batch_size: "))
        return
    sets, _ = validate(sweep)
    (victim,) = sweep.victim_specs
    views = split(sets[data_key(victim.data)], victim.split, "cpu")
    assert len(views.owner) >= victim.recipe.batch_size
    for _, attack in sweep.attack_specs:
        held = views.disjoint if attack.source.kind == "disjoint" else views.owner
        recipe = attack.resolve(victim).training_recipe()
        assert recipe is not None
        assert len(held) >= recipe.batch_size


def test_a_foreign_set_counts_its_own_images(tmp_path: Path) -> None:
    npz = {"kind": "npz", "path": str(archive(tmp_path / "x.npz"))}
    line = refusal(swept(["extraction", {"kind": "extraction", "source": npz}]))
    assert line.startswith("victim.recipe.batch_size: 64 is not allowed: the attacker of attacks.1 has 60 images")


def test_an_owners_secret_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "owner.secret"
    assert refusal(swept(secret=str(path))).startswith(f"victim.secret: {path}: the secret cannot be read (No such")
    path.write_text("12" * 31)
    said = refusal(swept(secret={"grid": [str(path)]}))
    assert said == f"victim.secret: {path}: not 64 hexadecimal digits, as `openssl rand -hex 32` writes them"
    for text in ("", "nowhere"):
        assert "secret" in refusal(swept(secret={"choice": [text]}) if text else swept(secret=text))
    monkeypatch.chdir(tmp_path)
    path.write_text("12" * 32)
    Path("other.secret").write_text("aB" * 32)
    sets, _ = validate(swept(secret={"grid": ["owner.secret", str(path), "other.secret"]}))
    assert sets.secrets == {"owner.secret": b"\x12" * 32, str(path): b"\x12" * 32, "other.secret": b"\xab" * 32}
