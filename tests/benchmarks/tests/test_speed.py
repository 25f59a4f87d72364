"""The benchmarks of speed: the rival does the same mathematics, is counted rightly and takes turns; a GPU's script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mwm.config.randomness import make_generator
from mwm.data.images import Augmentation, to_float
from mwm.training.recipe import Recipe
from mwm.training.step import TrainStep
from tests.benchmarks import epoch, equal, packing, step
from tests.benchmarks.bench import ROOT, machine, publish, show
from tests.benchmarks.counting import engine_operations, products, reference_operations
from tests.benchmarks.ground import Ground, engine_name, parsed
from tests.benchmarks.reference import Loop, Pictures, training_batches
from tests.benchmarks.sides import engine_of, loop_of, picks

SMALL = Ground(data="digits", model="cnn", width=4, batch=16)


def trained_by_engine(ground: Ground, engine: str, rates: list[float]) -> dict[str, Tensor]:
    """The network after steps of the engine on images as they are."""
    plain = engine_of(ground, ground.recipe(engine))
    same = TrainStep(plain.training, plain.part, plain.objective, augmentation=Augmentation(flip=False, pad=0))
    same.start_epoch(ground.seed, 0)
    for pick, rate in zip(picks(ground), rates, strict=False):
        same.step(pick, rate)
    return same.training.model.state_dict()


def trained_by_loop(ground: Ground, loop: Loop, rates: list[float]) -> dict[str, Tensor]:
    """The network after the same steps of the published loop: the same batches, queries and rates."""
    owner, _, queries = ground.parts
    draw = make_generator(ground.seed, "draw", 0)
    for pick, rate in zip(picks(ground), rates, strict=False):
        drawn = torch.randint(len(queries), (loop.drawn,), generator=draw)
        loop.learn(to_float(owner.images[pick]), owner.labels[pick], drawn, rate)
    return loop.model.state_dict()


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two networks, batch norm's statistics among it."""
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("ground", [SMALL, Ground(images=96, model="cnn", width=4, batch=16)], ids=["digits", "noise"])
def test_the_published_loop_and_the_engine_do_the_same_mathematics(ground: Ground) -> None:
    rates = [0.1, 0.1, 0.05, 0.01]
    expected = trained_by_engine(ground, "float32+contiguous", rates)
    moved = apart(expected, ground.network().state_dict())
    assert apart(trained_by_loop(ground, loop_of(ground), rates), expected) < 1e-4 * moved


@pytest.mark.parametrize("change", [{"weight": 0.2}, {"steps": 4}, {"step_size": 5 / 255}, {"drawn": 24}], ids=str)
def test_another_scheme_in_the_loop_would_be_seen(change: dict[str, Any]) -> None:
    rates, loop = [0.1, 0.1], loop_of(SMALL)
    for name, value in change.items():
        assert getattr(loop, name) != value
        setattr(loop, name, value)
    assert apart(trained_by_loop(SMALL, loop, rates), trained_by_engine(SMALL, "float32+contiguous", rates)) > 1e-4


def test_pictures_are_the_images_that_the_engine_sees() -> None:
    from torchvision.transforms import ToTensor

    for ground in (SMALL, Ground(images=8)):
        owner = ground.parts[0]
        pictures = Pictures(owner.images[:8], owner.labels[:8], ToTensor())
        assert torch.equal(torch.stack([pictures[n][0] for n in range(8)]), to_float(owner.images[:8]))
        assert [pictures[n][1] for n in range(8)] == owner.labels[:8].tolist()


def test_the_loop_drops_the_last_partial_batch_and_falls_in_rate() -> None:
    owner, loop, seen = SMALL.parts[0], loop_of(SMALL), []
    batches = training_batches(owner.images[:71], owner.labels[:71], flip=False, pad=1, batch=16)
    assert len(batches) == 4

    def noted(images: Tensor, labels: Tensor, rate: float) -> list[float]:
        assert images.shape == (16, 1, 8, 8)
        seen.append(rate)
        return [1.0]

    loop.step = noted  # type: ignore[method-assign]
    for number in range(2):
        loop.epoch(batches, number, 2)
    assert seen == pytest.approx([0.1] * 3 + [0.01] * 2 + [0.001] * 3)


def test_operations_are_those_counted_by_hand() -> None:
    ground = Ground(data="digits", model="resnet20", batch=7)
    conv, fc = 2 * 64 * 9 * 3, 2 * 3 * 10  # a 3x3 convolution of 8x8 pixels to 3 channels, and the last layer
    forward = conv + fc
    counted, plain = shallow(ground)
    expected = {"clean forward": 7 * forward, "PGA": 25 * 5 * 2 * forward, "query forward": 25 * forward}
    expected["backward"] = (7 + 25) * (conv + 2 * fc)  # no slope of the images; both slopes of the last layer
    assert counted == {**expected, "total": sum(expected.values())}
    assert plain - counted["total"] == 25 * 5 * (conv + fc)  # slopes of the weights in each ascent


def shallow(ground: Ground) -> tuple[dict[str, int], int]:
    """The counts of a network of one convolution with three channels."""
    from mwm.models.networks import Cnn

    class Shallow(Ground):
        @property
        def kind(self) -> Cnn:
            return Cnn(width=3, depth=1)

    flat = Shallow(**ground.said())
    return engine_operations(flat), reference_operations(flat)


def test_all_forms_of_a_product_are_the_same_product() -> None:
    forms = products("cpu", "float32", 16)
    assert forms.keys() == {"mm", "oneDNN"}
    assert torch.allclose(forms["mm"](), forms["oneDNN"](), atol=1e-4)


def test_an_engine_is_named_by_what_it_does() -> None:
    assert SMALL.recipe("bf16+compile+graph", 3) == Recipe(
        epochs=3, momentum=0.9, batch_size=16, bf16=True, compile=True, cuda_graph=True, channels_last=True
    )
    assert not SMALL.recipe("float32+contiguous").channels_last
    assert engine_name("float32+deterministic") == "float32+deterministic"
    with pytest.raises(Exception, match=r"'fast' is unknown; allowed, joined by [+]: float32, bf16"):
        engine_name("bf16+fast")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--engine bf16 --engine bf16", "bf16 bf16 is not allowed: each once"),
        ("--engine bf16+graph", "graph is not allowed on cpu"),
        ("--model vgg", "kind 'vgg' is unknown"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(words: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    for room in (step, epoch, packing, equal):
        with pytest.raises(SystemExit):
            parsed(room.command_line(), ["--device", "cpu", *words.split()])
        assert fault in capsys.readouterr().err


def test_too_large_a_difference_and_no_number_are_faults() -> None:
    found: dict[str, Any] = {
        "allowed": 1e-5,
        "way": 0.1,
        "differences": {"float32": 0.0, "float32+graph": 2e-5, "bf16": 0.1, "compile": float("nan")},
    }
    assert equal.faults(found) == ["float32+graph", "compile"]
    found["way"] = 5e-5  # weights that never moved would be near enough
    assert equal.faults(found) == ["float32", "float32+graph", "compile"]


def test_plain_engines_differ_by_rounding_alone() -> None:
    found = equal.measured(SMALL, ["bf16"], steps=3, rate=0.01)
    assert found["differences"]["float32"] == 0
    assert 0 < found["differences"]["float32+contiguous"] < 1e-6
    assert found["way"] > found["differences"]["bf16"] > 1e-6
    assert not equal.faults(found)


def test_what_was_not_run_is_projected_and_says_so() -> None:
    turn = {"seconds": 3.0, "loss": 1.0, "accuracy": 0.5}
    some = epoch.judged({"reference": [turn] * 3, "bf16": [turn | {"seconds": 1.5}] * 3}, "reference")
    assert some["bf16"]["projected_seconds_of_200"] == 300
    assert [line[5] for line in epoch.table({"rivals": some})] == ["10.0 projected", "5.0 projected"]
    whole = epoch.judged({"bf16": [turn | {"seconds": 63.0}] + [turn] * 199}, "bf16")
    assert whole["bf16"]["seconds_of_200"] == 660
    assert "projected_seconds_of_200" not in whole["bf16"]
    assert [line[5] for line in epoch.table({"rivals": whole})] == ["11.0 measured"]


def test_winners_are_the_fastest_engines(tmp_path: Path) -> None:
    medians = {"reference": 0.1, "float32": 4.0, "bf16": 2.0, "bf16+graph": 1.0}
    rivals = {name: {"seconds": {"median": value}} for name, value in medians.items()}
    (tmp_path / "step.json").write_text(json.dumps({"rivals": rivals}))
    assert epoch.winners(tmp_path / "step.json") == ["bf16+graph", "bf16"]


def test_a_limit_is_that_of_the_best_form_and_of_one_precision() -> None:
    turns = [
        {"seconds": 9.0, "bf16 mm": 5.0, "float32 mm": 2.0, "float32 oneDNN": 3.0},
        {"seconds": 9.0, "bf16 mm": 4.0},
    ]
    assert step.limits(turns, ["bf16", "float32"]) == {"bf16": 5.0, "float32": 3.0}
    assert [step.precision(name) for name in ("reference", "bf16+graph")] == ["float32", "bf16"]


def test_tables_and_figures_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show("Title", ("name", "figure"), [("one", "1.0"), ("another", "22.25")])
    assert (
        capsys.readouterr().out == "\nTitle\n name     figure\n -------  ------\n one         1.0\n another   22.25\n\n"
    )
    publish(tmp_path / "new" / "x.json", machine(), {"figure": 1})
    written = json.loads((tmp_path / "new" / "x.json").read_text())
    assert written["figure"] == 1
    assert written["machine"]["versions"]["version.torch"] in torch.__version__


def test_a_library_that_is_not_there_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mwm.trials.provenance.LIBRARIES", ("numpy", "no-such-library"))
    found = machine()["versions"]
    assert found["version.no-such-library"] == "absent"
    assert found["version.numpy"][0].isdigit()


BARE = """
import importlib, sys
for name in ("ray", "mlflow", "optuna", "sklearn", "scipy", "rich", "psutil", "pyarrow", "yaml"):
    sys.modules[name] = None  # as if it were not installed
for room in sys.argv[1:]:
    importlib.import_module(f"tests.benchmarks.{room}")
from tests.benchmarks.ground import Ground
assert len(Ground(images=4).parts[0]) == 4
"""


def test_benchmarks_of_speed_need_little_more_than_torch() -> None:
    command = [sys.executable, "-W", "error", "-c", BARE, "step", "epoch", "packing", "equal"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_script_for_a_gpu_runs_on_a_cpu(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(ROOT / "tests/benchmarks/gpu.sh"), "figures"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "figures").iterdir()}
    assert set(figures) == {"equal", "step", "epoch", "packing-cnn"}
    assert all((one["device"], one["exercise"]) == ("cpu", True) for one in figures.values())
    assert sum(path.stat().st_size for path in (tmp_path / "figures").iterdir()) < 20_000
    assert set(figures["step"]["rivals"]) == {"reference", "float32"}
    assert all(one["share"] > 0 for one in figures["step"]["rivals"].values())
    assert {one["epochs_measured"] for one in figures["epoch"]["rivals"].values()} == {2}
    assert all(one["projected_seconds_of_200"] > 0 for one in figures["epoch"]["rivals"].values())
    assert [one["trainings"] for one in figures["packing-cnn"]["packing"]] == [1, 2]
    assert figures["equal"]["faults"] == []


def test_training_packed_counts_its_steps() -> None:
    figures = packing.training(SMALL, "float32", share=1.0, seconds=0.2)()
    assert figures["steps"] >= 1
