"""The released checkpoints: loading, importing and exporting their layout."""

from __future__ import annotations

from pathlib import Path

import torch

from parrot.model.modeling import ParrotForConditionalGeneration
from parrot.model.processing import ParrotProcessor
from parrot.model.released.opening import open_released


def load_released(
    folder: str | Path,
    vision_tower: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    config: Path | None = None,
) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """The model of a released checkpoint's folder, in evaluation mode, and its processor.

    `vision_tower` is the vision encoder's folder where config.json's is not found; `config` is a file to read in
    place of the folder's config.json. ConfigError names what is wrong with the folder.
    """
    opened = open_released(Path(folder), vision_tower, config)
    model = ParrotForConditionalGeneration.from_pretrained(
        folder, config=opened.config, dtype=dtype, vision_tower=vision_tower
    )
    return model.eval(), opened.processor
