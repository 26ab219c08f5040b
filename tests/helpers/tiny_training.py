"""Backbones, images and conversation sets small enough to train on within a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from parrot.config.catalog import BackboneFolder, ConversationSet, Language
from parrot.config.settings import ExpertSettings, Recipe, TuneRecipe
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.model import ParrotForConditionalGeneration, ParrotImageProcessor, ParrotProcessor
from parrot.model.build import build

SIDE, PATCH = 16, 8
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230)}


def write_backbones(folder: Path) -> None:
    """`folder`/clip and `folder`/qwen: random weights of CLIP's and Qwen2's classes, bytes as vocabulary."""
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    clip = CLIPVisionConfig(hidden_size=16, image_size=SIDE, patch_size=PATCH, **sizes)
    CLIPVisionModel(clip).save_pretrained(folder / "clip")
    ParrotImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder / "clip")
    tokenizer = _byte_tokenizer()
    tokenizer.save_pretrained(folder / "qwen")
    qwen = Qwen2Config(
        hidden_size=16, vocab_size=len(tokenizer) + 8, num_key_value_heads=2, tie_word_embeddings=True, **sizes
    )
    Qwen2ForCausalLM(qwen).save_pretrained(folder / "qwen")


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=special,
    )


def write_set(folder: Path, name: str, language: Language = "en", count: int = 20, **fields: Any) -> ConversationSet:
    """A conversation set of `count` samples on coloured squares; every fifth is text alone."""
    random = np.random.default_rng(sum(name.encode()))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        colour = list(COLOURS)[random.integers(3)]
        question = "Which colour is it" + "?" * int(random.integers(1, 9))
        sample: dict[str, Any] = {"id": f"{name}-{number}", "image": f"{name}-{number}.png"}
        if number % 5 == 4:
            sample = {"id": f"{name}-{number}"}
        else:
            Image.new("RGB", (SIDE, SIDE + number % 3), COLOURS[colour]).save(folder / "images" / sample["image"])
            question = f"<image>\n{question}"
        sample["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": colour}]
        samples.append(sample)
    (folder / f"{name}.json").write_text(json.dumps(samples))
    return ConversationSet(
        kind="conversations",
        file=str(folder / f"{name}.json"),
        images=str(folder / "images"),
        language=language,
        licence="none",
        source="local",
        **fields,
    )


def recipe(kind: type[Recipe] = Recipe, **fields: Any) -> Any:
    """Twelve steps of eight samples, unless `fields` say otherwise."""
    given = {"global_batch": 8, "learning_rate": 1e-2, "max_steps": 12, "max_length": 160, "save_steps": 5} | fields
    return kind(**given)


def align_settings(folder: Path, data: tuple[ConversationSet, ...], **fields: Any) -> AlignSettings:
    return AlignSettings(**_backbones(folder), data=data, recipe=recipe(**fields))


def tune_settings(
    folder: Path, data: tuple[ConversationSet, ...], validation: tuple[ConversationSet, ...] = (), **fields: Any
) -> TuneSettings:
    experts = ExpertSettings(num_experts=2, expert_intermediate_size=8)
    tune = recipe(TuneRecipe, **fields)
    return TuneSettings(**_backbones(folder), experts=experts, data=data, validation=validation, recipe=tune)


def talkative_model(folder: Path) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """A random model, its backbones in `folder`, whose answers end at a third of its vocabulary: lengths differ."""
    write_backbones(folder)
    model, processor = build(tune_settings(folder, ()))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.3)
    model.generation_config.eos_token_id = list(range(0, model.config.text_config.vocab_size, 3))
    return model, processor


def _backbones(folder: Path) -> dict[str, Any]:
    def backbone(name: str) -> BackboneFolder:
        return BackboneFolder(kind="backbone", path=str(folder / name), licence="none", source="local")

    return {
        "seed": 3,
        "vision_tower": backbone("clip"),
        "language_model": backbone("qwen"),
        "projector": "mlp2x_gelu",
        "vision_feature_layer": -2,
        "vision_feature_select": "cls_patch",
    }


def common_settings(backbones: tuple[Path, Path], seed: int = 0) -> dict[str, Any]:
    """What both stages' settings have in common, on an encoder's and a language model's folder."""
    clip, qwen = (BackboneFolder(kind="backbone", path=str(path), licence="none", source="local") for path in backbones)
    data = ConversationSet(kind="conversations", file="a.json", images=".", licence="none", source="local")
    return {
        "seed": seed,
        "vision_tower": clip,
        "language_model": qwen,
        "projector": "mlp2x_gelu",
        "vision_feature_layer": -2,
        "vision_feature_select": "cls_patch",
        "data": (data,),
        "recipe": {"global_batch": 1, "learning_rate": 1e-3, "max_steps": 1},
    }
