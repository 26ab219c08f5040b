"""What no run may say: settings that nothing reads, and layers that its vision encoder has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parrot.config.estimates import VisionShape
from parrot.config.settings import BackboneFolder, Config, ExpertSettings, ModelSettings
from parrot.errors import ConfigError
from parrot.io.files import read_json

OF_A_SCALE = ("hardware", "scale", "report", "data_pin", "limits")


def check_overrides(overrides: dict[str, Any], config: Config, where: str) -> None:
    """ConfigError, starting with `where`, for what the `overrides` of a run say and its `config` lets nothing read."""
    for name in OF_A_SCALE:
        if name in overrides:
            raise ConfigError(f"{where}: {name}: expected in a config file, which all runs of a scale share")
    if config.tune.language_model != "lora" and "lora" in overrides.get("tune", {}):
        raise ConfigError(f"{where}: tune.lora: expected tune.language_model lora beside it")
    model = overrides.get("model", {})
    if config.model.hf is not None:
        unread = [name for name in overrides if name not in ("model", "evaluate")]
        unread += [f"model.{name}" for name in model if name not in ("hf", "revision")]
        if unread:
            raise ConfigError(f"{where}: {unread[0]}: expected none beside model.hf, which is asked as it is")
    for name, instead in _unread(config.model):
        if name in model:
            raise ConfigError(f"{where}: model.{name}: expected {instead} beside it")


def _unread(model: ModelSettings) -> Iterator[tuple[str, str]]:
    """Fields of `model` that nothing reads, and what would have to be said for them to be read."""
    if model.hf is None:
        yield "revision", "model.hf"
    if model.num_experts == 0:
        for name in ExpertSettings.model_fields:
            if name != "num_experts":
                yield name, "model.num_experts of 1 or more"
    if model.residual == "released":
        yield "alpha", "model.residual paper"
    else:
        yield "moe_weight", "model.residual released"
    if model.router not in ("text", "shuffled_text"):
        yield "router_text", "model.router text or shuffled_text"


def check_layer(layer: int, encoder: BackboneFolder, where: str) -> None:
    """ConfigError, starting with `where`, for a hidden state that `encoder` has not; 0 is its embeddings, -1 its last.

    How many layers it has, its folder says, or the catalogue until that is fetched; without either all is allowed.
    """
    file = Path(encoder.path, "config.json")
    if file.is_file():
        said = read_json(file)
        said = said.get("vision_config", said) if isinstance(said, dict) else {}
        layers = said.get("num_hidden_layers") if isinstance(said, dict) else None
    else:
        layers = encoder.shape.num_hidden_layers if isinstance(encoder.shape, VisionShape) else None
    if isinstance(layers, int) and not -layers - 1 <= layer <= layers:
        expected = f"expected {-layers - 1} to {layers}, for the encoder's {layers} layers"
        raise ConfigError(f"{where}: {expected}, found {layer}")
