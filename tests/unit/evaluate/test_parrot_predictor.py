"""Parrot as a predictor: the same answers by every way in, several images an item, beams, options' likelihoods."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from parrot.constants import PAPER_LANGUAGES
from parrot.errors import UserError
from parrot.evaluate.parrot_predictor import ParrotPredictor, load_predictor
from parrot.evaluate.predictor import (
    GenerationSettings,
    Item,
    encode_unnamed,
    generate_texts,
    token_log_likelihoods,
    with_images,
)
from parrot.integrations.vlmeval import Parrot
from tests.bench.asking import answer_questions
from tests.helpers.tiny_questions import item
from tests.helpers.tiny_training import talkative_model

LIMIT = 8


def image(colour: str) -> Image.Image:
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


def unnamed(predictor: ParrotPredictor, query: str, images: list[Image.Image], **fields: object) -> Item:
    """An item of opened images, which are encoded."""
    (names,) = encode_unnamed(predictor, [images])
    return replace(Item(query, names, "here", GenerationSettings(LIMIT), "en"), **fields)


def answer(predictor: ParrotPredictor, query: str, images: list[Image.Image], **fields: object) -> str:
    return generate_texts(predictor, [unnamed(predictor, query, images, **fields)])[0]


def test_answers_are_those_of_predict(built, folder: Path) -> None:
    texts = ("What?", "Which of the two colours?", "Why?", "Kim?")
    asked = [(text, colour) for text in texts for colour in ("red", "blue", None)]
    items = [
        item(f"<image>\n{text}", base64_of(image(colour)), limit=LIMIT) if colour else item(text, None, limit=LIMIT)
        for text, colour in asked
    ]
    model, processor = built
    said = answer_questions(model, processor, items, batch=1)
    expected = [processor.tokenizer.decode(found.tokens, skip_special_tokens=True) for found in said]
    predictor = load_predictor(folder)
    names = encode_unnamed(predictor, [[image(colour)] if colour else [] for _, colour in asked])
    together = [replace(one, images=images) for one, images in zip(items, names, strict=True)]
    answers = generate_texts(predictor, together)
    assert answers == expected
    assert len(set(answers)) > 2
    assert {found.stop_reason for found in said} == {"eos", "length"}
    assert answer(predictor, "<image>\nWhat?", [image("blue")]) == expected[1]


def test_an_item_of_two_images(folder: Path) -> None:
    predictor = load_predictor(folder)
    query = with_images("Which is red?", 2)
    assert query == "<image><image>Which is red?"
    red, blue = image("red"), image("blue")
    one_way, other_way, same = (answer(predictor, query, shown) for shown in ([red, blue], [blue, red], [red, red]))
    assert len({one_way, other_way, same}) == 3
    names = encode_unnamed(predictor, [[red, blue], [red], [blue, red]])
    queries = [query, with_images("What?", 1), query]
    items = [Item(text, some, "", GenerationSettings(LIMIT)) for text, some in zip(queries, names, strict=True)]
    together = generate_texts(predictor, items)
    assert together[0] == one_way
    assert together[2] == other_way


def test_the_router_weights_of_an_item_are_the_mean_of_its_images(built) -> None:
    predictor = ParrotPredictor(*built)
    red, blue = image("red"), image("blue")
    asked = unnamed(predictor, "<image><image>?", [red, blue])
    (found,) = predictor.generate([asked])
    features = torch.cat([predictor._features[[0]], predictor._features[[1]]])
    prompt = torch.tensor([predictor.processor.encode(predictor.processor.format_prompt(asked.query))])
    weights = built[0](prompt, image_features=features).router_weights
    assert len(weights) == 2
    assert found.router_weights == pytest.approx(weights.mean(0).tolist(), abs=1e-6)


def test_as_many_images_as_placeholders_are_expected(built) -> None:
    predictor = ParrotPredictor(*built)
    with pytest.raises(UserError, match="^here: expected as many <image> in the text as images, 2, found 1"):
        predictor.generate([unnamed(predictor, "<image>\n?", [image("red")] * 2)])


@torch.no_grad()
def naive(predictor: ParrotPredictor, asked: Item, option: str) -> float:
    """An option's log-likelihood by a forward pass of prompt and option alone, the router reading the prompt."""
    prompt = predictor.processor.encode(predictor.processor.format_prompt(asked.query))
    tokens = predictor.processor.encode(option)
    ids = torch.tensor([prompt + tokens])
    features = predictor._features[[predictor._position[image] for image in asked.images]]
    logits = predictor.model(
        ids,
        image_features=features if asked.images else None,
        router_mask=torch.arange(ids.shape[1])[None] < len(prompt),
    ).logits[0, len(prompt) - 1 : -1]
    return sum(float(row.double().log_softmax(-1)[token]) for row, token in zip(logits, tokens, strict=True))


def test_options_likelihoods_are_those_of_one_option_alone(built) -> None:
    predictor = ParrotPredictor(*built)
    shown = encode_unnamed(predictor, [[image("red")], [], [image("blue"), image("red")]])
    options = [("red", "a long way off"), ("x",), ("blue", "green", "no")]
    queries = [with_images("Which?" * (1 + n), len(images)) for n, images in enumerate(shown)]
    items = [
        Item(query, images, "here", GenerationSettings(1), "en", options=some)
        for query, images, some in zip(queries, shown, options, strict=True)
    ]
    found = predictor.option_log_likelihoods(items)
    for asked, scored in zip(items, found, strict=True):
        expected = [naive(predictor, asked, option) for option in asked.options]
        assert [each.log_likelihood for each in scored] == pytest.approx(expected, rel=1e-4)
        (alone,) = predictor.option_log_likelihoods([asked])
        assert [each.log_likelihood for each in alone] == pytest.approx(expected, rel=1e-4)
    assert predictor.option_log_likelihoods([replace(asked, options=()) for asked in items]) == [[], [], []]


def test_a_sum_leaves_padding_out_and_greedy_is_the_likeliest_token_everywhere() -> None:
    shares = torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]])
    mask = torch.tensor([[True, True], [True, False]])
    greedy, padded = token_log_likelihoods(shares.log(), torch.tensor([[0, 2], [0, 0]]), mask)
    other, short = token_log_likelihoods(shares.log(), torch.tensor([[0, 1], [2, 0]]), mask)
    assert [each.log_likelihood for each in (greedy, padded, other, short)] == pytest.approx(
        [math.log(1 / 4), math.log(1 / 2), math.log(1 / 8), math.log(1 / 4)]
    )
    assert [each.is_greedy for each in (greedy, padded, other, short)] == [True, True, False, False]


@pytest.mark.parametrize("option", ["", "a <image>"])
def test_an_option_that_cannot_be_scored_is_refused(built, option: str) -> None:
    predictor = ParrotPredictor(*built)
    with pytest.raises(UserError, match="^here: options: expected some text without <image>, found "):
        predictor.option_log_likelihoods([unnamed(predictor, "<image>\n?", [image("red")], options=(option,))])


def test_beams_keep_the_router_weights_and_a_batch_changes_nothing(built) -> None:
    predictor = ParrotPredictor(*built)
    shown = encode_unnamed(predictor, [[image("red")], [image("blue"), image("red")], []])
    greedy = [
        Item(with_images("Which?" * (1 + n), len(images)), images, "here", GenerationSettings(LIMIT), "en")
        for n, images in enumerate(shown)
    ]
    items = [replace(one, generation=GenerationSettings(LIMIT, num_beams=3)) for one in greedy]
    together = predictor.generate(items)
    for one, found in zip(items, together, strict=True):
        (alone,) = predictor.generate([one])
        assert alone.tokens == found.tokens
        assert alone.router_weights == pytest.approx(found.router_weights, abs=1e-6)
    plain = predictor.generate(greedy)
    assert [found.tokens for found in together] != [found.tokens for found in plain]
    for found, expected in zip(together, plain, strict=True):
        assert found.router_weights == pytest.approx(expected.router_weights, abs=1e-6)


def test_the_wrapper_shows_the_image_of_a_file(folder: Path, tmp_path: Path) -> None:
    wrapper = Parrot(folder, max_new_tokens=LIMIT)
    answers = set()
    for colour in ("red", "blue"):
        image(colour).save(tmp_path / f"{colour}.png")
        message = [{"type": "text", "value": "What?"}, {"type": "image", "value": str(tmp_path / f"{colour}.png")}]
        expected = answer(wrapper.predictor, "<image>\nWhat?", [image(colour)]).strip()
        assert wrapper.generate(message, "MMMB_en") == expected
        answers.add(expected)
    assert len(answers) == 2
    with pytest.raises(UserError, match="is missing"):
        wrapper.generate([{"type": "image", "value": str(tmp_path / "missing.png")}])
    with pytest.raises(UserError, match="expected parts of type text or image, found video"):
        wrapper.generate([{"type": "video", "value": "a.mp4"}])


def test_a_router_that_is_told_the_language(built) -> None:
    predictor = ParrotPredictor(*built)
    predictor.router = "language"
    asked = unnamed(predictor, "<image>\nNe?", [image("red")], language="tr")
    assert predictor._inputs([asked] * 2)["router"]["language_ids"].tolist() == [PAPER_LANGUAGES.index("tr")] * 2
    with pytest.raises(UserError, match="^here: its router reads the language, which is not known here"):
        predictor.generate([replace(asked, query="<image>\nKim?", language=None)])
    with pytest.raises(UserError, match="^here: its router reads the language, one of en, .*; found de"):
        predictor.generate([replace(asked, language="de")])


def test_a_router_that_reads_other_questions_is_refused(built, tmp_path: Path) -> None:
    model, processor = built
    model.config.router = "shuffled_text"
    model.save_pretrained(tmp_path)
    model.config.router = "text"
    processor.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"reads other questions \(shuffled_text\)"):
        load_predictor(tmp_path)


def test_the_weights_have_the_dtype_that_is_asked_for(folder: Path) -> None:
    assert load_predictor(folder, torch.bfloat16).model.dtype == torch.bfloat16
    assert Parrot(folder).predictor.model.dtype == torch.float32
