"""Archives of images: what is wrong with one is said in one line, where it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.checked import archive, refusal, swept

ARCHIVES = [
    ({"y_train": np.arange(60) % 2, "y_test": np.arange(20) % 2}, "2 classes are not allowed"),
    ({"y_train": np.zeros(60, int), "y_test": np.zeros(20, int)}, "1 of classes 0 to 0"),
    ({"y_test": np.full(20, 9)}, "label 9"),
    ({"y_train": np.arange(60) - 1}, "label -1"),
    ({"y_train": np.arange(59)}, "shape"),
    ({"y_train": np.linspace(0, 3, 60)}, "float64"),
    ({"x_train": np.zeros((60, 16, 16, 3))}, "float64"),
    ({"x_train": np.zeros((60, 3, 16, 16), np.uint8)}, "shape"),
    ({"x_test": np.zeros((20, 16, 16), np.uint8)}, "shape"),
    ({"x_train": np.zeros((0, 16, 16, 3), np.uint8), "y_train": np.zeros(0, int)}, "shape"),
]


@pytest.mark.parametrize(("changes", "said"), ARCHIVES, ids=[f"{said}-{n}" for n, (_, said) in enumerate(ARCHIVES)])
def test_a_faulty_archive_is_refused_where_it_is_named(changes: Any, said: str, tmp_path: Path) -> None:
    npz = {"kind": "npz", "path": str(archive(tmp_path / "x.npz", **changes))}
    line = refusal(swept(data=npz))
    assert line.startswith("victim.data: ")
    assert said in line
    if "2 classes" not in said:  # two are enough for an attacker, who has no watermark to prove
        assert refusal(swept([{"kind": "extraction", "source": npz}])).startswith("attacks.0.source: ")


@pytest.mark.parametrize("content", [None, b"", b"no archive", "cut"])
def test_an_unreadable_archive_is_refused_where_it_is_named(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    if content == "cut":
        path.write_bytes(archive(path).read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    assert refusal(swept(data={"kind": "npz", "path": str(path)})).startswith(f"victim.data: {path}")
