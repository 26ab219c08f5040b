"""The released checkpoints: loading, importing and exporting their layout."""

from __future__ import annotations

from pathlib import Path

import torch

from parrot.model.convert.opening import open_released
from parrot.model.modeling_parrot import ParrotForConditionalGeneration
from parrot.model.processing_parrot import ParrotProcessor


def load_released(
    folder: str | Path,
    vision_tower: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """The model of a released checkpoint's folder, in evaluation mode, and its processor.

    `vision_tower` is the vision encoder's folder where config.json's is not found. ConfigError names what is wrong.
    """
    opened = open_released(Path(folder), vision_tower)
    model = ParrotForConditionalGeneration.from_pretrained(
        folder, config=opened.config, generation_config=opened.generation_config, dtype=dtype
    )
    return model.eval(), opened.processor
