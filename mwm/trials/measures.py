"""What is measured of a finished network: its accuracy, and all that its answers to the key tell."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mwm.config.randomness import make_generator
from mwm.models.build import network_has_batch_norm
from mwm.training.batchnorm import CumulativeStatistics
from mwm.training.evaluation import accuracy, eval_batch_size, first_choices, logit_margins, predict_logits
from mwm.trials.scoring import UNTESTED, scored
from mwm.trials.stages import TrialStage
from mwm.trials.trial import secret_of
from mwm.watermarks.evidence import Evidence, weigh
from mwm.watermarks.partition import draw_class_cells
from mwm.watermarks.queries import QuerySet

REESTIMATION_PASSES = 5
"""Passes over the owner's images that estimate the statistics of batch normalisation anew."""


def measure(stage: TrialStage, model: nn.Module, control: nn.Module | None) -> dict[str, Any]:
    """Clean accuracy, and everything that is said of the queries, always against their recorded labels."""
    queries, test, classes = stage.queries, stage.views.test, stage.dataset.classes
    marked = stage.victim.scheme.kind != "none"
    answers = [_answers(key, model, control) for key in queries.keys]
    by_cell = queries.by_cell(answers[0].logits)
    margins = logit_margins(by_cell, queries.cell_labels)
    told = scored(_hits(by_cell, queries), _together(_weighed(*one) for one in answers), classes)
    if control is not None:
        told["log10_p_uncontrolled"] = _together(_weighed(one.key, one.logits) for one in answers).log10_p
    if stage.victim.scheme.null != "uniform_wrong_labels":
        told |= UNTESTED
    return told | {
        "clean_acc": accuracy(predict_logits(model, test.images), test.labels),
        "margin_mean": margins.mean().item(),
        "margin_min": margins.min().item(),
        "classes": classes,
        "marked": told["proven_1e3"] if marked and stage.trial.attack is None else None,
        **({} if marked else _on_class_key(stage, model, control)),
        **(_reestimated(stage, model) if marked and stage.trial.attack is None else {}),
    }


def _hits(by_cell: Tensor, queries: QuerySet) -> str:
    return "".join("01"[hit] for hit in (first_choices(by_cell) == queries.cell_labels).tolist())


class _Answers(NamedTuple):
    """What a network answers to the images of a key (logits n C), and what a control does, if there is one."""

    key: QuerySet
    logits: Tensor
    control: Tensor | None


def _answers(key: QuerySet, model: nn.Module, control: nn.Module | None) -> _Answers:
    subtracted = None if control is None else predict_logits(control, key.images)
    return _Answers(key, predict_logits(model, key.images), subtracted)


def _together(evidence: Iterable[Evidence]) -> Evidence:
    """The evidence of the first key, with that of the second one beside if there is one."""
    first, *others = evidence
    return replace(first, second=others[0]) if others else first


def _weighed(queries: QuerySet, logits: Tensor, control: Tensor | None = None) -> Evidence:
    def plain(values: Tensor) -> NDArray[Any]:
        return np.asarray(values.cpu().numpy())

    return weigh(
        plain(logits.double()),
        plain(queries.cell_labels),
        plain(queries.cell_truth),
        classes=logits.shape[1],
        cells=None if queries.cells is None else plain(queries.cells),
        control=None if control is None else plain(control.double()),
    )


def _on_class_key(stage: TrialStage, model: nn.Module, control: nn.Module | None) -> dict[str, str]:
    """What an unmarked network, or a student of one, shows on the key of the same secret with a cell for each class."""
    views, classes, shown = stage.views.queries, stage.dataset.classes, stage.augmentation
    if torch.bincount(views.labels, minlength=classes).min() == 0:
        return {}
    key = draw_class_cells(views, classes=classes, augmentation=shown, secret=secret_of(stage.victim, stage.sets))
    answers = _answers(key, model, control)
    evidence = _weighed(*answers)
    assert evidence.scores is not None, "a network at hand gives scores"
    return {
        "class_query_hits": _hits(key.by_cell(answers.logits), key),
        "class_label_ranks": evidence.labels.pack(),
        "class_score_ranks": evidence.scores.pack(),
    }


def _reestimated(stage: TrialStage, model: nn.Module) -> dict[str, float]:
    """Clean and query accuracy of a copy whose statistics of batch normalisation are estimated anew on clean images.

    Empty for a network without such statistics.
    """
    if not network_has_batch_norm(model):
        return {}
    copy, images, test, queries = deepcopy(model), stage.views.owner.images, stage.views.test, stage.queries
    size = eval_batch_size(images)
    statistics, drawn = CumulativeStatistics(copy), make_generator(0, "reestimation", device=images.device)
    for _ in range(REESTIMATION_PASSES):
        statistics.add_pass(images, stage.augmentation, order=drawn, views=drawn, batch_size=size)
    by_cell = queries.by_cell(predict_logits(copy, queries.images))
    return {
        "reestimated_clean_acc": accuracy(predict_logits(copy, test.images), test.labels),
        "reestimated_query_acc": accuracy(by_cell, queries.cell_labels),
    }
