"""`verify` from Python: suspects in memory, keys in memory, and nothing written unless it is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mwm.storage.store import WEIGHTS
from mwm.verification.options import VerifyOptions
from mwm.verification.procedure import UnansweredError
from mwm.verification.report.summary import summary_lines
from mwm.verification.suspects.checkpoint import read
from mwm.verification.suspects.live import weights_identity
from mwm.verification.verify import verify
from mwm.watermarks.key import load_key
from tests.helpers.asking import tree
from tests.helpers.verifying import CLASSES, FILES, QUERIES, SHAPE, VerificationCase


@pytest.fixture(scope="module")
def copy(case: VerificationCase) -> nn.Module:
    """The network that holds the key."""
    return read(case.key / WEIGHTS, shape=SHAPE, classes=CLASSES)


def at_random(images: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.random.default_rng(int(images.sum())).integers(0, CLASSES, len(images))


def test_a_suspect_may_be_a_path_a_network_or_a_function(case: VerificationCase, copy: nn.Module) -> None:
    def scores(images: NDArray[np.float32]) -> Any:
        assert images.dtype == np.float32
        assert 0 <= images.min() <= images.max() <= 1
        return copy(torch.from_numpy(images)).detach().numpy()

    found = [verify(load_key(case.key), one).suspects[0] for one in (case.key, str(case.key), copy, scores)]
    assert [one.access for one in found] == ["checkpoint", "checkpoint", "module", "callable"]
    assert {one.decision for one in found} == {"proven"}
    assert len({one.matches for one in found}) == len({one.p_scores for one in found}) == 1
    assert [bool(one.sha256) for one in found] == [True, True, False, False]
    assert found[2].name.endswith(" in memory")


def test_a_network_is_asked_in_evaluation_mode_and_left_as_it_was(case: VerificationCase, copy: nn.Module) -> None:
    copy.train()
    frozen = next(copy.children())
    frozen.eval()
    before = weights_identity(copy)
    calm = verify(case.key, case.key).suspects[0]
    found = verify(case.key, copy).suspects[0]
    assert (found.matches, found.tests) == (calm.matches, calm.tests)
    assert weights_identity(copy) == before, "running statistics moved"
    assert copy.training
    assert not frozen.training


def test_several_share_the_level_and_null_models_are_set_beside(case: VerificationCase, copy: nn.Module) -> None:
    verdict = verify(case.key, at_random, copy, level=1e-4, null_models=[case.independent, at_random])
    assert verdict.proven
    assert [one.decision for one in verdict.suspects] == ["inconclusive", "proven"]
    empirical = verdict.suspects[1].tests["empirical"]
    assert empirical is not None
    assert (empirical.p_value, empirical.as_many, empirical.null_models) == (1 / 3, 0, 2)
    assert verdict.asked_now == (QUERIES, QUERIES)
    assert (verdict.plan.level, verdict.plan.test) == (1e-4, "rank_sum")


def test_nothing_is_written_unless_a_folder_is_named(
    case: VerificationCase, copy: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(case.home)
    verdict = verify(case.key, copy, sequential=True)
    assert verdict.output is None
    assert verdict.suspects[0].asked < QUERIES
    assert (tree(tmp_path), tree(case.home)) == ({}, before)
    written = verify(case.key, copy, output=tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(FILES)
    assert json.loads((tmp_path / "mine" / "verdict.json").read_text()) == written.to_dict()
    assert verify(case.key, copy, output=tmp_path / "mine").asked_now == (0,), "the same weights were asked again"
    assert capfd.readouterr() == ("", "")


def test_what_a_function_says_is_never_taken_for_what_it_said_before(case: VerificationCase, tmp_path: Path) -> None:
    verify(case.key, at_random, output=tmp_path / "mine")
    with pytest.raises(ValueError, match=r"^output: .*mine was begun otherwise: suspects"):
        verify(case.key, at_random, output=tmp_path / "mine")


def test_options_come_as_a_record_or_by_name(case: VerificationCase) -> None:
    record = VerifyOptions(queries=12, order_seed=3)
    one, two = verify(case.key, case.key, options=record), verify(case.key, case.key, queries=12, order_seed=3)
    assert one.suspects[0].cells == two.suspects[0].cells
    assert verify(case.key, case.key, options=record, queries=10).suspects[0].asked == 10


@pytest.mark.parametrize(
    ("suspects", "fields", "said"),
    [
        ((), {}, r"^suspect: is missing: name one or more"),
        ((3,), {}, r"^suspect: int is no suspect: give an address, a network or a function"),
        ((at_random, at_random), {}, r"^suspect: .* is given twice"),
        (("nowhere.onnx",), {}, r"^suspect: nowhere.onnx: there is no such file"),
        ((at_random,), {"level": 2}, r"^level: 2 is not allowed: must lie strictly between 0 and 1"),
        ((at_random,), {"queries": 31}, r"^queries: 31 is not allowed: the key has 30"),
        ((at_random,), {"views": 0}, r"^views: 0 is not allowed: must be 1 to 100"),
        ((at_random,), {"views": 101}, r"^views: 101 is not allowed: must be 1 to 100"),
        ((at_random,), {"control": at_random}, r"^control: .*at_random.* is a suspect; allowed: another network"),
        ((at_random,), {"control": "nowhere.onnx"}, r"^control: nowhere.onnx: there is no such file"),
        ((at_random,), {"control": "os:getcwd"}, r"^control: os:getcwd: .* add --trust, or trust=True in Python"),
        ((at_random,), {"commitment": "00"}, r"^commitment: 00 is not that of this key"),
        ((at_random,), {"null_models": ["nowhere.onnx"]}, r"^null_models: nowhere.onnx: there is no such file"),
    ],
)
def test_a_mistake_is_one_line(suspects: Any, fields: dict[str, Any], said: str, case: VerificationCase) -> None:
    with pytest.raises(ValueError, match=said) as told:
        verify(case.key, *suspects, **fields)
    assert len(str(told.value).splitlines()) == 1


def test_exchangeable_labels_are_decided_by_their_permutation(case: VerificationCase, tmp_path: Path) -> None:
    """No p-value by ranks is told of them: they may favour a class, and then it would be too small."""
    key = replace(load_key(case.key), null="exchangeable")
    verdict = verify(key, case.key, case.independent, null_models=[case.independent], output=tmp_path / "mine")
    assert [one.decision for one in verdict.suspects] == ["proven", "not proven"]
    assert verdict.plan.test == "permutation"
    first = verdict.suspects[0]
    assert {name for name, test in first.tests.items() if test} == {"permutation", "empirical"}
    assert (first.p_value, first.log10_p, first.p_labels, first.p_scores) == (1e-4, None, None, None)
    text = (tmp_path / "mine" / "report.html").read_text()
    assert "permutation of labels" in text
    assert "binomial" not in text
    assert "exchangeable within a true class" in text
    said = "\n".join(summary_lines(verdict))
    assert "0.0001 (permutation of labels)" in said
    assert "on average at most" not in said
    with pytest.raises(ValueError, match=r"^level: 1e-05 is out of reach: 30 matches of 30 would not show it"):
        verify(key, case.key, level=1e-5)
    with pytest.raises(ValueError, match=r"^sequential: is not allowed"):
        verify(key, case.key, sequential=True)
    with pytest.raises(ValueError, match=r"^views: 2 is not allowed for this key: the permutation"):
        verify(key, case.key, views=2)
    with pytest.raises(ValueError, match=r"^control: is not allowed for this key: the permutation"):
        verify(key, case.key, control=case.independent)


def test_a_key_without_a_valid_test_is_refused(case: VerificationCase) -> None:
    key = load_key(case.key)
    with pytest.raises(ValueError, match=r"^key: its labels were not drawn uniformly .*, so there is no exact p-value"):
        verify(replace(key, null="null_models"), case.key, null_models=[case.independent])


def test_silence_is_an_error_of_its_own(case: VerificationCase) -> None:
    def away(images: NDArray[np.float32]) -> None:
        raise OSError("gone")

    with pytest.raises(UnansweredError, match=r"^suspect: .*away in memory: failed on images") as told:
        verify(case.key, away)
    assert told.value.permanent
    assert "are kept" not in str(told.value), "nothing was kept"


def test_a_verdict_tells_the_names_of_the_classes(case: VerificationCase) -> None:
    names = tuple(f"thing {number}" for number in range(CLASSES))
    verdict = verify(replace(load_key(case.key), class_names=names), at_random)
    assert verdict.key.class_names == names
    told = verdict.to_dict()["key"]
    assert json.loads(json.dumps(told)) == told
