"""What the released classes computed, step by step: formatting, pixels, features, routing, experts, logits, loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from released import RELEASED_IMAGE_TOKEN, expanded, load_released, renamed
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer

from parrot.model import ParrotImageProcessor, ParrotProcessor


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "model"


@pytest.fixture(scope="module")
def processor(folder: Path) -> ParrotProcessor:
    """One token a picture, as in the released code's tokenised conversations."""
    pixels = ParrotImageProcessor.from_pretrained(folder / "clip-vit-tiny-patch7-28")
    return ParrotProcessor(pixels, AutoTokenizer.from_pretrained(folder / "tokenizer"), num_image_tokens=1)


def with_released_token(processor: ParrotProcessor, ids: list[int]) -> list[int]:
    return [RELEASED_IMAGE_TOKEN if token == processor.image_token_id else token for token in ids]


def test_prompts(folder, processor):
    cases = [case for case in json.loads((folder / "formatter.json").read_text()) if case["kind"] == "format_query"]
    assert cases
    for case in cases:
        prompt = processor.format_prompt(case["query"], case.get("generation_preface", ""))
        assert prompt == case["prompt"]
        assert with_released_token(processor, processor.encode(prompt)) == case["input_ids"]


def test_conversations(folder, processor):
    conversations = {sample["id"]: sample["conversations"] for sample in json.loads((folder / "data.json").read_text())}
    items = json.loads((folder / "dataset.json").read_text())["items"]
    assert len(items) == len(conversations)
    for item in items:
        ids, labels = processor.format_conversation(conversations[item["id"]])
        assert with_released_token(processor, ids) == item["input_ids"], item["id"]
        assert labels == item["labels"], item["id"]


def test_pixels(folder, processor):
    ways = {"pad": "pad", "nopad": "crop"}
    expected = {name: value for name, value in load_file(folder / "pixels.safetensors").items() if "pad." in name}
    assert expected
    for name, value in expected.items():
        way, picture = name.split(".")
        image = Image.open(folder / "images" / f"{picture}.png")
        pixels = processor.image_processor(image, image_aspect_ratio=ways[way], return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(pixels, value, rtol=0, atol=1e-6, msg=name)


def load_case(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """A batch in this model's form, what the released model made of it, and which samples have a picture."""
    released, batch = (
        {key.removeprefix(f"{name}."): value for key, value in load_file(file).items() if key.startswith(f"{name}.")}
        for file in (folder / "golden_main.safetensors", folder / "batches.safetensors")
    )
    features = released["vision_features"]
    inputs = expanded(batch, features.shape[1])
    pictured = (inputs["input_ids"] == RELEASED_IMAGE_TOKEN).any(1)
    # The released batch has a blank picture for a sample of text alone; b1 comes without its pixels.
    inputs |= {"pixel_values": batch["images"][pictured]} if "images" in batch else {"image_features": features}
    return inputs, released, pictured


@torch.no_grad()
def test_encoder_and_projector(folder):
    inputs, released, pictured = load_case(folder, "b4")
    image = load_released(folder).get_image_features(inputs["pixel_values"])
    torch.testing.assert_close(image.last_hidden_state, released["vision_features"][pictured], rtol=0, atol=1e-5)
    torch.testing.assert_close(image.pooler_output, released["projected"][pictured], rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["b4", "b1"])
def test_forward(folder, name):
    inputs, released, pictured = load_case(folder, name)
    output = load_released(folder)(**inputs, output_hidden_states=True)
    real = released["new_attention_mask"]
    assert torch.equal(inputs["attention_mask"].bool(), real)
    assert torch.equal(inputs["labels"], released["new_labels"])
    embeds = output.hidden_states[0]
    guided = embeds[inputs["input_ids"] == RELEASED_IMAGE_TOKEN]
    torch.testing.assert_close(output.router_weights, released["router_weights"][pictured], rtol=0, atol=1e-5)
    torch.testing.assert_close(guided, released["moe_out"][pictured].flatten(0, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(embeds[real], released["inputs_embeds"][real], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.logits[..., ::29][real], released["logits_sub"][real], rtol=0, atol=5e-5)
    torch.testing.assert_close(output.logits.logsumexp(-1)[real], released["logits_lse"][real], rtol=0, atol=5e-5)


@torch.no_grad()
def test_loss(folder):
    inputs, released, _ = load_case(folder, "b1")
    expected = F.cross_entropy(released["logits"][0, :-1], released["new_labels"][0, 1:])
    torch.testing.assert_close(load_released(folder)(**inputs).loss, expected, rtol=0, atol=1e-5)


def test_gradients(folder):
    inputs, released, _ = load_case(folder, "b4")
    prefix = "grad."
    expected = renamed({key.removeprefix(prefix): value for key, value in released.items() if key.startswith(prefix)})
    assert expected
    model = load_released(folder).train()
    model(**inputs).loss.backward()
    for name, value in expected.items():
        parameter = model.get_parameter(name)
        error = (parameter.grad[: len(value)] - value).norm() / value.norm()
        assert error < 1e-4, name
