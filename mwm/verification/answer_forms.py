"""In which form suspects are judged: as they answered, or as if less had been let through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from mwm.config.randomness import make_generator
from mwm.config.spec import decode
from mwm.verification.querying.answer_log import Answers
from mwm.verification.suspects.outputs import NO_CLASS
from mwm.watermarks.evidence import LARGEST_SCORE, holds_chances

if TYPE_CHECKING:  # torch is slow to import, and few verdicts need it
    from mwm.models.answers import FormRecord

Scores = NDArray[np.float64]

LABELS = "labels"
"""The word for first choices alone, after all forms."""

ALLOWED = 'forms such as "top_k 3, rounding 2", and labels as the last one'


@dataclass(frozen=True)
class AnswerForms:
    """Forms that are put over the scores of suspects before they are judged; `labels_only`: then first choices alone.

    What forms draw follows from `seed`, from the number of the suspect and from that of the image.
    """

    forms: tuple[FormRecord, ...] = ()
    labels_only: bool = False
    seed: int = 0

    @property
    def words(self) -> str:
        """As the option says them: "top_k 3, rounding 2, labels"; empty for answers as they come."""
        if not self.forms:
            return LABELS * self.labels_only
        from mwm.models.answers import form_words

        return form_words(self.forms) + f", {LABELS}" * self.labels_only

    def check(self, answers: Answers, who: str) -> None:
        """Raise ValueError, in one line, for labels (m) where scores are needed."""
        if self.forms and answers.scores is None and (answers.labels >= 0).any():
            raise ValueError(f"answers: {self.words} needs scores, and {who} answers with labels; allowed: {LABELS}")

    def shape(self, answers: Answers, numbers: Sequence[int], suspect: int) -> Answers:
        """Answers (m) to images of these numbers in this form; what names no class stays as it is.

        Scores become probabilities, which need not sum to 1.
        """
        if self.forms and answers.scores is not None:
            named = answers.labels >= 0
            scores = answers.scores.copy()
            scores[named] = self._shaped(scores[named], np.asarray(numbers)[named], suspect)
            clear = (scores != scores[:, :1]).any(1)
            first = np.where(clear, scores.argmax(1), NO_CLASS)
            answers = Answers(np.where(named, first, answers.labels), scores)
        return Answers(answers.labels, None) if self.labels_only else answers

    def _shaped(self, scores: Scores, numbers: NDArray[Any], suspect: int) -> Scores:
        import torch

        from mwm.models.answers import shaped

        told = torch.from_numpy(log_chances(scores))
        if not any(form.draws for form in self.forms):
            return shaped(told, self.forms).exp().numpy()
        draws = [make_generator(self.seed, "answers", suspect, int(number)) for number in numbers]
        rows = [shaped(row, self.forms, draw) for row, draw in zip(torch.split(told, 1), draws, strict=True)]
        return torch.cat([told[:0], *rows]).exp().numpy()


def log_chances(scores: Scores) -> Scores:
    """Logarithms of chances (m C), -inf for none: a row that adds up to 1 at most holds chances, any other logits."""
    held = np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE)
    steady = held - held.max(1, keepdims=True)
    logits = steady - np.log(np.exp(steady).sum(1, keepdims=True))
    with np.errstate(divide="ignore"):
        found: Scores = np.where(holds_chances(held)[:, None], np.log(np.maximum(held, 0)), logits)
    return found


def parse_answer_forms(said: str | None, *, classes: int, seed: int) -> AnswerForms:
    """The forms that `--answers` asks for; ValueError, in one line, for what is none or would change nothing."""
    if said is None:
        return AnswerForms()
    parts = [part.strip() for part in said.split(",")]
    labels_only = parts[-1] == LABELS
    if labels_only:
        parts = parts[:-1]
    if not parts:
        return AnswerForms(labels_only=True)
    from mwm.models.answers import check_forms, idle_for_labels

    forms = tuple(_form(part) for part in parts)
    idle = idle_for_labels(forms, levels_matter=True)
    if labels_only and idle is not None:
        raise ValueError(f"answers: {parts[idle]!r} is not allowed before {LABELS}: it changes no first choice")
    check_forms(forms, (f"answers: {part}" for part in parts), classes)
    return AnswerForms(forms, labels_only, seed)


def _form(said: str) -> FormRecord:
    """A form from its words: its kind, its values in order, and the names of what is switched on."""
    from mwm.models.answers import AnswerForm

    kinds = {kind.kind: kind for kind in get_args(get_args(AnswerForm)[0])}
    kind, *words = said.split() or [""]
    if kind not in kinds:
        raise ValueError(f"answers: {said!r} is not allowed; allowed: {ALLOWED}; known: {', '.join(kinds)}, {LABELS}")
    own = [field for field in fields(kinds[kind]) if field.name != "kind"]
    flags = {field.name for field in own if field.default is False}
    values = [word for word in words if word not in flags]
    names = [field.name for field in own if field.name not in flags]
    if len(values) > len(names):
        raise ValueError(f"answers: {said!r} is not allowed: {kind} has {', '.join((*names, *flags))} and nothing more")
    tree = {"kind": kind} | dict.fromkeys(flags.intersection(words), True)
    return _decoded(tree | dict(zip(names, map(_number, values), strict=False)), said)


def _decoded(tree: dict[str, Any], said: str) -> FormRecord:
    from mwm.models.answers import AnswerForm

    try:
        found: FormRecord = decode(AnswerForm, tree)
    except ValueError as error:
        raise ValueError(f"answers: {said}: {'; '.join(str(error).splitlines())}") from None
    return found


def _number(word: str) -> int | float | str:
    """What a word says: a whole number, another number, or itself where it is none."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
