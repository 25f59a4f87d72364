"""Networks in files of their own: what they answer, and what their files cannot do."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from mwm.verification.suspects import NoAnswerError
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, Bomb, labels, network, opened, opened_here, scores

Write = Callable[[nn.Module, Path], None]
RIGHT = scores(network())


@contextmanager
def quiet() -> Iterator[None]:
    """What PyTorch's exporters say of their own future is not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def example(count: int) -> tuple[torch.Tensor]:
    return (torch.zeros(count, *SHAPE),)


def to_onnx(model: nn.Module, path: Path) -> None:
    free = ({0: torch.export.Dim("n")},)
    torch.onnx.export(model, example(2), path, dynamo=True, dynamic_shapes=free, verbose=False)


def to_fixed_onnx(model: nn.Module, path: Path) -> None:
    torch.onnx.export(model, example(5), path, dynamo=True, verbose=False, external_data=False)


def to_export(model: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(model, example(2), dynamic_shapes=({0: torch.export.Dim("n")},)), path)


def to_fixed_export(model: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(model, example(5)), path)


def to_trace(model: nn.Module, path: Path) -> None:
    torch.jit.trace(model, example(2)).save(path)  # type: ignore[no-untyped-call]


def to_frozen(model: nn.Module, path: Path) -> None:
    torch.jit.freeze(torch.jit.trace(model, example(2))).save(path)  # type: ignore[no-untyped-call]


FORMS: dict[str, tuple[Write, str, str]] = {
    "onnx": (to_onnx, "net.onnx", "onnx"),
    "fixed onnx": (to_fixed_onnx, "net.onnx", "onnx"),
    "export": (to_export, "net.pt2", "export"),
    "fixed export": (to_fixed_export, "net.pt2", "export"),
    "trace": (to_trace, "net.ts", "torchscript"),
    "trace as pt": (to_trace, "net.pt", "torchscript"),
    "frozen": (to_frozen, "net.pt", "torchscript"),
    "module": (torch.save, "net.pt", "module"),
    "module as pth": (torch.save, "net.pth", "module"),
}


def written(form: str, folder: Path, model: nn.Module | None = None) -> Path:
    write, name, _ = FORMS[form]
    with quiet():
        write(model or network(), folder / name)
    return folder / name


@pytest.mark.parametrize("form", FORMS)
def test_a_network_answers_as_before(form: str, tmp_path: Path) -> None:
    suspect = opened_here(written(form, tmp_path))
    said = suspect(IMAGES)
    assert np.array_equal(said.argmax(1), RIGHT.argmax(1))
    assert np.abs(said - RIGHT).max() < 1e-5
    assert said.shape == RIGHT.shape
    assert (suspect.name, suspect.access) == (str(tmp_path / FORMS[form][1]), FORMS[form][2])


class Halving(nn.Module):
    """A network with a branch, which only a script keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(36, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x.flatten(1))
        if bool(y.sum() > 0):
            y = y * 0.5
        return y.argmax(1)


def test_a_script_answers_with_labels(tmp_path: Path) -> None:
    model = Halving()
    with quiet():
        torch.jit.script(model).save(tmp_path / "net.ts")  # type: ignore[no-untyped-call]
    said = opened_here(tmp_path / "net.ts")(IMAGES)
    assert said.dtype == np.int64
    assert np.array_equal(said, model(torch.from_numpy(IMAGES) / 255).numpy())


def test_a_network_that_was_saved_while_it_trained_is_asked_in_evaluation_mode(tmp_path: Path) -> None:
    assert np.array_equal(opened_here(written("module", tmp_path, network().train()))(IMAGES), RIGHT)


@pytest.mark.parametrize("form", FORMS)
def test_a_network_for_other_images_or_classes_is_refused_before_it_is_asked(form: str, tmp_path: Path) -> None:
    path = written(form, tmp_path)
    with pytest.raises(ValueError, match=r"net\.\w+: (is a network for images|failed on images of shape)") as told:
        opened_here(path, shape=(3, 6, 6), classes=CLASSES)
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="answers with scores of 4 classes, the key has 3"):
        opened_here(path, shape=SHAPE, classes=3)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2", "net.ts", "net.pt"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 99, b"PK\x03\x04" + bytes(99)], ids=["empty", "text", "zip"])
def test_a_damaged_file_is_one_line(
    content: bytes, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"net\.\w+: cannot be read as ") as told:
        opened_here(tmp_path / name)
    assert "\n" not in str(told.value)
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")


def test_weights_alone_are_no_network(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match="holds a OrderedDict; allowed: a whole network, not its weights alone"):
        opened_here(tmp_path / "net.pt")


def test_a_torch_export_file_can_run_code(tmp_path: Path) -> None:
    """Why it needs trust: a weight may be a pickle, which the loader reads without restriction."""
    path, mark = written("export", tmp_path), tmp_path / "mark"
    torch.save(Bomb(mark), tmp_path / "bomb")
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    (config,) = (name for name in parts if name.endswith("model_weights_config.json"))
    said = json.loads(parts[config])
    first = next(iter(said["config"].values()))
    first["use_pickle"] = True
    parts[config] = json.dumps(said).encode()
    parts[config.replace("model_weights_config.json", first["path_name"])] = (tmp_path / "bomb").read_bytes()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    with pytest.raises(ValueError, match="--trust"):
        opened(path)
    assert not mark.exists()
    with pytest.raises(ValueError, match=r"net\.pt2"):
        opened(path, trust=True)
    assert mark.exists(), "the loader has become safe: trust is no longer needed for it"


def adding(*weights: TensorProto, op: str = "Add", domain: str = "", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A network (n, 4) -> (n, 4) of one operator, with these weights."""
    inputs = ["x", *(weight.name for weight in weights)]
    node = helper.make_node(op, inputs, ["y"], domain=domain)
    ends = [helper.make_tensor_value_info(name, kind, ["n", 1, 2, 2]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], list(weights))
    opsets = [helper.make_opsetid(name, 18) for name in {"", domain}]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def outside(location: str) -> TensorProto:
    """Weights of which only the place is said."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    return weight


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with weights in it and links out of it, beside a file that is none of its business."""
    made, content = tmp_path / "model", np.arange(4, dtype=np.float32).tobytes()
    (made / "sub").mkdir(parents=True)
    for path in (tmp_path / "private.bin", made / "own.bin", made / "sub" / "own.bin"):
        path.write_bytes(content)
    (made / "link.bin").symlink_to(tmp_path / "private.bin")
    (made / "up").symlink_to(tmp_path)
    (made / "zero.bin").symlink_to("/dev/zero")
    return made


def read(folder: Path, location: str) -> Any:
    """Open a network whose weights lie at `location`; it has no classes, so what is read in the end is its shape."""
    path = folder / "net.onnx"
    path.write_bytes(adding(outside(location)).SerializeToString())
    return opened_here(path, shape=(1, 2, 2), classes=CLASSES)


@pytest.mark.parametrize("place", ["own.bin", "sub/own.bin", "./own.bin"])
def test_weights_in_the_folder_of_an_onnx_file_are_read(place: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"answered with numbers of shape \(1, 1, 2, 2\)"):
        read(folder, place)


OUTSIDE = ["../private.bin", "sub/../../private.bin", "link.bin", "up/private.bin", "zero.bin", "/dev/zero", "none.bin"]


@pytest.mark.parametrize("place", [*OUTSIDE, "ABSOLUTE"])
@pytest.mark.parametrize("inside", [False, True], ids=["from elsewhere", "from its folder"])
def test_weights_anywhere_else_are_not(place: str, inside: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if inside:
        monkeypatch.chdir(folder)
        folder = Path()
    location = os.fspath(folder.absolute().parent / "private.bin") if place == "ABSOLUTE" else place
    with pytest.raises(ValueError, match="cannot be read as ONNX"):
        read(folder, location)


READ, NOT_READ = r"takes c tensor\(bool\)", "cannot be read as ONNX"


@pytest.mark.parametrize(("place", "words"), [("own.bin", READ), ("../private.bin", NOT_READ), ("link.bin", NOT_READ)])
def test_nor_are_those_of_a_branch(place: str, words: str, folder: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "ay"]
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["a"])], "b", [], ends[:1], [outside(place)])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    asked = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    whole = helper.make_graph([node], "g", [asked], ends[1:])
    onnx.save(helper.make_model(whole, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "net.onnx")
    with pytest.raises(ValueError, match=words):
        opened_here(folder / "net.onnx")


def test_an_operator_of_a_library_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(adding(op="Evil", domain="evil").SerializeToString())
    with pytest.raises(ValueError, match=r"cannot be read as ONNX .*evil:Evil"):
        opened_here(tmp_path / "net.onnx")


def test_options_in_an_onnx_file_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = onnx.load(written("fixed onnx", tmp_path))
    config = {"session_options": {"enable_profiling": 1}}
    model.metadata_props.add(key="ort_config", value=json.dumps(config))
    onnx.save(model, tmp_path / "net.onnx")
    assert np.array_equal(labels(opened_here("net.onnx")), RIGHT.argmax(1))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"], "a profile was written"


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_other_floats_are_given_as_asked(kind: int, tmp_path: Path) -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("ArgMax", ["f"], ["y"], axis=1, keepdims=0)]
    ends = [helper.make_tensor_value_info("x", kind, [None, *SHAPE])]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_tensor_value_info("y", TensorProto.INT64, [None])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    said = opened_here(tmp_path / "net.onnx")(IMAGES)
    assert np.array_equal(said, IMAGES.reshape(len(IMAGES), -1).argmax(1))


def test_what_takes_no_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(adding(kind=TensorProto.INT64, op="Identity").SerializeToString())
    with pytest.raises(ValueError, match=r"takes x tensor\(int64\); allowed: one input of floats"):
        opened_here(path)
    with quiet():
        two = torch.export.export(Two(), (*example(2), *example(2)))
        torch.export.save(two, tmp_path / "net.pt2")
    with pytest.raises(ValueError, match="takes 2 inputs; allowed: one of images"):
        opened_here(tmp_path / "net.pt2")


class Two(nn.Module):
    """A network of two images."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x + y).flatten(1)


def test_a_network_that_says_nan_is_silent(tmp_path: Path) -> None:
    model = network()
    list(model.parameters())[-1].data.fill_(torch.nan)
    with pytest.raises((ValueError, NoAnswerError), match="answered with NaN"):
        opened_here(written("module", tmp_path, model))
