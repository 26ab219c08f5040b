"""The tokenizer's and the vision encoder's files of a released checkpoint.

They are written as the released code's libraries (transformers 4.39, tokenizers 0.15) read them.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer
from transformers.utils import SAFE_WEIGHTS_NAME

from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.io.files import atomic_write, read_object, real_path, write_json
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.image_processing_parrot import ParrotImageProcessor
from parrot.model.weights import check_file

_TOKEN_FIELDS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
_VISION = (
    "attention_dropout",
    "hidden_act",
    "hidden_size",
    "image_size",
    "initializer_factor",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "model_type",
    "num_attention_heads",
    "num_channels",
    "num_hidden_layers",
    "patch_size",
    "projection_dim",
)
_PIXELS = (
    "crop_size",
    "do_center_crop",
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, where: str, kept: dict[str, Any]) -> None:
    """Write vocab.json, merges.txt, added_tokens.json, tokenizer.json and the two configs of them into `folder`.

    `<image>` is left out: the released code never tokenises it. `kept` are JSON files by name that an imported model
    came with; they win over what is derived here.

    Raises:
        UserError: the tokenizer is not Qwen2's, or a token would get another id there.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    _check_kind(spec, where)
    model = spec["model"]
    vocabulary = {token: id_ for token, id_ in sorted(model["vocab"].items(), key=_second) if token != IMAGE_TOKEN}
    added = [token for token in spec["added_tokens"] if token["content"] != IMAGE_TOKEN]
    _check_ids(vocabulary, added, where)
    # tokenizers 0.15 knows a merge as one string; no byte-level token holds a blank.
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    whole = {"vocab": vocabulary, "merges": merges, "continuing_subword_prefix": "", "end_of_word_suffix": ""}
    model = {name: value for name, value in model.items() if name != "ignore_merges"} | whole
    written = {"added_tokens": added, "truncation": None, "padding": None, "model": model}
    write_json(folder / "tokenizer.json", spec | written)
    write_json(folder / "vocab.json", vocabulary)
    atomic_write(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    write_json(folder / "added_tokens.json", {token["content"]: token["id"] for token in added})
    by_id = {str(token["id"]): {name: token[name] for name in _TOKEN_FIELDS} for token in added}
    special = _special_tokens(tokenizer, added)
    config = {**_config(tokenizer), **special, **kept.get("tokenizer_config.json", {}), "added_tokens_decoder": by_id}
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", kept.get("special_tokens_map.json", special))


def _second(item: tuple[str, int]) -> int:
    return item[1]


def _check_kind(spec: dict[str, Any], where: str) -> None:
    """Cut texts as Qwen2 does, since the released code does so whatever the files say."""
    known = json.loads(Qwen2Tokenizer(vocab={}, merges=[]).backend_tokenizer.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        if spec[part] != known[part]:
            raise UserError(f"{where}: tokenizer: {part}: expected Qwen2's")
    if spec["model"]["type"] != "BPE":
        raise UserError(f"{where}: tokenizer: model: expected byte-level BPE, found {spec['model']['type']}")


def _check_ids(vocabulary: dict[str, int], added: list[dict[str, Any]], where: str) -> None:
    """There, an added token outside the vocabulary gets the next free id."""
    beside = sorted((token["id"], token["content"]) for token in added if token["content"] not in vocabulary)
    for expected, (id_, token) in enumerate(beside, start=len(vocabulary)):
        if id_ != expected:
            raise UserError(f"{where}: tokenizer: {token}: id {id_} would become {expected} in the released layout")


def _special_tokens(tokenizer: PreTrainedTokenizerBase, added: list[dict[str, Any]]) -> dict[str, Any]:
    named = {"eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token, "unk_token": tokenizer.unk_token}
    others = [token["content"] for token in added if token["special"] and token["content"] not in named.values()]
    return {"additional_special_tokens": others, **named}


def _config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": tokenizer.model_max_length,
        "padding_side": "right",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
    }


def find_vision_tower(folder: Path, named: str, given: str | Path | None) -> Path:
    """Return the vision encoder's folder; nothing is downloaded.

    It is `named` (config.json's mm_vision_tower) in the checkpoint's folder, else beside it, else `given`.

    Raises:
        UserError: it is in none of these places, or the encoder is not CLIP.
    """
    places = [folder / named, real_path(folder).parent / named, *([Path(given)] if given is not None else [])]
    for place in places:
        if (place / "config.json").is_file():
            break
    else:
        looked = ", ".join(map(str, places))
        raise UserError(f"{folder}: mm_vision_tower: no folder with a config.json at {looked}; name it by vision_tower")
    check_file(place / "config.json")
    kind = read_object(place / "config.json").get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise UserError(f"{place / 'config.json'}: model_type: expected clip or clip_vision_model, found {kind}")
    if not (place / "preprocessor_config.json").is_file():
        raise UserError(f"{place}: no preprocessor_config.json; expected how the encoder's images are prepared")
    return place


def tower_name(config: ParrotConfig) -> str:
    """`mm_vision_tower` for a model trained here; the released code knows a CLIP encoder by "/clip-vit" in it."""
    vision = config.vision_config
    return f"./clip-vit-patch{vision.patch_size}-{vision.image_size}"


def tower_folder(named: str, config: ParrotConfig) -> str:
    """Where in the export the encoder's folder goes: at `mm_vision_tower`, unless that leads out of the export."""
    path = PurePosixPath(named)
    return tower_name(config) if path.is_absolute() or ".." in path.parts else named


def write_tower(
    tensors: dict[str, Tensor], config: ParrotConfig, processor: ParrotImageProcessor, folder: Path
) -> None:
    """Write the encoder as transformers 4.39's CLIPVisionModel and CLIPImageProcessor read it.

    `tensors` are the whole model's, by this model's names.
    """
    folder.mkdir(parents=True)
    prefix = "model.vision_tower."
    vision = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    save_file(
        {f"vision_model.{name}": tensor for name, tensor in vision.items()},
        folder / SAFE_WEIGHTS_NAME,
        metadata={"format": "pt"},
    )
    settings = config.vision_config.to_dict()
    dtype = str(next(iter(vision.values())).dtype).removeprefix("torch.")
    described = {"architectures": ["CLIPVisionModel"], "torch_dtype": dtype, "transformers_version": "4.39.0"}
    write_json(folder / "config.json", {**described, **{name: settings[name] for name in _VISION}})
    pixels = processor.to_dict()
    kind = {"image_processor_type": "CLIPImageProcessor"}
    write_json(folder / "preprocessor_config.json", {**kind, **{name: pixels[name] for name in _PIXELS}})
