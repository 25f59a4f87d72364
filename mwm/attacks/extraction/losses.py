"""What a student of answers lowers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from mwm.oracle.oracle import log_probabilities


def distillation_kl(
    answers: Tensor, logits: Tensor, temperature: float, *, smoothing: float = 0.0, weighted: bool = False
) -> Tensor:
    """KL(teacher || student) at a temperature, summed over classes, averaged over the batch (Hinton et al., 2015).

    `answers` are the teacher's log-probabilities (n C): softmax(log p / T) equals softmax(logits / T). `smoothing` is
    the share of the uniform distribution in the teacher's (Szegedy et al., 2016).

    `weighted` is for answers that need not sum to 1: each row counts as much as its probabilities p sum to. At
    temperature 1 its gradient is that of the cross-entropy -sum p log(student) with p as it came. Zeros weigh nothing.
    """
    teacher, student = log_probabilities(answers, temperature), log_probabilities(logits, temperature)
    if smoothing:
        teacher = ((1 - smoothing) * teacher.exp() + smoothing / teacher.shape[1]).log()
    if weighted:
        each = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
        return (answers.exp().sum(1) * each).mean()
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
