"""Images to pixels, text to tokens, conversations to labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from parrot.model import ParrotProcessor
from parrot.model.chat_template import QWEN, image_first
from tests.helpers.tiny_model import tiny_processor

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


@pytest.fixture(scope="module")
def processor() -> ParrotProcessor:
    return tiny_processor(side=40, visual_tokens=26)


def image_of(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels_of(processor: ParrotProcessor, image: Image.Image, **options) -> torch.Tensor:
    return processor.image_processor(image, return_tensors="pt", **options)["pixel_values"][0]


@pytest.mark.parametrize(("height", "width", "top", "left"), [(40, 21, 0, 9), (20, 40, 10, 0), (33, 40, 3, 0)])
def test_pad_squares_on_the_mean_colour(processor, height, width, top, left):
    image = image_of(height, width)
    pixels = pixels_of(processor, image)
    mean, std = (
        torch.tensor(value)[:, None, None]
        for value in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    restored = ((pixels * std + mean) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = np.empty((40, 40, 3), np.uint8)
    expected[:] = (122, 116, 104)
    expected[top : top + height, left : left + width] = np.asarray(image)
    np.testing.assert_array_equal(restored, expected)


def test_crop_is_clip_s_own_way(processor):
    image = image_of(40, 80)
    cropped = pixels_of(processor, image, image_aspect_ratio="crop")
    torch.testing.assert_close(cropped, pixels_of(processor, image.crop((20, 0, 60, 40))))


def test_as_released_alpha_is_dropped_not_composited(processor):
    image = image_of(40, 40)
    transparent = image.copy()
    transparent.putalpha(0)
    found = pixels_of(processor, transparent, image_alpha="released")
    torch.testing.assert_close(found, pixels_of(processor, image))


def test_grey_and_palette_images_become_rgb(processor):
    for mode in ("L", "P", "1"):
        converted = image_of(40, 40).convert(mode)
        torch.testing.assert_close(pixels_of(processor, converted), pixels_of(processor, converted.convert("RGB")))


def test_an_image_becomes_its_tokens_on_the_left_of_padding(processor):
    inputs = processor(images=[image_of(30, 40)], text=["<image>\nhi", "hello"], padding=True, return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 40, 40)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 29)
    token = processor.image_token_id
    hello = processor.tokenizer("hello")["input_ids"]
    assert inputs["input_ids"][0, :26].tolist() == [token] * 26
    assert inputs["input_ids"][1].tolist() == [processor.tokenizer.pad_token_id] * 24 + hello
    assert inputs["attention_mask"].sum(1).tolist() == [29, 5]


@pytest.mark.parametrize(("texts", "count"), [(["<image> <image>"], 1), (["no image"], 1), (["<image>"], 0)])
def test_images_and_placeholders_must_match(processor, texts, count):
    with pytest.raises(ValueError, match="<image>"):
        processor(images=[image_of(4, 4)] * count or None, text=texts)


def test_encode_expands_images(processor):
    ids = processor.encode("a<image>\nb")
    plain = processor.tokenizer("a\nb")["input_ids"]
    assert ids == [plain[0], *[processor.image_token_id] * 26, *plain[1:]]


def test_prompt_with_and_without_preface(processor):
    expected = SYSTEM + "<|im_start|>user\n<image>\nNe var?<|im_end|>\n<|im_start|>assistant\n"
    assert processor.format_prompt("<image>\nNe var?") == expected
    assert processor.format_prompt("<image>\nNe var?", "Bir") == expected + "Bir"


def test_chat_template_is_the_same_format(processor):
    question = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Ne var?"}]}
    prompt = processor.apply_chat_template([question], add_generation_prompt=True, tokenize=False)
    assert prompt == processor.format_prompt("<image>\nNe var?")
    answered = [question, {"role": "assistant", "content": "Kedi."}]
    whole = processor.apply_chat_template(answered, tokenize=False)
    assert whole == prompt + "Kedi.<|im_end|>"


def decoded(processor: ParrotProcessor, ids: list[int]) -> str:
    return processor.tokenizer.decode(ids)


def test_conversation_learns_answers_only(processor):
    conversation = [
        {"from": "human", "value": "Ne var?\n<image>"},
        {"from": "gpt", "value": "Kedi."},
        {"from": "human", "value": "什么颜色？"},
        {"from": "gpt", "value": "红色。"},
    ]
    ids, labels = processor.format_conversation(conversation)
    image = "<image>" * 26
    assert decoded(processor, ids) == (
        f"{SYSTEM}<|im_start|>user\n{image}\nNe var?<|im_end|>\n<|im_start|>assistant\nKedi.<|im_end|>\n"
        "<|im_start|>user\n什么颜色？<|im_end|>\n<|im_start|>assistant\n红色。<|im_end|>"
    )
    supervised = [label for label in labels if label != -100]
    assert decoded(processor, supervised) == "Kedi.<|im_end|>\n红色。<|im_end|>"
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    assert len(conversation) == 4


def test_conversation_keeps_its_own_system_turn(processor):
    ids, labels = processor.format_conversation(
        [{"from": "system", "value": "Kurz."}, {"from": "human", "value": "a"}, {"from": "gpt", "value": ""}]
    )
    assert decoded(processor, ids).startswith("<|im_start|>system\nKurz.<|im_end|>\n<|im_start|>user\na")
    assert decoded(processor, [label for label in labels if label != -100]) == "<|im_end|>"


def test_conversation_refuses_strangers():
    with pytest.raises(ValueError, match="'user'; expected system, human or gpt"):
        QWEN.turns([{"from": "user", "value": "a"}])
    with pytest.raises(ValueError, match="at least one turn"):
        QWEN.turns([])


def test_image_first():
    assert image_first("Look at <image> and <image> now.") == "<image>\nLook at  and  now."
    assert image_first("  no image ") == "  no image "


def test_save_and_load(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["num_image_tokens"] == 26
    loaded = ParrotProcessor.from_pretrained(tmp_path)
    image, text = image_of(30, 40), processor.format_prompt("<image>\nСколько?")
    before, after = (p(images=[image], text=[text], return_tensors="pt") for p in (processor, loaded))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.image_processor.backend == "pil"
    assert loaded.chat_template == processor.chat_template
