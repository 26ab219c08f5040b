"""A released checkpoint's folder, read and checked: configuration, processor, generation settings and tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers import GenerationConfig, Qwen2Tokenizer

from parrot.data.rgb import TRAITS
from parrot.errors import ConfigError
from parrot.io.files import read_object
from parrot.model.chat_template import TURN_END
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.convert.config import PADDING, parrot_config, vision_tower
from parrot.model.convert.files import find_vision_tower
from parrot.model.convert.names import from_parts, layout, passed_by, spare
from parrot.model.folder import check_counts, check_pixels, read_config
from parrot.model.image_processing_parrot import ParrotImageProcessor
from parrot.model.processing_parrot import ParrotProcessor
from parrot.model.tokenizer import check_text, check_tokenizer_files, check_vocabulary, in_one_line
from parrot.model.weights import Header, check, check_file, headers, reader

# Settings that the released folder holds as JSON; an export writes them back.
KEPT = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")


class Opened(NamedTuple):
    """What a released folder says of its model."""

    config: ParrotConfig
    processor: ParrotProcessor
    generation_config: GenerationConfig


def open_released(folder: Path, vision_tower_folder: str | Path | None = None) -> Opened:
    """Everything but the weights of `folder`; `vision_tower_folder` as `find_vision_tower`'s `given`.

    Raises:
        ConfigError: a file is missing or says what this model has not.
    """
    path = folder / "config.json"
    check_file(path)
    released = read_object(path)
    check_counts(path, ("num_hidden_layers", "num_experts"), len(headers(folder)))
    tower = find_vision_tower(folder, vision_tower(released, str(path)), vision_tower_folder)
    check_counts(tower / "config.json", ("num_hidden_layers",), len(headers(folder)))
    vision = read_config(tower)
    vision = getattr(vision, "vision_config", vision)
    with _told(tower / "preprocessor_config.json", "an image processor's settings"):
        images = _image_processor(tower, released, path)
    check_pixels(tower, images, vision)
    processor = ParrotProcessor(images, _tokenizer(folder))
    kept = {name: _kept(folder / name) for name in KEPT if os.path.lexists(folder / name)}
    fields = {"image_token_id": processor.image_token_id, "released": kept}
    with _told(path, "sizes and switches that make a model"):
        opened = parrot_config(released, str(path), vision, **fields)
    check_vocabulary(processor.tokenizer, opened, folder)
    processor.num_image_tokens = opened.num_image_tokens
    with _told(folder / "generation_config.json", "settings of generation"):
        generation = _generation_config(kept, processor)
    return Opened(opened, processor, generation)


def _kept(path: Path) -> dict[str, Any]:
    check_file(path)
    return read_object(path)


@contextmanager
def _told(path: Path, expected: str) -> Iterator[None]:
    """Around transformers' reading of what `path` holds: it checks fields by errors of many kinds, or by none."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: expected {expected}: {in_one_line(error)}") from None


def _image_processor(tower: Path, released: dict[str, Any], path: Path) -> ParrotImageProcessor:
    way = released.get("image_aspect_ratio")
    if way == "anyres":
        raise ConfigError(f"{path}: image_aspect_ratio: expected pad or another single view, found anyres")
    options = {"image_aspect_ratio": "pad" if way == "pad" else "crop"} | dict.fromkeys(TRAITS, "released")
    return ParrotImageProcessor.from_pretrained(tower, **options)


def _tokenizer(folder: Path) -> Qwen2Tokenizer:
    """As the released code loads it, with its own end and padding tokens; files hold no code, and none is asked for."""
    check_tokenizer_files(folder)
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, eos_token=TURN_END, pad_token=PADDING, unk_token=PADDING)
    except Exception as error:  # tokenizers raises no other kind for a file that it cannot read
        raise ConfigError(f"{folder}: tokenizer: cannot be read: {in_one_line(error)}") from None
    check_text(tokenizer, folder)
    return tokenizer


def _generation_config(kept: dict[str, Any], processor: ParrotProcessor) -> GenerationConfig:
    """The released settings, stopping at <|im_end|> as the released runner and VLMEvalKit's wrapper do."""
    tokens = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    settings = kept.get("generation_config.json", {})
    return GenerationConfig(**{name: value for name, value in settings.items() if name[0] != "_"} | tokens)


def read_tensors(folder: Path, config: ParrotConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """This model's tensors from the released weights of `folder`, and the released ones that it has no use for.

    The latter are a tied head's second copy, and router and experts where `use_moe` is false: the released code
    builds and saves those all the same. Nothing is read before names and shapes are checked.

    Raises:
        ConfigError: names the first tensor that is missing, wrongly shaped, unexpected or of another dtype.
    """
    found, parts, aside = headers(folder), layout(config), passed_by(config)
    check(folder, found, {name: tensor for part in parts.values() for name, tensor in part.items()}, spare(config))
    for part in parts.values():
        _one_dtype(folder, found, list(part))
    read = reader(found)
    tensors = {
        name: from_parts(name, [read(each) for each in part])
        for name, part in parts.items()
        if not aside.keys() & part.keys()
    }
    return tensors, {name: read(name) for name in found if name in aside or name in spare(config)}


def loading_arguments(
    folder: Path, vision_tower_folder: str | Path | None, config: ParrotConfig | None = None, **kwargs: Any
) -> dict[str, Any]:
    """What transformers' `from_pretrained` takes in place of `folder`; `kwargs` are what the caller asked for."""
    if config is None:
        opened = open_released(folder, vision_tower_folder)
        config, kwargs = opened.config, {"generation_config": opened.generation_config} | kwargs
    return {"config": config, "state_dict": read_tensors(folder, config)[0]} | kwargs


def _one_dtype(folder: Path, found: dict[str, Header], names: list[str]) -> None:
    """Stacked experts have one dtype."""
    for name in names[1:]:
        if found[name].dtype != found[names[0]].dtype:
            raise ConfigError(
                f"{folder}: {name}: expected {found[names[0]].dtype} like {names[0]}, found {found[name].dtype}"
            )
