"""`apply_chat_template`: messages with images to what the model reads."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from jinja2.exceptions import TemplateError
from PIL import Image

from parrot.model import ParrotProcessor
from parrot.model.chat_template import CHAT_FORMATS, ChatFormat
from tests.helpers.tiny_model import tiny_model, tiny_processor

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
READY = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}


@pytest.fixture(scope="module")
def processor() -> ParrotProcessor:
    return tiny_processor()


def image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def user(*parts: Any) -> dict[str, Any]:
    """A user's message of texts and of images, objects or paths."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image", **(part if isinstance(part, dict) else {"image": part})}
            for part in parts
        ],
    }


def equal(found: Any, expected: Any) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_turns_with_image(processor):
    messages = [
        user(image(0), "Ne var?"),
        {"role": "assistant", "content": [{"type": "text", "text": "Kedi."}]},
        user("Ya burada?", image(1)),
    ]
    text = (
        f"{SYSTEM}<|im_start|>user\n<image>\nNe var?<|im_end|>\n<|im_start|>assistant\nKedi.<|im_end|>\n"
        "<|im_start|>user\n<image>\nYa burada?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == text
    inputs = processor.apply_chat_template(messages, **READY)
    assert equal(inputs, processor(text=[text], images=[image(0), image(1)], return_tensors="pt"))
    assert inputs["input_ids"][0].tolist() == processor.encode(text)


def test_training_reads_the_same(processor):
    messages = [user(image(0), "Ne var?"), {"role": "assistant", "content": "Kedi."}]
    conversation = [{"from": "human", "value": "Ne var?\n<image>"}, {"from": "gpt", "value": "Kedi."}]
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True)
    assert inputs["input_ids"] == [processor.format_conversation(conversation)[0]]


def test_own_system_prompt(processor):
    messages = [{"role": "system", "content": "Kısa yanıtla."}, {"role": "user", "content": "a"}]
    text = processor.apply_chat_template(messages, tokenize=False)
    assert text == "<|im_start|>system\nKısa yanıtla.<|im_end|>\n<|im_start|>user\na<|im_end|>"


@pytest.mark.parametrize("key", ["path", "url", "image"])
def test_images_of_files(processor, tmp_path, key):
    image(0).save(tmp_path / "image.png")
    inputs = processor.apply_chat_template([user({key: str(tmp_path / "image.png")}, "?")], **READY)
    assert equal(inputs, processor.apply_chat_template([user(image(0), "?")], **READY))


@torch.no_grad()
def test_a_batch_of_conversations(processor):
    conversations = [[user(image(0), "Ne var?")], [user("a")], [user(image(1), "?")]]
    inputs = processor.apply_chat_template(conversations, padding=True, **READY)
    assert inputs["pixel_values"].shape == (2, 3, 12, 12)
    model = tiny_model(image_token_id=processor.image_token_id)
    greedy = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": processor.tokenizer.pad_token_id}
    together = model.generate(**inputs, **greedy)
    for index, conversation in enumerate(conversations):
        alone = model.generate(**processor.apply_chat_template(conversation, **READY), **greedy)
        assert together[index, -5:].tolist() == alone[0, -5:].tolist()


def test_other_parts_are_refused(processor):
    messages = [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "?"}]}]
    with pytest.raises(TemplateError, match="a message holds video; expected image or text"):
        processor.apply_chat_template(messages, tokenize=False)


def test_a_message_from_someone_else_is_refused(processor):
    with pytest.raises(TemplateError, match="a message is from tool; expected system, user or assistant"):
        processor.apply_chat_template([{"role": "tool", "content": "a"}], tokenize=False)


def test_a_further_chat_format_is_one_row(processor, monkeypatch):
    row = ChatFormat(
        system_prompt="Be kind.",
        headers={"system": "", "human": "USER: ", "gpt": "ASSISTANT: "},
        ends={"system": " ", "human": " ", "gpt": "</s>"},
        separator="",
        markers=(),
        supervised=frozenset({"gpt"}),
        families=(),
    )
    monkeypatch.setitem(cast(dict[str, ChatFormat], CHAT_FORMATS), "vicuna", row)
    other = ParrotProcessor(processor.image_processor, processor.tokenizer, 10, chat_format="vicuna")
    text = "Be kind. USER: hi ASSISTANT: yo</s>"
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    assert other.apply_chat_template(messages, tokenize=False) == text
    assert other.format_prompt("hi") == "Be kind. USER: hi ASSISTANT: "
    ids, labels = other.encode_turns([{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}])
    assert other.tokenizer.decode(ids) == text
    assert other.tokenizer.decode([label for label in labels if label != -100]) == "yo</s>"


def test_an_unknown_chat_format_is_named(processor):
    with pytest.raises(ValueError, match="chat_format: expected qwen, found 'alpaca'"):
        ParrotProcessor(processor.image_processor, processor.tokenizer, 10, chat_format="alpaca")
