"""At the mini scale's size, an answer does not depend on the questions that are asked with it."""

from __future__ import annotations

import numpy as np
import pytest

from parrot.config.suite import Suite
from parrot.constants import PAPER_LANGUAGES
from parrot.errors import UserError
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predictor import Generation, Item
from parrot.model.build import build
from tests.bench.asking import answer_questions, encode
from tests.helpers.tiny_questions import COLOURS, image, item

ASKED = {
    "en": "What is in the picture?",
    "zh": "图片中是什么？",
    "pt": "O que aparece na imagem?",
    "ar": "ماذا يوجد في الصورة؟",
    "tr": "Resimde ne var?",
    "ru": "Что изображено на картинке?",
}
LIMIT = 8


@pytest.fixture(scope="module")
def built():
    """The shipped encoder and language model; projector, router and experts are random."""
    return build(Suite.load().run("parrot").tune)


@pytest.fixture(scope="module")
def questions() -> list[Item]:
    """In six languages about three images and none, of 1 to 4 sentences."""
    shown = [
        item(f"<image>\n{' '.join([ASKED[language]] * (1 + n % 4))}", image(colour), "", LIMIT, language)
        for language in PAPER_LANGUAGES
        for n, colour in enumerate(COLOURS)
    ]
    return shown + [
        item(ASKED[language] * (1 + n), None, "", LIMIT, language) for n, language in enumerate(PAPER_LANGUAGES)
    ]


@pytest.fixture(scope="module")
def alone(built, questions: list[Item]) -> list[Generation]:
    return answer_questions(*built, questions, 1)


def same(some: list[Generation], others: list[Generation]) -> bool:
    return [(answer.tokens, answer.stop_reason) for answer in some] == [(a.tokens, a.stop_reason) for a in others]


@pytest.mark.parametrize("batch", [2, 5, 64])
def test_batched_answers_equal_batch_1_answers(
    built, questions: list[Item], alone: list[Generation], batch: int
) -> None:
    assert same(answer_questions(*built, questions, batch), alone)
    # Otherwise all answers are alike, and this test says little.
    assert len({tuple(answer.tokens) for answer in alone}) > 6


def test_neither_other_questions_nor_padding_change_an_answer(
    built, questions: list[Item], alone: list[Generation]
) -> None:
    predictor = ParrotPredictor(*built)
    encode(predictor, [image(colour) for colour in COLOURS], 3)
    lengths = predictor.lengths(questions)

    def generated(places: list[int]) -> list[Generation]:
        return predictor.generate([questions[place] for place in places])

    shown = [place for place, question in enumerate(questions) if question.images]
    longest, shortest = (pick(shown, key=lambda place: lengths[place]) for pick in (max, min))
    assert lengths[longest] > lengths[shortest] + 10
    assert same(generated([shortest, longest, longest]), [alone[shortest], alone[longest], alone[longest]])
    random = np.random.default_rng(0)
    for _ in range(3):
        places = random.permutation(shown)[:7].tolist()
        assert same(generated(places), [alone[place] for place in places])


def test_a_question_that_is_longer_than_the_model_reads_is_named(built) -> None:
    question = item("<image>\n" + ASKED["tr"] * 200, image("red"), "quiz.tsv: row 7", LIMIT, "tr")
    with pytest.raises(UserError, match=r"^quiz.tsv: row 7: expected a prompt of at most 512 tokens, found \d+$"):
        ParrotPredictor(*built).prepare([question])
