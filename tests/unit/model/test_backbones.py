"""Models of other backbones than CLIP and Qwen2: SigLIP, Chinese CLIP, Llama and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    ChineseCLIPConfig,
    ChineseCLIPModel,
    ChineseCLIPVisionConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipVisionConfig,
)

from parrot.config.settings import ExpertSettings
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.model.build import build
from parrot.model.checkpoint import load_parrot
from tests.helpers.tiny_model import SIDE
from tests.helpers.tiny_training import common_settings

WIDTHS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {"image_size": SIDE, "patch_size": 4}
CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
STRETCHED = {"size": {"height": SIDE, "width": SIDE}}
# Whole encoders, text part included, as they are published; their image settings; visual tokens of an image.
ENCODERS: dict[str, tuple[Any, Any, Any, Any, dict[str, Any], int]] = {
    "clip": (CLIPModel, CLIPConfig, CLIPVisionConfig, CLIPImageProcessorPil, CROPPED, 10),
    "chinese_clip": (ChineseCLIPModel, ChineseCLIPConfig, ChineseCLIPVisionConfig, CLIPImageProcessorPil, CROPPED, 10),
    "siglip": (SiglipModel, SiglipConfig, SiglipVisionConfig, SiglipImageProcessorPil, STRETCHED, 10),
}
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ<|>_?.!"


def save_encoder(kind: str, folder: Path) -> Any:
    whole, config, vision, processor, settings, _ = ENCODERS[kind]
    torch.manual_seed(3)
    model = whole(config(text_config=WIDTHS, vision_config=vision(**WIDTHS, **IMAGE).to_dict(), projection_dim=8))
    model.save_pretrained(folder)
    processor(**settings).save_pretrained(folder)
    return model.vision_model


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """Llama as it is published: <s> in front of every text, no padding token and no markers of turns."""
    folder = tmp_path_factory.mktemp("llama")
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    LlamaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True).save_pretrained(folder)
    torch.manual_seed(4)
    config = LlamaConfig(**WIDTHS, vocab_size=len(pieces), num_key_value_heads=1, initializer_range=0.3)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    save_encoder("siglip", folder)
    return folder


def tune(siglip: Path, llama: Path, seed: int = 0) -> TuneSettings:
    experts = ExpertSettings(num_experts=3, expert_intermediate_size=8)
    return TuneSettings(**common_settings((siglip, llama), seed), experts=experts, validation=())


@pytest.fixture(scope="module")
def built(siglip, llama) -> Any:
    return build(tune(siglip, llama))


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_vision_encoder_of_a_whole_one(kind, llama, tmp_path):
    vision = save_encoder(kind, tmp_path)
    model, processor = build(AlignSettings(**common_settings((tmp_path, llama))))
    assert type(model.model.vision_tower) is type(vision)
    state = model.model.vision_tower.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in vision.state_dict().items())
    assert model.config.num_image_tokens == processor.num_image_tokens == ENCODERS[kind][-1]
    pixels = processor.image_processor(Image.new("RGB", (30, 20)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert model.encode_images(pixels).shape == (1, 10, 16)


def test_llama_s_tokenizer_gets_what_it_lacks(built, llama):
    model, processor = built
    rows = LlamaForCausalLM.from_pretrained(llama).get_input_embeddings().weight
    assert processor.tokenizer.convert_ids_to_tokens([len(rows), len(rows) + 1, len(rows) + 2]) == [
        "<|im_start|>",
        "<|im_end|>",
        "<image>",
    ]
    assert model.get_input_embeddings().num_embeddings == model.lm_head.out_features == len(rows) + 2
    assert model.config.text_config.vocab_size == len(rows) + 2
    assert torch.equal(model.get_input_embeddings().weight[: len(rows)], rows)
    assert model.generation_config.eos_token_id == len(rows) + 1
    assert model.generation_config.pad_token_id == processor.tokenizer.pad_token_id == len(rows) + 1
    assert model.config.image_token_id == len(rows) + 2


def test_the_rows_of_markers_start_from_the_seed(siglip, llama, built):
    torch.manual_seed(99)
    again, other = (build(tune(siglip, llama, seed))[0].lm_head.weight for seed in (0, 1))
    assert torch.equal(built[0].lm_head.weight, again)
    assert not torch.equal(again[-2:], other[-2:])
    assert torch.equal(again[:-2], other[:-2])


def test_every_way_to_a_prompt_starts_alike(built):
    _, processor = built
    prompt = processor.format_prompt("<image>\nwho?")
    expected = processor.encode(prompt)
    assert expected[:2] == processor.tokenizer.convert_tokens_to_ids(["<s>", "<|im_start|>"])
    assert expected.count(expected[0]) == 1
    image = Image.new("RGB", (9, 9))
    assert processor(text=[prompt], images=[image])["input_ids"] == [expected]
    question = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "who?"}]}
    asked = processor.apply_chat_template([question], add_generation_prompt=True, tokenize=True, return_dict=True)
    assert asked["input_ids"] == [expected]
    conversation = [{"from": "human", "value": "<image>\nwho?"}, {"from": "gpt", "value": "me"}]
    ids, labels = processor.format_conversation(conversation)
    assert ids[: len(expected)] == expected
    answer = processor.encode("<|im_start|>assistant\nme<|im_end|>")[-3:]
    assert ids[len(expected) :] == labels[len(expected) :] == answer
    assert set(labels[: len(expected)]) == {-100}


@torch.no_grad()
def test_siglip_and_llama_generate_alike_batched_alone_and_reloaded(built, tmp_path):
    model, processor = built
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, loaded_processor = load_parrot(tmp_path)
    prompts = [processor.format_prompt(f"<image>\n{question}") for question in ("who is it?", "why")]
    images = [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (20, 20), "blue")]
    inputs = processor(text=prompts, images=images, padding=True, return_tensors="pt")
    greedy = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    together = model.generate(**inputs, **greedy)
    weights = model(**inputs).router_weights
    assert weights.shape == (2, 3)
    for index in range(2):
        alone = loaded_processor(text=[prompts[index]], images=[images[index]], return_tensors="pt")
        assert loaded.generate(**alone, **greedy)[0, -6:].tolist() == together[index, -6:].tolist()
        torch.testing.assert_close(loaded(**alone).router_weights[0], weights[index])
