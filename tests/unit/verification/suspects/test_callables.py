"""Python callables as suspects."""

from __future__ import annotations

import subprocess
import sys
from asyncio import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mwm.verification.suspects import NoAnswerError
from mwm.verification.suspects.in_process import InProcessSuspect
from tests.helpers.suspected import CLASSES, IMAGES, SHAPE, labels, network, opened, opened_here, scores


def asked(pixels: NDArray[np.float32]) -> Any:
    """A suspect in Python, which checks what it is given."""
    assert pixels.dtype == np.float32
    assert pixels.shape[1:] == SHAPE
    assert 0 <= pixels.min() <= pixels.max() <= 1
    return network()(torch.from_numpy(pixels))


def named(pixels: NDArray[np.float32]) -> list[int]:
    """The same with labels alone."""
    return [int(label) for label in asked(pixels).argmax(1)]


def wrong(pixels: NDArray[np.float32]) -> list[int]:
    """One answer, whatever it is asked."""
    return [1]


def failing(pixels: NDArray[np.float32]) -> None:
    """Never an answer."""
    raise RuntimeError("out of\norder")


def leaving(pixels: NDArray[np.float32]) -> None:
    """What would end the command with the status of a verdict."""
    sys.exit(0)


def cancelled(pixels: NDArray[np.float32]) -> None:
    """What is no Exception."""
    raise CancelledError


def rows(pixels: NDArray[np.float32]) -> list[torch.Tensor]:
    """Scores with gradients, a tensor for each image."""
    return list(asked(pixels).to(torch.float64))


def fickle(pixels: NDArray[np.float32]) -> Any:
    """Labels to full batches, scores to those that begin again."""
    said = asked(pixels)
    return said if np.array_equal(pixels[0], pixels[3]) else said.argmax(1)


class Group:
    """Somewhere to put a function."""

    asked = staticmethod(asked)


@pytest.mark.parametrize("name", ["asked", "named", "rows", "Group.asked"])
def test_a_callable_answers(name: str) -> None:
    suspect = opened_here(f"{__name__}:{name}", "callable")
    assert np.array_equal(labels(suspect), scores(network()).argmax(1))
    assert (suspect.name, suspect.access) == (f"{__name__}:{name}", "callable")


def test_a_callable_in_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    (tmp_path / "my" / "net.py").write_text("def ask(x):\n    return x.reshape(len(x), -1)[:, :4].argmax(1)\n")
    code = "import sys, numpy; sys.path.pop(0)\nfrom mwm.verification.suspects import open_suspect\n"
    code += "suspect = open_suspect('my.net:ask', shape=(1, 2, 2), classes=4, trust=True)\n"
    code += "print(suspect(numpy.eye(4, dtype='uint8').reshape(4, 1, 2, 2)))"
    root = str(Path(__file__).parents[4])
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": root}, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("[0 1 2 3]", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tests.helpers.suspected:nothing", "cannot be imported (AttributeError: module"),
        ("tests.nowhere:ask", "cannot be imported (ModuleNotFoundError: No module named"),
        ("tests.helpers.suspected:CLASSES", "is a int, not a function"),
        ("tests..x:ask", "cannot be imported"),
    ],
)
def test_a_callable_that_is_none(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=name) as told:
        opened_here(name, "callable")
    assert words in str(told.value)


def test_a_callable_that_answers_wrongly_or_not_at_all() -> None:
    with pytest.raises(NoAnswerError, match=r"wrong: answered with numbers of shape \(1,\); needed: 23 class indices"):
        opened_here(f"{__name__}:wrong", "callable")(IMAGES)
    with pytest.raises(
        NoAnswerError, match=r"failed on images of shape \(23, 1, 6, 6\) \(RuntimeError: out of order\)"
    ):
        opened_here(f"{__name__}:failing", "callable")(IMAGES)
    with pytest.raises(NoAnswerError, match=r"failed on images of shape \(23, 1, 6, 6\) \(CancelledError\)"):
        opened_here(f"{__name__}:cancelled", "callable")(IMAGES)
    with pytest.raises(NoAnswerError, match=r"failed on images of shape \(23, 1, 6, 6\) \(SystemExit: 0\)"):
        opened_here(f"{__name__}:leaving", "callable")(IMAGES)


def test_answers_of_two_kinds_are_none() -> None:
    suspect = InProcessSuspect("it", "onnx", "", CLASSES, fickle, batch=5)
    with pytest.raises(NoAnswerError, match="it: answered with labels to some images and with scores to others"):
        suspect(IMAGES)


def test_a_module_that_exits_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exiting_suspect.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be imported \(SystemExit: 0\)"):
        opened("exiting_suspect:ask", trust=True)
