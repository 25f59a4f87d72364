"""Schemes that a user cannot mean."""

from __future__ import annotations

from typing import Any

import pytest

from mwm.config.spec import decode
from mwm.watermarks.schemes import Scheme


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"kind": "margin", "step_size": 4.0}, r"scheme\.step_size: 4.0 is not allowed"),
        ({"kind": "margin", "steps": 0}, r"scheme\.steps: 0 is not allowed"),
        ({"kind": "trigger_set", "queries_per_step": 0}, r"scheme\.queries_per_step"),
        ({"kind": "margin", "batchnorm": "off"}, r"scheme\.batchnorm: 'off' is not allowed"),
        ({"kind": "none", "weight": 0.1}, r"scheme\.weight: unknown key"),
        ("marg", r"scheme: kind 'marg' is unknown \(did you mean 'margin'\?\); allowed: 'none', 'trigger_set'"),
        ({"kind": "margin", "mass": 0.0}, r"scheme\.mass: 0.0 is not allowed"),
        ({"kind": "trigger_set", "mass": 1.1}, r"scheme\.mass: 1.1 is not allowed"),
        ({"kind": "confusion", "mass": 0.5}, r"scheme\.mass: 0.5 is not allowed"),
        ({"kind": "confusion", "num_queries": 5}, r"scheme\.num_queries: unknown key"),
    ],
)
def test_wrong_values_are_refused(tree: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode(Scheme, tree, "scheme")
