"""Is a model folder whole? Config, weights, tokenizer and image settings, before anything of it is used.

Of weights the headers alone are read: names and shapes are held against the architecture as transformers loads it, on
the meta device. What transformers would replace by a default of its own has to be there.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)

from parrot.config.base import validate
from parrot.config.settings import ModelSettings
from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.io.files import read_object
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.image_processing_parrot import ParrotImageProcessor
from parrot.model.modeling_parrot import ParrotForConditionalGeneration
from parrot.model.processing_parrot import ParrotProcessor, image_processor_of
from parrot.model.tokenizer import (
    check_own,
    check_text,
    check_tokenizer_files,
    check_vocabulary,
    in_one_line,
    read_tokenizer,
)
from parrot.model.weights import be_quiet, check_file, headers, unsharded

Kind = Literal["Parrot model", "image-text-to-text model", "translation model", "language model", "vision encoder"]
CONFIG, GENERATION = "config.json", "generation_config.json"
PIXELS, PROCESSOR = "preprocessor_config.json", "processor_config.json"
RESERVED = "image_processor"  # key of the image processor's settings in PROCESSOR
# By model_type, fields of CONFIG that decide what is computed and no tensor's shape: without one of them transformers
# would take its own default.
DECIDING: dict[str, tuple[str, ...]] = {
    "parrot": (
        *("text_config", "vision_config", "image_token_id", "projector_type", "vision_feature_layer"),
        *("vision_feature_select", "num_experts", "expert_type", "residual", "moe_weight", "alpha"),
        *("router", "router_text"),
    ),
    "qwen2": ("hidden_act", "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "rope_parameters"),
    "clip_vision_model": ("hidden_act", "layer_norm_eps", "num_attention_heads"),
}


def check_folder(folder: str | Path, kind: Kind | None = None) -> None:
    """Check everything but the values of the weights; `kind`: what the folder is meant for, by default what it says.

    Raises:
        UserError: names the first thing that is missing, damaged or does not fit the rest of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder")
    if not os.path.lexists(folder / CONFIG):
        raise UserError(f"{folder}: no {CONFIG}; expected a model folder in transformers' format")
    check_counts(folder / CONFIG, ("num_hidden_layers",), len(headers(folder)))
    config = read_config(folder)
    _, check = KINDS[kind_of(folder, config, kind)]
    be_quiet()
    check(folder, config)


def kind_of(folder: Path, config: Any, meant: Kind | None = None) -> Kind:
    """Return what the folder of a model with `config` is: what is `meant`, or by default the first that fits.

    Raises:
        UserError: it is none of a kind of ours, or not what is meant.
    """
    found = [each for each, (is_one, _) in KINDS.items() if is_one(config)]
    if not found or meant not in (None, *found):
        wanted = meant or " or ".join(KINDS)
        article = "an" if wanted[0] in "aeiou" else "a"
        raise UserError(f"{folder / CONFIG}: model_type: expected {article} {wanted}, found {config.model_type}")
    return meant or found[0]


def read_config(folder: Path) -> Any:
    """Read the configuration of a model folder; no code of it runs.

    Raises:
        UserError: there is none that can be read.
    """
    path = folder / CONFIG
    check_file(path)
    fields = read_object(path)
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UserError(f"{path}: model_type: expected an architecture that transformers knows, found {kind!r}")
    _check_said(fields, str(path))
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # configurations check their fields by errors of many kinds
        raise UserError(f"{path}: expected the configuration of a {kind} model: {in_one_line(error)}") from None


def _check_said(fields: dict[str, Any], where: str) -> None:
    """Check that every field of `DECIDING` is there; a Parrot model's two parts are checked as well.

    Raises:
        UserError: one is not.
    """
    kind = fields["model_type"]
    said = fields | ({"rope_parameters": fields["rope_theta"]} if "rope_theta" in fields else {})  # its older name
    for name in DECIDING.get(kind, ()):
        if name not in said:
            raise UserError(f"{where}: {name}: expected a value, found nothing")
    for name in ("text_config", "vision_config") if kind == ParrotConfig.model_type else ():
        part = fields[name]
        if not isinstance(part, dict) or not isinstance(part.get("model_type"), str):
            raise UserError(f"{where}: {name}: expected a configuration with its model_type, found {part!r:.60}")
        _check_said(part, f"{where}: {name}")


def check_counts(path: Path, names: Sequence[str], tensors: int) -> None:
    """Check that there are no more layers, or what `names` says, than tensors.

    All would be made before missing weights are noticed.

    Raises:
        UserError: there are.
    """
    check_file(path)
    fields = read_object(path)
    for part in (fields, *(value for value in fields.values() if isinstance(value, dict))):
        for name in names:
            count = part.get(name)
            if isinstance(count, int) and count > tensors:
                raise UserError(f"{path}: {name}: expected at most the weights' {tensors}, found {count}")


def check_weights(kind: Any, folder: Path, config: Any, surplus: bool) -> None:
    """Compare the headers of a folder's weights with a model of class `kind`; `surplus`: whether others are refused.

    Raises:
        UserError: names the first tensor that is missing, of another shape or not the model's.
    """
    found = headers(folder)
    state = {name: torch.empty(header.shape, device="meta") for name, header in found.items()}
    try:
        with unsharded():
            model, report = kind.from_pretrained(
                None,
                config=copy.deepcopy(config),
                state_dict=state,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except Exception as error:  # a model's modules refuse sizes by errors of many kinds
        raise UserError(f"{folder / CONFIG}: expected sizes that make a model: {in_one_line(error)}") from None
    expected = model.state_dict()
    wrong: list[tuple[str, Any, Any]] = [
        (name, tuple(expected[name].shape), "nothing") for name in report["missing_keys"]
    ]
    wrong += [(name, tuple(wanted), tuple(has)) for name, has, wanted in report["mismatched_keys"]]
    wrong += [(name, "nothing", "a tensor") for name in report["unexpected_keys"] if surplus]
    if wrong:
        name, wanted, has = min(wrong, key=str)
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{folder}: the weights: {name}: expected {wanted} by {CONFIG}, found {has}{others}")


def _vision_encoder(folder: Path, config: Any) -> None:
    vision = getattr(config, "vision_config", config)
    check_weights(MODEL_MAPPING[type(config)], folder, config, surplus=not _sees_and_writes(config))
    path, _ = image_settings(folder)
    try:
        processor = image_processor_of(folder, vision)
    except Exception as error:  # fields of an image processor are read without being checked
        raise UserError(f"{path}: expected an image processor's settings: {in_one_line(error)}") from None
    check_pixels(folder, processor, vision)


def _language_model(folder: Path, config: Any) -> None:
    check_weights(MODEL_FOR_CAUSAL_LM_MAPPING[type(config)], folder, config, surplus=True)
    tokenizer = read_tokenizer(folder)
    check_vocabulary(tokenizer, config, folder)
    check_own(tokenizer, config, folder)


def _translation_model(folder: Path, config: Any) -> None:
    check_weights(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)], folder, config, surplus=True)
    check_vocabulary(read_tokenizer(folder), config, folder)


def _image_text_to_text_model(folder: Path, config: Any) -> None:
    """Check what all architectures have in common; the rest is found when processor and weights are loaded."""
    kind = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    if getattr(config, "quantization_config", None) is None:  # else tensors have other names and shapes
        check_weights(kind, folder, config, surplus=False)
    image_settings(folder)
    read_tokenizer(folder)


def check_settings(config: ParrotConfig, where: str) -> None:
    """Check that a run's settings could have given every field.

    Raises:
        UserError: one could not; the line begins with `where`.
    """
    fields = {name: getattr(config, name) for name in ModelSettings.model_fields if hasattr(config, name)}
    fields |= {"top_k": config.moe_top_k, "projector": config.projector_type}
    names = {"vision_tower": config.vision_config.model_type, "language_model": config.text_config.model_type}
    validate(ModelSettings, fields | names, where)


def _parrot_model(folder: Path, config: ParrotConfig) -> None:
    check_settings(config, str(folder / CONFIG))
    check_weights(ParrotForConditionalGeneration, folder, config, surplus=True)
    for name in (PROCESSOR, GENERATION):
        if not os.path.lexists(folder / name):
            raise UserError(f"{folder}: no {name}; expected a model folder that training wrote")
        check_file(folder / name)
    if read_object(folder / GENERATION).get("eos_token_id") is None:
        raise UserError(f"{folder / GENERATION}: eos_token_id: expected the token that ends a turn, found none")
    check_processor(read_processor(folder), config, folder)


def read_processor(folder: Path) -> ParrotProcessor:
    """Load the processor of a Parrot model folder.

    Raises:
        UserError: files are missing or cannot be read.
    """
    check_tokenizer_files(folder)
    image_settings(folder)
    try:
        return ParrotProcessor.from_pretrained(folder)
    except Exception as error:  # tokenizers raises no other kind for a file that it cannot read
        raise UserError(f"{folder}: no readable processor: {in_one_line(error)}") from None


def check_processor(processor: ParrotProcessor, config: ParrotConfig, folder: Path) -> None:
    """Check that a model folder's processor loses no text and is of the kind that `config` says.

    Raises:
        UserError: it does, or is of another kind.
    """
    if processor.image_token_id != config.image_token_id:
        raise UserError(
            f"{folder}: tokenizer: expected {IMAGE_TOKEN} to be token {config.image_token_id}, found "
            f"{processor.image_token_id}"
        )
    check_text(processor.tokenizer, folder)
    check_vocabulary(processor.tokenizer, config, folder)
    for name in ("num_image_tokens", "router_text", "languages"):
        expected, found = getattr(config, name), getattr(processor, name)
        if expected != found:
            raise UserError(f"{folder / PROCESSOR}: {name}: expected {expected} by {CONFIG}, found {found}")
    check_pixels(folder, processor.image_processor, config.vision_config)


def image_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return an image processor's settings and their file, of the two that transformers looks into."""
    path = folder / PROCESSOR
    if os.path.lexists(path):
        check_file(path)
        settings = read_object(path).get(RESERVED)
        if isinstance(settings, dict):
            return path, settings
    path = folder / PIXELS
    if not os.path.lexists(path):
        raise UserError(f"{folder}: no {PIXELS}; expected how images are prepared for the encoder")
    check_file(path)
    return path, read_object(path)


def check_pixels(folder: Path, processor: ParrotImageProcessor, vision: Any) -> None:
    """Check that an image becomes what the encoder `vision` reads, by settings that are in the folder.

    Raises:
        UserError: it does not.
    """
    path, settings = image_settings(folder)
    channels = getattr(vision, "num_channels", 3)
    for name in ("image_mean", "image_std"):
        values: Any = settings.get(name)
        numbers = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
        if not numbers or len(values) != channels or not all(map(math.isfinite, values)):
            raise UserError(f"{path}: {name}: expected {channels} numbers, found {values}")
    if min(settings["image_std"]) <= 0:
        raise UserError(f"{path}: image_std: expected numbers above 0, found {settings['image_std']}")
    if "size" not in settings:
        raise UserError(f"{path}: size: expected the side of the images, {vision.image_size}, found nothing")
    side = vision.image_size
    try:
        pixels = processor(Image.new("RGB", (side + 2, side)), return_tensors="pt")["pixel_values"]
    except Exception as error:  # fields of an image processor are used without being checked
        raise UserError(f"{path}: expected settings that prepare an image: {in_one_line(error)}") from None
    if pixels.shape != (1, channels, side, side):
        found = " x ".join(map(str, pixels.shape[1:]))
        raise UserError(f"{path}: expected images of {channels} x {side} x {side} by {CONFIG}, found {found}")


def _sees_and_writes(config: Any) -> bool:
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def _sees(config: Any) -> bool:
    return type(config) in MODEL_MAPPING and hasattr(getattr(config, "vision_config", config), "patch_size")


# How a config tells a kind, and the kind's check. A folder of several kinds is the first, unless meant for another.
KINDS: dict[Kind, tuple[Callable[[Any], bool], Callable[[Path, Any], None]]] = {
    "Parrot model": (lambda config: isinstance(config, ParrotConfig), _parrot_model),
    "image-text-to-text model": (_sees_and_writes, _image_text_to_text_model),
    "translation model": (lambda config: type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, _translation_model),
    "language model": (lambda config: type(config) in MODEL_FOR_CAUSAL_LM_MAPPING, _language_model),
    "vision encoder": (_sees, _vision_encoder),
}
