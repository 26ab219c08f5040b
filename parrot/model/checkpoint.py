"""Load a model and its processor from a folder: a Parrot model's, a released checkpoint's, or any other VLM's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from parrot.io.files import read_object
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.convert import load_released
from parrot.model.convert.config import RELEASED_TYPE, named_tower
from parrot.model.convert.files import find_vision_tower
from parrot.model.convert.opening import open_released
from parrot.model.folder import check_folder, read_processor
from parrot.model.modeling_parrot import ParrotForConditionalGeneration
from parrot.model.processing_parrot import ParrotProcessor
from parrot.model.vlm import load_vlm, load_vlm_processor
from parrot.model.weights import aligned, be_quiet, check_finite, pretrained


def load(folder: str | Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load a Parrot model, as `load_parrot` does, or any image-text-to-text model of transformers, as `load_vlm` does.

    Raises:
        UserError: the folder is no model's, or not whole.
    """
    ours = model_type(folder) in (ParrotConfig.model_type, RELEASED_TYPE)
    return load_parrot(folder, dtype) if ours else load_vlm(folder, dtype)


def load_parrot(
    folder: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """Load the model of a run's model folder or of a released checkpoint, in evaluation mode, and its processor.

    Raises:
        UserError: the folder is no Parrot model's, or not whole.
    """
    be_quiet()
    if model_type(folder) == RELEASED_TYPE:
        model, processor = load_released(folder, dtype=dtype)
        check_finite(model.state_dict(), folder)
        return aligned(model), processor
    check_folder(folder, "Parrot model")
    model = pretrained(ParrotForConditionalGeneration, folder, dtype)
    return model.eval(), read_processor(Path(folder))


def load_processor(folder: str | Path) -> Any:
    """Load the processor that `load` gives, without the model; the folder is checked all the same."""
    kind = model_type(folder)
    if kind == RELEASED_TYPE:
        return open_released(Path(folder)).processor
    if kind == ParrotConfig.model_type:
        check_folder(folder, "Parrot model")
        return read_processor(Path(folder))
    return load_vlm_processor(folder)


def folders_of(folder: str | Path) -> list[Path]:
    """Return the folders whose files make the model: `folder`, and for a released checkpoint its vision encoder's."""
    folder = Path(folder)
    if model_type(folder) != RELEASED_TYPE:
        return [folder]
    path = folder / "config.json"
    return [folder, find_vision_tower(folder, named_tower(read_object(path), str(path)), None)]


def model_type(folder: str | Path) -> Any:
    """Read config.json's `model_type`; None where there is none that can be read, which loading explains."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None  # a pipe would be waited for
    except (OSError, ValueError, RecursionError):
        return None
    return config.get("model_type") if isinstance(config, dict) else None
