"""Which suspect it is: moved, renamed, replaced, asked with another password."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from mwm.config.spec import encode
from mwm.models.build import ArchitectureSpec
from mwm.models.networks import Cnn
from mwm.storage.store import WEIGHTS, Store
from mwm.verification.suspects import identity
from mwm.verification.suspects.endpoints.credentials import TOKEN
from tests.helpers.suspected import CLASSES, SHAPE, network, opened

PLAN = ArchitectureSpec(model=Cnn(width=4, depth=2), shape=SHAPE, classes=CLASSES)


def beside(folder: Path, bias: float = 0.0) -> Path:
    """A network in ONNX whose weights lie in a file of their own."""
    folder.mkdir(exist_ok=True)
    weights = np.ones((36, CLASSES), np.float32) + np.float32(bias)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])]
    graph = helper.make_graph(nodes, "g", ends, outs, [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "net.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder / "net.onnx"


def test_a_file_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "net.pt")
    first = opened(tmp_path / "net.pt", trust=True).identity
    assert first == hashlib.sha256((tmp_path / "net.pt").read_bytes()).hexdigest()
    moved = (tmp_path / "net.pt").rename(tmp_path / "other.pth")
    assert opened(moved, trust=True).identity == first
    torch.save(network(1), moved)
    assert opened(moved, trust=True).identity != first


def test_a_store_entry_is_known_by_its_weights(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save_weights("ab", network().state_dict(), encode(PLAN))
    entry, copy = store.folder("ab"), tmp_path / "copy"
    first = opened(entry).identity
    assert first == opened(entry / WEIGHTS).identity == hashlib.sha256((entry / WEIGHTS).read_bytes()).hexdigest()
    shutil.copytree(entry, copy)
    (copy / "notes.txt").write_text("not read")
    assert opened(copy).identity == first
    store.save_weights("ab", network(1).state_dict(), encode(PLAN))
    assert opened(entry).identity != first


def test_the_weights_beside_an_onnx_file_belong_to_it(tmp_path: Path) -> None:
    first, copy, other = (beside(tmp_path / name, bias) for name, bias in (("a", 0.0), ("b", 0.0), ("c", 1.0)))
    assert first.read_bytes() == other.read_bytes(), "they differ in the other file alone"
    (copy.parent / "notes.txt").write_text("not read")
    known = opened(first).identity
    assert opened(copy).identity == known
    assert opened(other).identity != known


def test_every_place_of_weights_is_found() -> None:
    """In a graph, a sparse tensor, a constant, a branch of a branch and a function; the numbers are those of ONNX."""

    def outside(place: str) -> TensorProto:
        made = TensorProto(name=place, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
        for key, value in (("offset", "0"), ("location", place), ("length", "8")):
            made.external_data.add(key=key, value=value)
        return made

    inner = helper.make_graph([], "i", [], [], [outside("branch of branch")])
    nested = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    outer = helper.make_graph([nested], "o", [], [], [outside("ä/branch")])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=outside("constant")),
        helper.make_node("If", ["c"], ["y"], then_branch=outer, else_branch=inner),
        helper.make_node("Many", [], ["m"], t=[outside("one"), outside("of many")], g=[inner, outer], f=0.5, i=-3),
    ]
    sparse = helper.make_sparse_tensor(outside("values"), outside("indices"), [9])
    nodes.append(helper.make_node("Constant", [], ["s"], sparse_value=sparse))
    graph = helper.make_graph(nodes, "g", [], [], [outside("graph")])
    graph.sparse_initializer.append(helper.make_sparse_tensor(outside("sparse"), outside("sparse too"), [9]))
    body = [helper.make_node("Constant", [], ["z"], value=outside("function"))]
    made = helper.make_function("d", "F", [], ["z"], body, [helper.make_opsetid("", 18)])
    made.attribute_proto.append(helper.make_attribute("default", outside("default")))
    found = set(
        identity.external_data_paths(helper.make_model(graph, functions=[made], producer_name="x").SerializeToString())
    )
    many = {"one", "of many", "constant", "ä/branch", "branch of branch", "graph", "function", "default"}
    assert found == many | {"values", "indices", "sparse", "sparse too"}


def test_an_endpoint_is_known_by_all_that_is_sent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    addresses = [
        "http://127.0.0.1:1/v1",
        "http://127.0.0.1:1/v1?model=a",
        "http://127.0.0.1:1/v1?model=b",
        "http://me:one@127.0.0.1:1/v1",
        "http://me:two@127.0.0.1:1/v1",
    ]
    known = [opened(address).identity for address in addresses]
    assert known == [opened(address).identity for address in addresses]
    assert len(set(known)) == len(addresses)
    monkeypatch.setenv(TOKEN, "127.0.0.1=t0ken")
    assert opened(addresses[0]).identity not in known
    assert opened(addresses[3]).identity == known[3], "the token is not sent there"
    assert all(len(one) == 64 and set(one) <= set("0123456789abcdef") for one in known)


def test_a_callable_is_known_by_its_name() -> None:
    ask, same, other = (opened(f"math:{name}", trust=True) for name in ("exp", "exp", "log"))
    assert ask.identity == same.identity != other.identity


def test_the_parts_of_an_address_are_kept_apart() -> None:
    assert identity.address_identity("a", "bc") != identity.address_identity("ab", "c")
