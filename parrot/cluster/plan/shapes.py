"""A run's model by its sizes alone: no weights are read, and the backbones need not be on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModel, AutoModelForCausalLM, CLIPVisionConfig, Qwen2Config

from parrot.cluster.plan.jobs import Stage
from parrot.config.catalog import BackboneFolder, TextShape, VisionShape
from parrot.config.runs import Run, Suite
from parrot.config.settings import Tuning
from parrot.config.staleness import key
from parrot.errors import ConfigError
from parrot.model import ParrotConfig, ParrotForConditionalGeneration
from parrot.model.build import configuration, trainable
from parrot.model.folder import kind_of, read_config
from parrot.train.adapters import add_adapters


class Parameters(NamedTuple):
    """Numbers of a model's parameters: all, those that a stage trains, and those of the largest module that ZeRO
    gathers as a whole (the embeddings, the head or the expert block)."""

    total: int
    trained: int
    largest: int


class Shapes:
    """Configurations and parameter counts of a suite's runs, each worked out once."""

    def __init__(self, suite: Suite):
        self.suite = suite
        self._configs: dict[str, ParrotConfig] = {}
        self._parameters: dict[str, Parameters] = {}
        self._backbones: dict[str, int] = {}

    def config(self, run: Run, stage: Stage) -> ParrotConfig:
        """The model that a stage of `run` builds; ConfigError for a backbone whose sizes nobody says."""
        model = run.config.model
        said = key([stage, model])
        if said not in self._configs:
            vision = self._backbone(model.vision_tower, VisionShape)
            language = self._backbone(model.language_model, TextShape)
            settings = run.tune if stage == "tune" else run.align
            self._configs[said] = configuration(settings, vision, language)
        return self._configs[said]

    def parameters(self, run: Run, stage: Stage, tuning: Tuning | None = None) -> Parameters:
        """Of the model of a stage of `run`; `tuning` in place of the run's own."""
        tuning = tuning or run.config.tune.language_model
        said = key([stage, tuning, run.config.model, run.config.tune.lora])
        if said not in self._parameters:
            with torch.device("meta"):
                model = ParrotForConditionalGeneration(self.config(run, stage))
            if stage == "tune" and tuning == "lora":
                add_adapters(model, run.config.tune.lora, seed=0)
            trained = sum(model.get_parameter(name).numel() for name in trainable(model, stage, tuning))
            parts = [model.get_input_embeddings(), model.lm_head, model.model.expert_block]
            largest = max(sum(p.numel() for p in part.parameters()) for part in parts if part is not None)
            self._parameters[said] = Parameters(sum(p.numel() for p in model.parameters()), trained, largest)
        return self._parameters[said]

    def backbone_parameters(self, name: str) -> int:
        """Of a vision encoder's or a language model's folder, embeddings and head included."""
        if name not in self._backbones:
            vision = isinstance(self._entry(name).shape, VisionShape)
            config = self._backbone(name, VisionShape if vision else TextShape)
            with torch.device("meta"):
                model = (AutoModel if vision else AutoModelForCausalLM).from_config(config)
            self._backbones[name] = model.num_parameters()
        return self._backbones[name]

    def _entry(self, name: str) -> BackboneFolder:
        entry = self.suite.datasets[name]
        assert isinstance(entry, BackboneFolder)
        return entry

    def _backbone(self, name: str, shape: type[VisionShape | TextShape]) -> Any:
        """The sizes in the backbone's folder, or those that the catalogue says until it is fetched."""
        entry = self._entry(name)
        if Path(entry.path, "config.json").is_file():
            config = read_config(Path(entry.path))
            kind_of(Path(entry.path), config, "vision encoder" if shape is VisionShape else "language model")
            return getattr(config, "vision_config", config) if shape is VisionShape else config
        if not isinstance(entry.shape, shape):
            raise ConfigError(f"config/datasets.yaml: {name}: shape: expected one, as {entry.path} is not there")
        kind = CLIPVisionConfig if shape is VisionShape else Qwen2Config
        return kind(**entry.shape.model_dump())
