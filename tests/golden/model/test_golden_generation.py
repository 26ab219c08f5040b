"""Greedy answers: with a key-value cache and without, alone and in batches of unequal length, by either loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from parrot.evaluate.generate import generate
from tests.golden.model.reference import LOGITS, expand, pixels, read_json


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "asked" in metafunc.fixturenames:
        questions = questions_of(metafunc.config.getoption("--golden") / "model")
        metafunc.parametrize("asked", questions, ids=[str(number) for number in range(len(questions))])


def questions_of(folder: Path) -> list[dict[str, Any]]:
    return read_json(folder / "generation.json")


@pytest.fixture(scope="module")
def model(load):
    return load("main")


@pytest.fixture(scope="module")
def image(folder, processor):
    """The pixels of a question's image, (1, 3, S, S), or none."""
    return lambda asked: asked["image"] and pixels(Image.open(folder / "images" / asked["image"]), processor)[None]


@pytest.fixture(scope="module")
def options(folder, processor):
    """As long as the longest answer that was recorded; answers may end before."""
    longest = max(len(asked["output_ids"]) for asked in questions_of(folder))
    return {"max_new_tokens": longest, "do_sample": False, "pad_token_id": processor.tokenizer.pad_token_id}


def answer(model, asked, image, processor, options, **more):
    """Generated ids and every step's logits."""
    prompt = processor.encode(processor.format_prompt(asked["query"]))
    images = {} if asked["image"] is None else {"pixel_values": image(asked)}
    output = model.generate(
        torch.tensor([prompt]), **images, **options, **more, output_logits=True, return_dict_in_generate=True
    )
    return output.sequences[0, len(prompt) :].tolist(), torch.cat(output.logits)


def test_prompt(asked, processor):
    prompt = processor.format_prompt(asked["query"])
    assert prompt == asked["prompt"]
    assert processor.encode(prompt) == expand(asked["input_ids"], asked["input_ids"], processor)[0]


def test_answer(model, asked, image, processor, options):
    ids, logits = answer(model, asked, image, processor, options)
    assert ids == asked["output_ids"]
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == asked["text"]
    if "top1_top2_margin" in asked:
        best = logits.topk(2).values
        assert (best[:, 0] - best[:, 1]).tolist() == pytest.approx(asked["top1_top2_margin"], rel=0, abs=2 * LOGITS)
    if "first_step_top5" in asked:
        tokens, values = asked["first_step_top5"]
        found = logits[0].topk(len(tokens))
        assert found.indices.tolist() == tokens
        assert found.values.tolist() == pytest.approx(values, rel=0, abs=LOGITS)


def test_every_recorded_field_is_compared(folder):
    compared = {"image", "query", "prompt", "input_ids", "output_ids", "text", "top1_top2_margin", "first_step_top5"}
    other = {"output_ids_without_cache_router_sees_generated"}  # in test_golden_differences
    assert set().union(*questions_of(folder)) <= compared | other
    assert any("first_step_top5" in asked and "top1_top2_margin" in asked for asked in questions_of(folder))
    assert any(asked["image"] is None for asked in questions_of(folder))


def test_answers_of_a_batch(folder, model, image, processor, options):
    """Padded on the left, with and without images."""
    questions = questions_of(folder)
    prompts = [processor.format_prompt(asked["query"]) for asked in questions]
    images = [Image.open(folder / "images" / asked["image"]) for asked in questions if asked["image"]]
    inputs = processor(images=images, text=prompts, padding=True, return_tensors="pt", add_special_tokens=False)
    output = model.generate(**inputs, **options)[:, inputs["input_ids"].shape[1] :]
    for asked, ids in zip(questions, output.tolist(), strict=True):
        assert ids[: len(asked["output_ids"])] == asked["output_ids"]


@pytest.mark.parametrize("with_image", [True, False])
def test_answers_of_evaluation(folder, model, image, processor, options, with_image):
    """The loop that predicts benchmarks; it leaves out the token that ends an answer."""
    questions = [asked for asked in questions_of(folder) if bool(asked["image"]) == with_image]
    prompts = [processor.encode(processor.format_prompt(asked["query"])) for asked in questions]
    features = None
    if with_image:
        with torch.no_grad():
            features = model.encode_images(torch.cat([image(asked) for asked in questions]))
    answers = generate(model, prompts, features, options["max_new_tokens"])
    end = processor.tokenizer.eos_token_id
    for asked, found in zip(questions, answers, strict=True):
        assert found.tokens == [token for token in asked["output_ids"] if token != end]
        assert bool(found.router_weights) == with_image
