"""`parrot import-released` and `parrot export-released`: from the released layout to a model folder, and back.

Tensors go from file to file with their bytes and dtypes. What a released folder holds and a model here has no place
for goes with the model folder: JSON values in config.json's `released`, unused tensors in unused.safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import Tensor

from parrot.errors import UserError
from parrot.io.files import new_folder, read_object, write_json
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.convert.config import released_config
from parrot.model.convert.files import tower_folder, tower_name, write_tokenizer, write_tower
from parrot.model.convert.mapping import SIZES, optional_tensors, read_tensors, released_parts, shapes, unused_tensors
from parrot.model.convert.opening import open_released
from parrot.model.folder import check_processor, check_settings, read_config, read_processor
from parrot.model.modeling_parrot import ParrotForConditionalGeneration
from parrot.model.processing_parrot import ParrotProcessor
from parrot.model.tokenizer import reading
from parrot.model.weights import check, headers, headers_of, reader

UNUSED = "unused.safetensors"
FORMAT = {"format": "pt"}


def import_released(source: Path, destination: Path, vision_tower: Path | None = None) -> None:
    """Write the model folder of a released checkpoint's folder; arguments and errors as `load_released`."""
    _refuse_filled(destination)
    opened = open_released(source, vision_tower)
    tensors, unused = read_tensors(source, opened.config)
    opened.config.architectures = [ParrotForConditionalGeneration.__name__]
    with new_folder(destination) as folder:
        opened.config.save_pretrained(folder)
        opened.generation_config.save_pretrained(folder)
        opened.processor.save_pretrained(folder)
        save_torch_state_dict(tensors, folder, metadata=FORMAT)
        if unused:
            save_file(unused, folder / UNUSED, metadata=FORMAT)


def export_released(source: Path, destination: Path) -> None:
    """Write a model folder in the released layout, its vision encoder's folder within.

    Raises:
        UserError: `source` is no whole model folder, or its model is one that the released code cannot express.
    """
    _refuse_filled(destination)
    config = _model_config(source)
    processor = read_processor(source)
    settings = _settings(source, config, processor)
    check_processor(processor, config, source)
    tensors, unused = _model_tensors(source, config), _unused_tensors(source, config)
    kept = config.released or {}
    with new_folder(destination) as folder:
        write_json(folder / "config.json", settings)
        generation = kept.get("generation_config.json", _generation(processor))
        write_json(folder / "generation_config.json", generation)
        write_tokenizer(processor.tokenizer, folder, str(source), kept)
        place = folder / tower_folder(settings["mm_vision_tower"], config)
        write_tower(tensors, config, processor.image_processor, place)
        parts = [released_parts(name, tensor, config) for name, tensor in tensors.items()]
        whole = {name: tensor.clone() for part in parts for name, tensor in part.items()}
        save_torch_state_dict(whole | unused, folder, metadata=FORMAT)


def _refuse_filled(destination: Path) -> None:
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise UserError(f"{destination}: expected a folder that does not exist yet or is empty")


def _model_config(source: Path) -> ParrotConfig:
    kind = read_object(source / "config.json").get("model_type")
    if kind != ParrotConfig.model_type:
        raise UserError(f"{source / 'config.json'}: model_type: expected {ParrotConfig.model_type}, found {kind}")
    if not (source / "processor_config.json").is_file():
        raise UserError(f"{source}: no processor_config.json; expected a model folder with its processor")
    config = read_config(source)
    check_settings(config, str(source / "config.json"))
    return config


def _settings(source: Path, config: ParrotConfig, processor: ParrotProcessor) -> dict[str, Any]:
    way, length = processor.image_processor.image_aspect_ratio, processor.tokenizer.model_max_length
    settings = released_config(
        config,
        str(source / "config.json"),
        mm_vision_tower=tower_name(config),
        tokenizer_model_max_length=min(length, config.text_config.max_position_embeddings),
    )
    if (settings.get("image_aspect_ratio") == "pad") != (way == "pad"):
        settings = {**settings, "image_aspect_ratio": "pad" if way == "pad" else "square"}
    return settings


def _generation(processor: ParrotProcessor) -> dict[str, Any]:
    return {
        "eos_token_id": processor.turn_end_id,
        "pad_token_id": processor.tokenizer.pad_token_id,
        "transformers_version": "4.39.0",
    }


def _model_tensors(source: Path, config: ParrotConfig) -> dict[str, Tensor]:
    found = headers(source)
    with reading(source / "config.json", SIZES):
        expected = shapes(config)
    check(source, found, expected, optional_tensors=optional_tensors(config))
    read = reader(found)
    return {name: read(name) for name in expected}


def _unused_tensors(source: Path, config: ParrotConfig) -> dict[str, Tensor]:
    """Released tensors that the model has no use for: those it was imported with, or one expert of width 1, all 0."""
    aside = unused_tensors(config)
    if (source / UNUSED).is_file():
        found = headers_of(source / UNUSED)
        check(source / UNUSED, found, aside, optional_tensors=optional_tensors(config))
        read = reader(found)
        return {name: read(name) for name in found}
    if aside and config.released is not None:
        raise UserError(f"{source}: no {UNUSED}; expected the experts that import-released put aside")
    return {name: torch.zeros(tensor.shape, dtype=config.dtype) for name, tensor in aside.items()}
