"""Questions asked as prediction asks them, in this process and without a record."""

from __future__ import annotations

from collections.abc import Sequence

from parrot.evaluate.asker import Asker
from parrot.evaluate.generate import Answer
from parrot.evaluate.questions import Question
from parrot.evaluate.shares import shares
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor


def answer_questions(
    model: ParrotForConditionalGeneration, processor: ParrotProcessor, questions: Sequence[Question], batch: int
) -> list[Answer]:
    """Answers to `questions`, in their order."""
    asker = Asker(model, processor, questions)
    answers = [Answer() for _ in questions]
    for share in shares(questions, asker.lengths, batch, asker.pictures_at_once)[0]:
        asker.see(share.pictures, batch)
        for places in share.batches:
            for place, answer in zip(places, asker.ask(places), strict=True):
                answers[place] = answer
    return answers
