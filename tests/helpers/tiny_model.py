"""Models, batches and a tokenizer small enough to run in milliseconds."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import CLIPVisionConfig, Qwen2Config, Qwen2Tokenizer

from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotImageProcessor, ParrotProcessor

VOCABULARY = 300
IMAGE_TOKEN = VOCABULARY + 7  # outside the language model's vocabulary
VISUAL_TOKENS = 10  # 3 x 3 patches and the class token
SIDE = 12
IGNORE = -100
STEPS = 8
# Of one computation on other shapes, or on equal weights that lie elsewhere in memory: kernels sum in an order that
# depends on shapes, alignment and processor.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def tiny_config(**over: Any) -> ParrotConfig:
    text = {"tie_word_embeddings": False} | over.pop("text", {})
    vision_config = over.pop("vision_config", None) or CLIPVisionConfig(
        hidden_size=12, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=4
    )
    text_config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        **text,
    )
    sizes = {"num_experts": 3, "expert_intermediate_size": 8, "image_token_id": IMAGE_TOKEN}
    return ParrotConfig(vision_config=vision_config, text_config=text_config, **(sizes | over))


def tiny_model(seed: int = 0, **over: Any) -> ParrotForConditionalGeneration:
    torch.manual_seed(seed)
    model = ParrotForConditionalGeneration(tiny_config(**over)).eval()
    # Random encoders barely tell images apart at their usual start; make them.
    for parameter in model.model.vision_tower.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def row(*parts: int | str, seed: int = 0) -> list[int]:
    """Token ids of one sample: a number stands for so many random text tokens, "image" for an image."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = []
    for part in parts:
        if part == "image":
            ids += [IMAGE_TOKEN] * VISUAL_TOKENS
        else:
            ids += torch.randint(VOCABULARY, (int(part),), generator=generator).tolist()
    return ids


def collate(rows: list[list[int]], side: str = "right", pad: int = 0) -> dict[str, Tensor]:
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros_like(ids)
    for index, tokens in enumerate(rows):
        place = slice(0, len(tokens)) if side == "right" else slice(length - len(tokens), length)
        ids[index, place] = torch.tensor(tokens)
        mask[index, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def tiny_tokenizer() -> Qwen2Tokenizer:
    """Byte-level, one token a byte, with Qwen's three special tokens."""
    vocabulary = {character: index for index, character in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    return tokenizer


def tiny_processor(side: int = SIDE, visual_tokens: int = VISUAL_TOKENS) -> ParrotProcessor:
    pixels = ParrotImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return ParrotProcessor(pixels, tiny_tokenizer(), num_image_tokens=visual_tokens)


def labels_of_last(batch: dict, count: int = 3) -> torch.Tensor:
    """The last `count` tokens of every (right-padded) row are the answer."""
    labels = torch.full_like(batch["input_ids"], IGNORE)
    for index, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        labels[index, length - count : length] = batch["input_ids"][index, length - count : length]
    return labels


def generate(model: Any, batch: dict[str, Any], **options: Any) -> list[list[int]]:
    """`STEPS` tokens of each row, greedily."""
    output = model.generate(**batch, max_new_tokens=STEPS, do_sample=False, pad_token_id=0, **options)
    return output[:, batch["input_ids"].shape[1] :].tolist()
