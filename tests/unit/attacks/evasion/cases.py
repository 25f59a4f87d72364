"""A case or more of every evasion."""

from __future__ import annotations

from mwm.attacks import AnswerRestriction, Attack, AttackSequence, Extraction, InputTransforms, MajorityVote
from mwm.attacks import QueryDetection as Detect
from mwm.models.answers import Rounding
from mwm.models.inputs import BitDepth, GaussianBlur, InputNoise, Jpeg, MedianFilter, Shift
from tests.helpers.stealing import FILLED

CASES: list[Attack] = [
    InputTransforms(transforms=(Jpeg(quality=45), GaussianBlur(), InputNoise(deviation=0.1))),
    InputTransforms(transforms=(MedianFilter(), BitDepth(levels=10), Shift(pixels=2))),
    MajorityVote(copies=3),
    MajorityVote(copies=4, noise=0.1, shift=0, by="probabilities"),
    Detect(neighbors=3, false_rejects=0.2),
    Detect(neighbors=3, space="pixels", action="relabel", false_rejects=0.5),
    Detect(method="energy", neighbors=5, action="relabel", references=10, false_rejects=0.2),
    AnswerRestriction(),
    AnswerRestriction(forms=(Rounding(digits=1),)),
    AttackSequence(steps=(Detect(neighbors=3, false_rejects=0.3), InputTransforms(transforms=(Shift(),)))),
    AttackSequence(steps=(MajorityVote(copies=2), Detect(neighbors=4, false_rejects=0.1), Extraction(**FILLED))),
]

DRAW_NOTHING: set[str] = {"answer_restriction"}
"""The kinds that are the same with every seed."""
