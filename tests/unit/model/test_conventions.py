"""What a transformers model is expected to do: loading options, heads, embeddings, image backend, pipeline.

transformers' own tests of every model, over ours, are in tests/common.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers.models.auto.image_processing_auto as image_processing_auto
from PIL import Image
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Qwen2Tokenizer,
    modeling_flash_attention_utils,
    pipeline,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.processing_auto import AutoProcessor

from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotImageProcessor, ParrotModel
from tests.helpers.tiny_model import CLOSE, collate, images, row, tiny_config, tiny_model, tiny_processor

GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def batch() -> dict[str, Any]:
    rows = [row(5, "image", 9, seed=1), row(12, seed=2), row(3, "image", 4, seed=3)]
    return {**collate(rows, "left"), "pixel_values": images(2)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, whose answers depend on images, and its processor, as training writes them."""
    path = tmp_path_factory.mktemp("model")
    processor = tiny_processor()
    model = tiny_model(image_token_id=processor.image_token_id, moe_weight=1.0)
    for parameter in model.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter)
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))


def test_auto_classes_make_models_of_a_config(folder):
    assert type(AutoConfig.for_model("parrot")) is ParrotConfig
    assert type(AutoModel.from_config(tiny_config())) is ParrotModel
    assert type(AutoModelForImageTextToText.from_config(tiny_config())) is ParrotForConditionalGeneration
    assert type(AutoTokenizer.from_pretrained(folder)) is Qwen2Tokenizer


@pytest.mark.parametrize(("asked", "dtype"), [("auto", torch.bfloat16), (torch.float32, torch.float32)])
def test_dtype(tmp_path, asked, dtype):
    tiny_model().bfloat16().save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=asked)
    assert {parameter.dtype for parameter in model.parameters()} == {model.dtype} == {dtype}


@torch.no_grad()
@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_map(folder, device_map):
    model = AutoModelForImageTextToText.from_pretrained(folder, device_map=device_map)
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = {"input_ids": torch.tensor([row(9)]).clamp(max=255)}
    torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits.to(model.device), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("top_k", [None, 1])
def test_parts_kept_on_disk_come_when_they_run(tmp_path, top_k):
    whole = tiny_model(moe_top_k=top_k)
    whole.save_pretrained(tmp_path / "model")
    parts = {"vision_tower": "disk", "multi_modal_projector": "cpu", "expert_block": "disk", "language_model": "cpu"}
    device_map = {"lm_head": "disk"} | {f"model.{part}": place for part, place in parts.items()}
    model = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "disk"
    )
    assert model.model.expert_block.experts.up_proj.device.type == "meta"
    torch.testing.assert_close(model(**batch()).logits, whole(**batch()).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ("eager", ("eager", "eager")),
        ("sdpa", ("sdpa", "sdpa")),
        (None, ("sdpa", "sdpa")),
        ({"vision_config": "eager", "text_config": "sdpa"}, ("eager", "sdpa")),
    ],
)
def test_attn_implementation(tmp_path, asked, parts):
    whole = tiny_model()
    whole.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, attn_implementation=asked)
    encoder, language = model.model.vision_tower.config, model.model.language_model.config
    assert (encoder._attn_implementation, language._attn_implementation) == parts
    mask = batch()["attention_mask"].bool()
    torch.testing.assert_close(model(**batch()).logits[mask], whole(**batch()).logits[mask], **CLOSE)


@pytest.mark.skipif(modeling_flash_attention_utils.is_flash_attn_2_available(), reason="flash-attn is installed")
def test_flash_attention_is_taken_but_missing(folder, monkeypatch):
    with pytest.raises(ImportError, match="FlashAttention2 .* doesn't seem to be installed"):
        AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="flash_attention_2")
    monkeypatch.setattr(ParrotForConditionalGeneration, "_supports_flash_attn", False)
    with pytest.raises(ValueError, match="does not support Flash Attention"):
        AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="flash_attention_2")


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_heads(tmp_path, tied):
    model = tiny_model(text={"tie_word_embeddings": tied})
    assert model.config.tie_word_embeddings == tied
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) != tied  # noqa: SIM118
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied
    torch.testing.assert_close(loaded(**batch()).logits, model(**batch()).logits, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_resize_token_embeddings(tmp_path, tied):
    model = tiny_model(text={"tie_word_embeddings": tied}, image_token_id=7)
    inputs = batch()
    inputs["input_ids"] = inputs["input_ids"].masked_fill(inputs["input_ids"] == 307, 7)
    before = model(**inputs).logits
    assert model.resize_token_embeddings(320).num_embeddings == 320
    assert model.config.text_config.vocab_size == model.lm_head.out_features == 320
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    torch.testing.assert_close(model(**inputs).logits[..., :300], before)
    inputs["input_ids"][:, -1] = 319
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, **CLOSE)


def test_weights_in_several_files(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    state = AutoModelForImageTextToText.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("available", [False, True])
@pytest.mark.parametrize("asked", [{}, {"backend": "torchvision"}, {"use_fast": True}], ids=str)
def test_images_go_through_pil_whatever_is_installed(folder, image, monkeypatch, available, asked):
    expected = tiny_processor().image_processor(image, return_tensors="pt")["pixel_values"]
    monkeypatch.setattr(image_processing_auto, "is_torchvision_available", lambda: available)
    for processor in (
        AutoImageProcessor.from_pretrained(folder, **asked),
        AutoProcessor.from_pretrained(folder).image_processor,
    ):
        assert type(processor) is ParrotImageProcessor
        assert processor.backend == "pil"
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], expected)


@pytest.mark.parametrize("given", ["object", "path"])
def test_pipeline_answers_as_generate_does(folder, image, tmp_path, given):
    image.save(tmp_path / "image.png")
    shown = {"image": image} if given == "object" else {"path": str(tmp_path / "image.png")}
    messages = [{"role": "user", "content": [{"type": "image", **shown}, {"type": "text", "text": "Ne var?"}]}]
    ask = pipeline("image-text-to-text", model=str(folder))
    assert type(ask.model) is ParrotForConditionalGeneration
    answer = ask(messages, generate_kwargs=GREEDY, return_full_text=False)[0]["generated_text"]
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    prompt = processor.format_prompt("<image>\nNe var?")
    inputs = processor(text=[prompt], images=[image], return_tensors="pt")
    output = model.generate(**inputs, **GREEDY)[0, inputs["input_ids"].shape[1] :]
    assert len(output) == 6
    assert answer == processor.decode(output, skip_special_tokens=True)
    other = ask(images=[Image.new("RGB", (9, 9))], text=prompt, generate_kwargs=GREEDY, return_full_text=False)
    assert other[0]["generated_text"] != answer
