"""What a deployed network answers: forms that are put over its probabilities, one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mwm.config.spec import DISCRIMINATED, Count, Field, PositiveFloat, Shown, Strict, StrictBool, spec

LOG_ZERO = -1e30
"""The logarithm of a chance of nothing: finite, because 0 times infinity is no number."""

EDGE = 1e-9
"""How close to 0 and 1 a probability is taken in a logit."""


@spec
class FormRecord(ABC):
    """A form of answers. A new one is a subclass whose `shape` changes log-probabilities.

    `draws` says whether it draws random numbers, `keeps_order` whether a class that was likelier is never less likely
    after it, `levels` whether the likeliest class may be as likely as others after it.
    """

    draws: ClassVar[bool] = False
    keeps_order: ClassVar[bool] = True
    levels: ClassVar[bool] = False

    @property
    def normalizes(self) -> bool:
        """Whether its probabilities sum to 1, whatever they summed to before."""
        return True

    def check(self, path: str, classes: int, *, normalized: bool) -> None:
        """Raise ValueError, in one line, for a form at `path` that would change no answer over so many classes.

        `normalized`: the probabilities that it is given sum to 1.
        """
        del path, classes, normalized

    @abstractmethod
    def shape(self, answers: Tensor, generator: torch.Generator | None) -> Tensor:
        """Log-probabilities (n C) in this form; a probability of 0 is LOG_ZERO before and after."""


@spec
class TopK(FormRecord):
    """Only the `k` largest probabilities, and 0 for the others (Orekondy et al., 2019).

    As published they stay what they are and sum to less than 1. With `renormalize` they are divided by their sum. Of
    equal ones those of lower classes are kept.
    """

    kind: Literal["top_k"] = "top_k"
    k: Annotated[Count, Shown("k={}", always=True)] = 1
    renormalize: Annotated[StrictBool, Shown()] = False

    @property
    def normalizes(self) -> bool:
        """If the field says so."""
        return self.renormalize

    def check(self, path: str, classes: int, *, normalized: bool) -> None:
        """As many as there are classes would be all of them."""
        del normalized
        if self.k >= classes:
            raise ValueError(f"{path}.k: {self.k} is not allowed: must be below {classes}, the number of classes")

    def shape(self, answers: Tensor, generator: torch.Generator | None) -> Tensor:
        """Keep the first k of a stable order."""
        del generator
        kept = answers.argsort(dim=1, descending=True, stable=True)[:, : self.k]
        cut = torch.full_like(answers, LOG_ZERO).scatter(1, kept, answers.gather(1, kept))
        return F.log_softmax(cut, 1) if self.renormalize else cut


@spec
class Rounding(FormRecord):
    """Probabilities of so many decimal `digits`; 3 is the default of Nicolae et al. (2018).

    A half goes to the even digit. The rounded probabilities are not renormalised: they may sum to less or to more than
    1. If all are rounded to 0, the answer is all zeros, and says nothing.
    """

    levels: ClassVar[bool] = True
    kind: Literal["rounding"] = "rounding"
    digits: Annotated[int, Strict(), Field(ge=0, le=6), Shown("digits={}", always=True)] = 3

    @property
    def normalizes(self) -> bool:
        """It does not."""
        return False

    def shape(self, answers: Tensor, generator: torch.Generator | None) -> Tensor:
        """Round in float64."""
        del generator
        scale = 10.0**self.digits
        return _logarithm((answers.double().exp() * scale).round() / scale).to(answers.dtype)


@spec
class Temperature(FormRecord):
    """Softmax of the logits divided by `temperature`: above 1 flatter, below 1 sharper than the network's answer."""

    kind: Literal["temperature"] = "temperature"
    temperature: Annotated[PositiveFloat, Shown("T={}", always=True)]

    def check(self, path: str, classes: int, *, normalized: bool) -> None:
        """1 does nothing but divide by the sum."""
        del classes
        if self.temperature == 1 and normalized:
            raise ValueError(f"{path}.temperature: {self.temperature:g} is not allowed: it changes no answer")

    def shape(self, answers: Tensor, generator: torch.Generator | None) -> Tensor:
        """Powers of the probabilities, normalised: the same as from the logits."""
        del generator
        return F.log_softmax((answers / self.temperature).clamp(min=LOG_ZERO), 1)


@spec
class GaussianNoise(FormRecord):
    """Probabilities with Gaussian noise, cut at 0 and normalised; 0.2 is the default of Nicolae et al. (2018).

    Noise is drawn anew for every answer, also to an image that was asked before. What is all cut becomes uniform.
    """

    draws: ClassVar[bool] = True
    keeps_order: ClassVar[bool] = False
    kind: Literal["gaussian_noise"] = "gaussian_noise"
    deviation: Annotated[PositiveFloat, Shown(always=True)] = 0.2

    def shape(self, answers: Tensor, generator: torch.Generator | None) -> Tensor:
        """One draw for each class of each answer."""
        assert generator is not None, "noise needs a generator"
        noise = torch.randn(answers.shape, generator=generator, device=answers.device, dtype=answers.dtype)
        return F.log_softmax(_logarithm((answers.exp() + self.deviation * noise).clamp(min=0)), 1)


@spec
class ReverseSigmoid(FormRecord):
    """y - beta (sigmoid(gamma logit(y)) - 1/2), cut at 0 and 1 and normalised (Lee et al., 2018).

    The same answer for a range of probabilities, so that it misleads who learns from it. beta 1 and gamma 0.1 are the
    defaults of Nicolae et al. (2018), whose logit takes y within 1e-9 of 0 and 1; Tang et al. (2024) use 0.008 and 0.2.
    """

    keeps_order: ClassVar[bool] = False
    kind: Literal["reverse_sigmoid"] = "reverse_sigmoid"
    beta: Annotated[PositiveFloat, Shown("beta={}", always=True)] = 1.0
    gamma: Annotated[PositiveFloat, Shown("gamma={}", always=True)] = 0.1

    def shape(self, answers: Tensor, generator: torch.Generator | None) -> Tensor:
        """In float64, where 1 - 1e-9 is not 1."""
        del generator
        chances = answers.double().exp()
        disturbance = self.beta * (torch.sigmoid(self.gamma * torch.logit(chances, eps=EDGE)) - 0.5)
        return F.log_softmax(_logarithm((chances - disturbance).clamp(0, 1)), 1).to(answers.dtype)


AnswerForm = Annotated[TopK | Rounding | Temperature | GaussianNoise | ReverseSigmoid, *DISCRIMINATED]
"""A form of answers; a union of all kinds."""


def shaped(answers: Tensor, forms: Iterable[FormRecord], generator: torch.Generator | None = None) -> Tensor:
    """Log-probabilities (n C) with all forms put over them in turn; the very same tensor where there is none.

    They may sum to less or to more than 1 after forms that do not normalise. A `generator` on the answers' device is
    needed by forms that draw.
    """
    for form in forms:
        answers = form.shape(answers.clamp(min=LOG_ZERO), generator)
    return answers


def check_forms(forms: Sequence[FormRecord], paths: Iterable[str], classes: int) -> None:
    """Raise ValueError, in one line, for one of forms, each at its path, that would change no answer."""
    for place, (form, path) in enumerate(zip(forms, paths, strict=True)):
        form.check(path, classes, normalized=is_normalized(forms[:place]))


def is_normalized(forms: Sequence[FormRecord]) -> bool:
    """Whether probabilities sum to 1 after all forms."""
    return not forms or forms[-1].normalizes


def idle_for_labels(forms: Sequence[FormRecord], *, levels_matter: bool = False) -> int | None:
    """The place of the first form that cannot matter to whoever is told the likeliest class alone, if there is one.

    It and all after it leave the order of classes as it is; if `levels_matter`, they also make none as likely as the
    likeliest.
    """
    matters = [not form.keeps_order or (levels_matter and form.levels) for form in forms]
    used = max((place + 1 for place, one in enumerate(matters) if one), default=0)
    return used if used < len(forms) else None


def form_words(forms: Iterable[FormRecord]) -> str:
    """Forms as people say them: "top_k 3 renormalize, rounding 2"; empty where there is none."""
    return ", ".join(" ".join(_words(form)) for form in forms)


def _words(form: Any) -> list[str]:
    told = [form.kind]
    for field in fields(form):
        value = getattr(form, field.name)
        if isinstance(value, bool):
            told += [field.name] * value
        elif field.name != "kind":
            told.append(f"{value:.15g}")
    return told


def _logarithm(chances: Tensor) -> Tensor:
    return chances.log().clamp(min=LOG_ZERO)
