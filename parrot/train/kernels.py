"""Which attention kernel a training runs, and what of it is compiled."""

from __future__ import annotations

from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available

from parrot.config.hardware import TrainingHardware
from parrot.errors import ConfigError


def choose(model: Any, hardware: TrainingHardware, precision: str, where: str) -> None:
    """Set the language model's attention and compile its layers, as `hardware` says; `where` names it in errors.

    The vision encoder keeps `sdpa`: its pictures are all of one length, and nothing of them is masked.

    Raises:
        ConfigError: an attention that cannot run here; nothing else is taken in its place.
    """
    lack = _lack(hardware.attention, precision)
    if lack is not None:
        raise ConfigError(f"{where}.attention: {hardware.attention} needs {lack}; expected sdpa here")
    model.set_attn_implementation({"text_config": hardware.attention, "vision_config": "sdpa"})
    if hardware.compile:
        for layer in model.model.language_model.layers:
            layer.compile()


def _lack(attention: str, precision: str) -> str | None:
    """What `attention` needs and this machine or the recipe does not have."""
    if attention not in ("flash_attention_2", "flex_attention"):
        return None
    if not torch.cuda.is_available():
        return "a GPU"
    if attention == "flex_attention":
        return None
    if not is_flash_attn_2_available():
        return "the package flash-attn"
    return None if precision == "bf16" else f"precision bf16, found {precision}"
