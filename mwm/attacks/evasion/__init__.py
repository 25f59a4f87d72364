"""Attacks by somebody who deploys the weights so that a key finds less: this union is their catalogue."""

from __future__ import annotations

from mwm.attacks.evasion.answer_restriction import AnswerRestriction as AnswerRestriction
from mwm.attacks.evasion.input_transforms import InputTransforms as InputTransforms
from mwm.attacks.evasion.majority_vote import MajorityVote as MajorityVote
from mwm.attacks.evasion.query_detection import QueryDetection as QueryDetection

EvasionAttack = InputTransforms | MajorityVote | QueryDetection | AnswerRestriction
