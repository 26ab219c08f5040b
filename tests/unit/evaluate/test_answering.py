"""Answers for other suites: those of `parrot predict`, however many pictures a question has."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from parrot.constants import PAPER_LANGUAGES
from parrot.errors import ConfigError
from parrot.evaluate.questions import Question
from parrot.integrations.answering import Answerer, with_pictures
from parrot.integrations.vlmeval import Parrot
from tests.bench.asking import answer_questions
from tests.helpers.tiny_training import talkative_model

LIMIT = 8


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (12, 9), colour)


def base64_of(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory: pytest.TempPathFactory):
    """A model that says <|im_end|> sooner or later, and often not at once."""
    model, processor = talkative_model(tmp_path_factory.mktemp("backbones"))
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = end
    with torch.no_grad():
        model.lm_head.weight[end] *= 3
    return model, processor


@pytest.fixture(scope="module", name="folder")
def _folder(built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose generation settings ask for anything but greedy decoding, as the released ones do."""
    model, processor = built
    folder = tmp_path_factory.mktemp("model")
    processor.save_pretrained(folder)
    model.generation_config.update(do_sample=True, temperature=2.0, repetition_penalty=1.5)
    model.save_pretrained(folder)
    model.generation_config.update(do_sample=False, temperature=1.0, repetition_penalty=1.0)
    return folder


def test_answers_are_those_of_predict(built, folder: Path) -> None:
    texts = ("What?", "Which of the two colours?", "Why?", "Kim?")
    asked = [(text, colour) for text in texts for colour in ("red", "blue", None)]
    questions = [
        Question(f"<image>\n{text}", base64_of(picture(colour)), "here", LIMIT, "en")
        if colour
        else Question(text, None, "here", LIMIT, "en")
        for text, colour in asked
    ]
    model, processor = built
    said = answer_questions(model, processor, questions, batch=1)
    expected = [processor.tokenizer.decode(answer.tokens, skip_special_tokens=True) for answer in said]
    pictures = [[picture(colour)] if colour else [] for _, colour in asked]
    answerer = Answerer(folder)
    answers = answerer.answer([question.query for question in questions], pictures, max_new_tokens=LIMIT)
    assert answers == expected
    assert len(set(answers)) > 2
    assert {answer.stop_reason for answer in said} == {"eos", "length"}
    assert answerer.answer([questions[1].query], [pictures[1]], max_new_tokens=LIMIT) == [expected[1]]


def test_a_question_about_two_pictures(folder: Path) -> None:
    answerer = Answerer(folder)
    query = with_pictures("Which is red?", 2)
    assert query == "<image><image>Which is red?"
    red, blue = picture("red"), picture("blue")
    one_way, other_way, same = (
        answerer.answer([query], [shown], max_new_tokens=LIMIT)[0] for shown in ([red, blue], [blue, red], [red, red])
    )
    assert len({one_way, other_way, same}) == 3
    together = answerer.answer(
        [query, with_pictures("What?", 1), query], [[red, blue], [red], [blue, red]], max_new_tokens=LIMIT
    )
    assert together[0] == one_way
    assert together[2] == other_way


def test_the_wrapper_shows_the_picture_of_a_file(folder: Path, tmp_path: Path) -> None:
    wrapper = Parrot(folder, max_new_tokens=LIMIT)
    answers = set()
    for colour in ("red", "blue"):
        picture(colour).save(tmp_path / f"{colour}.png")
        message = [{"type": "text", "value": "What?"}, {"type": "image", "value": str(tmp_path / f"{colour}.png")}]
        expected = wrapper.answerer.answer(["<image>\nWhat?"], [[picture(colour)]], max_new_tokens=LIMIT)[0].strip()
        assert wrapper.generate(message, "MMMB_en") == expected
        answers.add(expected)
    assert len(answers) == 2
    with pytest.raises(ConfigError, match="is missing"):
        wrapper.generate([{"type": "image", "value": str(tmp_path / "missing.png")}])
    with pytest.raises(ConfigError, match="expected parts of type text or image, found video"):
        wrapper.generate([{"type": "video", "value": "a.mp4"}])


def test_a_router_that_is_told_the_language(built, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer(folder)
    answerer.told_language = True
    told = []
    monkeypatch.setattr(
        answerer.model, "generate", lambda **inputs: told.append(inputs["language_ids"]) or inputs["input_ids"]
    )
    answerer.answer(["<image>\nNe?", "<image>\nKim?"], [[picture("red")], [picture("blue")]], "tr")
    assert told[0].tolist() == [PAPER_LANGUAGES.index("tr")] * 2
    with pytest.raises(ConfigError, match="its router is told the language, which is not known here"):
        answerer.answer(["<image>\nNe?"], [[picture("red")]])


def test_a_router_that_reads_other_questions_is_refused(built, tmp_path: Path) -> None:
    model, processor = built
    model.config.router = "shuffled_text"
    model.save_pretrained(tmp_path)
    model.config.router = "text"
    processor.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"reads other questions \(shuffled_text\)"):
        Answerer(tmp_path)


def test_the_weights_have_the_dtype_that_is_asked_for(folder: Path) -> None:
    assert Answerer(folder, dtype="bfloat16").model.dtype == torch.bfloat16
    assert Parrot(folder).answerer.model.dtype == torch.float32
