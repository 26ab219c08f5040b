"""Which attention kernel a training runs, and what of it is compiled."""

from __future__ import annotations

from typing import Any

import torch
from transformers.utils import is_flash_attn_2_available

from parrot.config import ConfigError
from parrot.hardware import TrainingHardware


def choose(model: Any, hardware: TrainingHardware, precision: str, where: str) -> None:
    """Set the language model's attention and compile its layers, as `hardware` says; `where` names it in errors.

    The vision encoder keeps `sdpa`: its pictures are all of one length, and nothing of them is masked.

    Raises:
        ConfigError: flash attention without a GPU, its package or half precision; nothing else is taken in its place.
    """
    if hardware.attention == "flash_attention_2":
        _check_flash_attention(precision, where)
    model.set_attn_implementation({"text_config": hardware.attention, "vision_config": "sdpa"})
    if hardware.compile:
        for layer in model.model.language_model.layers:
            layer.compile()


def _check_flash_attention(precision: str, where: str) -> None:
    lacks = None
    if not torch.cuda.is_available():
        lacks = "a GPU"
    elif not is_flash_attn_2_available():
        lacks = "the package flash-attn"
    elif precision != "bf16":
        lacks = f"precision bf16, found {precision}"
    if lacks is not None:
        raise ConfigError(f"{where}.attention: flash_attention_2 needs {lacks}; expected sdpa here")
