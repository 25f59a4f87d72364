"""The victim as a black box: images in, answers out, every call counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mwm.config.randomness import make_generator
from mwm.data.host import Images, in_batches
from mwm.data.images import to_float
from mwm.models.answers import FormRecord, shaped
from mwm.training.evaluation import eval_batch_size

LabelKind = Literal["soft", "hard"]


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logarithms of the chances of the classes (n C), from logits (n C): in float32 at least."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.log_softmax(precise / temperature, 1)


class Oracle:
    """A deployed model: whoever holds it can ask, and can neither look inside nor change it.

    It counts images, not batches: an image asked for twice costs two calls. `calls` are those that were spent before.
    Beyond the `allowance` it answers nobody; None allows any number. The `forms` are put over its probabilities, and a
    hard answer is the class that is likeliest after them. What they draw follows from `seed` and from the number of
    images that were asked for before.
    """

    def __init__(
        self,
        model: nn.Module,
        answers: LabelKind,
        budget: int | None = None,
        *,
        forms: tuple[FormRecord, ...] = (),
        calls: int = 0,
        seed: int = 0,
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._answers, self._allowance = answers, budget
        self._forms, self._seed, self._asked = forms, seed, calls
        # On the device: a step that is replayed from a recording asks and counts there, and runs no Python.
        self._spent = torch.tensor(calls, dtype=torch.int64, device=next(model.parameters()).device)

    @property
    def calls(self) -> int:
        """How many images were asked for; waits for the device."""
        return int(self._spent.item())

    def __call__(self, images: Tensor) -> Tensor:
        """Answers to images (n c h w in [0, 1]): log-probabilities (n C) if soft, class indices (n) if hard.

        Soft ones may sum to less or to more than 1 after forms that do not normalise.
        """
        before = self._count(len(images))
        return self._respond(self._logits(images), before)

    def ask_all(self, images: Images) -> Tensor:
        """Answers to any number of images (uint8 n c h w), each asked once, a portion at a time."""
        return self._respond_in_portions(images, self._count(len(images)))

    def memoized(self, images: Images) -> Callable[[Tensor], Tensor]:
        """The oracle of whoever asks for the same images again and again: it works out each answer once, at once.

        `images` are uint8 (n c h w). The result takes numbers of images (k) and gives their answers, at as many calls.
        Noise is no part of what is known: it is drawn at each asking.
        """
        if any(form.draws for form in self._forms):
            logits = torch.cat([self._logits(batch) for batch in _portions(images)])
            return lambda rows: self._respond(logits[rows], self._count(len(rows)))
        answers = self._respond_in_portions(images, self._asked)

        def ask(rows: Tensor) -> Tensor:
            self._count(len(rows))
            return answers[rows]

        return ask

    def _count(self, images: int) -> int:
        """Count images; how many were asked for before. A step that is replayed does not change that number."""
        before = self._asked
        self._asked += images
        self._spent += images
        if self._allowance is not None:  # only then is the count waited for
            assert self.calls <= self._allowance, f"{self.calls} calls of {self._allowance}"
        return before

    def _respond_in_portions(self, images: Images, before: int) -> Tensor:
        answers = []
        for batch in _portions(images):
            answers.append(self._respond(self._logits(batch), before))
            before += len(batch)
        return torch.cat(answers)

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # the victim answers alike, whoever asks
            logits: Tensor = self._model(images)
        return logits

    def _respond(self, logits: Tensor, before: int) -> Tensor:
        """The answers that logits (n C) become, after so many images."""
        if not self._forms:
            return log_probabilities(logits) if self._answers == "soft" else logits.argmax(1)
        draws = any(form.draws for form in self._forms)
        generator = make_generator(self._seed, "answers", before, device=logits.device) if draws else None
        answers = shaped(log_probabilities(logits), self._forms, generator)
        return answers if self._answers == "soft" else answers.argmax(1)


def _portions(images: Images) -> Iterator[Tensor]:
    """Images (uint8 n c h w) as floats in [0, 1], as many at a time as are shown to a network at once."""
    return (to_float(batch) for batch in in_batches(images, eval_batch_size(images)))
