"""Open a released checkpoint's folder: its configuration, processor, generation settings and weights, all checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import GenerationConfig, Qwen2Tokenizer

from parrot.data.rgb import TRAITS
from parrot.errors import UserError
from parrot.io.files import read_object
from parrot.model.chat_template import QWEN
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.convert.config import PADDING, check_sizes, named_tower, parrot_config
from parrot.model.convert.files import find_vision_tower
from parrot.model.convert.mapping import SIZES, read_tensors
from parrot.model.folder import check_counts, check_pixels, read_config
from parrot.model.image_processing_parrot import ParrotImageProcessor
from parrot.model.modeling_parrot import ParrotForConditionalGeneration
from parrot.model.processing_parrot import ParrotProcessor
from parrot.model.tokenizer import check_text, check_tokenizer_files, check_vocabulary, in_one_line, reading
from parrot.model.weights import check_file, headers

# Settings that the released folder holds as JSON; an export writes them back.
KEPT = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")


class Opened(NamedTuple):
    """What a released folder says of its model."""

    config: ParrotConfig
    processor: ParrotProcessor
    generation_config: GenerationConfig


def load_released(
    folder: str | Path,
    vision_tower: str | Path | None = None,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    **options: Any,
) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """Load the model of a released checkpoint's folder, in evaluation mode, and its processor.

    Args:
        folder: the checkpoint's folder.
        vision_tower: the vision encoder's folder, for a checkpoint whose `mm_vision_tower` is neither in nor beside it.
        dtype: of the model's weights; `auto` takes config.json's `torch_dtype`.
        options: of transformers' `from_pretrained`, such as `attn_implementation`.

    Raises:
        UserError: names the first thing in the folder that is missing or wrong.
    """
    opened = open_released(Path(folder), vision_tower)
    state, _ = read_tensors(Path(folder), opened.config)
    fields = {"config": opened.config, "generation_config": opened.generation_config, "state_dict": state}
    model = ParrotForConditionalGeneration.from_pretrained(None, dtype=dtype, **fields, **options)
    return model.eval(), opened.processor


def open_released(folder: Path, vision_tower_folder: str | Path | None = None) -> Opened:
    """Everything but the weights of `folder`; `vision_tower_folder` as `find_vision_tower`'s `given`.

    Raises:
        UserError: a file is missing or says what this model has not.
    """
    path = folder / "config.json"
    check_file(path)
    released = read_object(path)
    check_counts(path, ("num_hidden_layers", "num_experts"), len(headers(folder)))
    tower = find_vision_tower(folder, named_tower(released, str(path)), vision_tower_folder)
    check_counts(tower / "config.json", ("num_hidden_layers",), len(headers(folder)))
    vision = read_config(tower)
    vision = getattr(vision, "vision_config", vision)
    check_sizes(vision, str(tower / "config.json"))
    with reading(tower / "preprocessor_config.json", "an image processor's settings"):
        images = _image_processor(tower, released, path)
    check_pixels(tower, images, vision)
    processor = ParrotProcessor(images, _tokenizer(folder))
    kept = {name: _kept(folder / name) for name in KEPT if os.path.lexists(folder / name)}
    fields = {"image_token_id": processor.image_token_id, "released": kept}
    with reading(path, SIZES):
        opened = parrot_config(released, str(path), vision, **fields)
    check_vocabulary(processor.tokenizer, opened, folder)
    processor.num_image_tokens = opened.num_image_tokens
    with reading(folder / "generation_config.json", "settings of generation"):
        generation = _generation_config(kept, processor)
    return Opened(opened, processor, generation)


def _kept(path: Path) -> dict[str, Any]:
    check_file(path)
    return read_object(path)


def _image_processor(tower: Path, released: dict[str, Any], path: Path) -> ParrotImageProcessor:
    way = released.get("image_aspect_ratio")
    if way == "anyres":
        raise UserError(f"{path}: image_aspect_ratio: expected pad or another single view, found anyres")
    options = {"image_aspect_ratio": "pad" if way == "pad" else "crop"} | dict.fromkeys(TRAITS, "released")
    return ParrotImageProcessor.from_pretrained(tower, **options)


def _tokenizer(folder: Path) -> Qwen2Tokenizer:
    """As the released code loads it, with its own end and padding tokens; files hold no code, and none is asked for."""
    check_tokenizer_files(folder)
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(
            folder, eos_token=QWEN.turn_end, pad_token=PADDING, unk_token=PADDING
        )
    except Exception as error:  # tokenizers raises no other kind for a file that it cannot read
        raise UserError(f"{folder}: tokenizer: cannot be read: {in_one_line(error)}") from None
    check_text(tokenizer, folder)
    return tokenizer


def _generation_config(kept: dict[str, Any], processor: ParrotProcessor) -> GenerationConfig:
    """Return the released settings, stopping at <|im_end|> as the released runner and VLMEvalKit's wrapper do."""
    tokens = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    settings = kept.get("generation_config.json", {})
    return GenerationConfig(**{name: value for name, value in settings.items() if name[0] != "_"} | tokens)
