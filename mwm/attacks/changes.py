"""What is told of a change of the victim's network that has no loss of its own."""

from __future__ import annotations

import time

import torch.nn.functional as F
from torch import Tensor

from mwm.attacks.access import WhiteBoxAccess
from mwm.training.evaluation import accuracy, predict_logits
from mwm.training.loop import Epoch
from mwm.training.state import Trained


def epoch_of_change(training: Trained, access: WhiteBoxAccess, *, before: Tensor, began: float) -> Epoch:
    """An epoch without a loss of its own, that `began` at a time of `time.perf_counter`.

    In its place stands the cross-entropy against what the victim predicted of the attacker's images `before` (n).
    """
    answers, validation = predict_logits(training.model, access.validation.images), access.validation
    loss = F.cross_entropy(predict_logits(training.model, access.images.images), before).item()
    score = accuracy(answers, validation.labels)
    return Epoch(training, training.epoch, loss, 0.0, score, time.perf_counter() - began)
