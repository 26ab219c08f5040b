"""The vision encoder's own folder, which the released code reads before the checkpoint's weights."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_NAME

from parrot.io.files import write_json
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.image_processing_parrot import ParrotImageProcessor

_CONFIG = (
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
    write_json(folder / "config.json", {**described, **{name: settings[name] for name in _CONFIG}})
    pixels = processor.to_dict()
    kind = {"image_processor_type": "CLIPImageProcessor"}
    write_json(folder / "preprocessor_config.json", {**kind, **{name: pixels[name] for name in _PIXELS}})
