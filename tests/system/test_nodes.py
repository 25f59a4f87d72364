"""Several nodes: trials land on all of them, data goes once to each, and the death of one harms nothing."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from mwm.attacks import Extraction
from mwm.storage.store import Store
from mwm.trials.stages import AttackStage, VictimStage
from mwm.trials.trial import Trial
from tests.helpers.driver import Driver, driving, line, wait_for
from tests.helpers.records import CPU, FOREIGN, VICTIM, Loaded, done, theft
from tests.helpers.unharmed import Undisturbed, assert_unharmed, finished, hittable, prepared, rows

MIB = 2**20


def bytes_of(sets: Loaded) -> dict[str, bytes]:
    return {f"{key}.{name}": getattr(held, name).tobytes() for key, held in sets.items() for name in held.__slots__[:4]}


def test_no_trial_can_write_into_the_data_of_another(sets: Loaded, tmp_path: Path) -> None:
    before, store = bytes_of(sets), Store(tmp_path)
    victim = Trial(victim=VICTIM)
    done(victim, sets, store)
    foreign = theft(Extraction(source=FOREIGN))
    stages = [VictimStage(victim, sets, store, CPU), AttackStage(foreign, sets, store, CPU)]
    for stage in stages:
        parts = [getattr(stage.views, name) for name in stage.views.__slots__]
        for part in [*parts, stage._images()[0]] if isinstance(stage, AttackStage) else parts:
            images = part.images
            (images if isinstance(images, Tensor) else images[torch.arange(len(images))]).fill_(77)
            part.labels.fill_(77)
    assert bytes_of(sets) == before


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Three nodes of one CPU and one GPU; the GPUs are only counted."""
    from ray.cluster_utils import Cluster

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1, "gcs_server_port": port})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def trainers(node: Any) -> list[int]:
    """The processes on a node that hold a trial or wait for one."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [child.pid for child in raylet.children(recursive=True) if "ImplicitFunc" in line(child)]


def created(node: Any) -> int:
    """Bytes that were ever put into the object store of a node, from its own trials or from elsewhere."""
    from ray._private.internal_api import node_stats

    where = node.node_ip_address, node.node_manager_port
    reply = node_stats(*where, include_memory_info=False)  # type: ignore[no-untyped-call]
    return int(reply.store_stats.cumulative_created_bytes)


def shared(tree: dict[str, Any]) -> None:
    """A GPU for a victim, half of one for an attack."""
    tree["resources"] = {"victim": {"gpus": 1}, "attack": {"gpus": 0.5}}


def busy(driver: Driver, cluster: Any) -> Counter[int]:
    """Follow a sweep to its end: how often each node was seen with a trial."""
    seen: Counter[int] = Counter()
    while driver.alive:
        seen.update(number for number, node in enumerate(cluster.list_all_nodes()) if trainers(node))
        time.sleep(0.1)
    return seen


@pytest.mark.slow
@pytest.mark.long
def test_data_goes_once_to_each_node(nodes: Any, whole: Undisturbed, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    arrays: Mapping[str, Any] = {
        "x_train": chance.integers(0, 256, (12_000, 28, 28, 3), dtype=np.uint8),
        "y_train": np.arange(12_000) % 5,
        "x_test": chance.integers(0, 256, (50, 28, 28, 3), dtype=np.uint8),
        "y_test": np.arange(50) % 5,
    }
    size = sum(array.nbytes for array in arrays.values())
    assert size > 24 * MIB
    np.savez(tmp_path / "big.npz", **arrays)

    def big(tree: dict[str, Any]) -> None:
        hittable(tree)
        shared(tree)
        victim = tree["victim"]
        victim["data"] = {"kind": "npz", "path": str(tmp_path / "big.npz")}
        victim["split"]["disjoint"] = 0.97
        victim["model"] = {"kind": "cnn", "width": 2, "depth": 1}
        victim["secret"] = "owner.secret"
        victim["recipe"]["epochs"], victim["seed"] = 1, {"grid": [0, 1]}
        tree["attacks"][0]["seed"] = {"grid": [0, 1]}

    before = [created(node) for node in nodes.list_all_nodes()]
    folder = prepared(tmp_path, whole, big)
    (folder / "owner.secret").write_text("0f" * 32)  # in a place that no node knows
    with driving(folder, "--address", nodes.address) as driver:
        seen = busy(driver, nodes)
        assert driver.wait() == 0, driver.said()
    assert Counter(row["status"] for row in rows(tmp_path)) == {"done": 20}
    assert set(seen) == {0, 1, 2}, f"a node without a trial: {seen}"
    sent = [created(node) - early for node, early in zip(nodes.list_all_nodes(), before, strict=True)]
    assert all(size <= bytes_ < 2 * size for bytes_ in sent), f"{size} bytes of data, sent {sent}"


@pytest.mark.slow
def test_death_of_a_node_does_no_harm(nodes: Any, whole: Undisturbed, tmp_path: Path) -> None:
    def change(tree: dict[str, Any]) -> None:
        hittable(tree)
        shared(tree)

    folder = prepared(tmp_path, whole, change)
    with driving(folder, "--address", nodes.address) as driver:
        wait_for(lambda: any(trainers(node) for node in nodes.worker_nodes), driver)  # two victims, one to a node
        before = finished(folder)
        lost = max(nodes.worker_nodes, key=lambda node: len(trainers(node)))
        nodes.remove_node(lost, allow_graceful=False)
        assert driver.wait() == 0, driver.said()
    assert "Traceback" not in driver.said()
    assert_unharmed(folder, whole, before)
