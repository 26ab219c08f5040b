"""Trainings and the shapes of their models: no weights are read, and the backbones need not be on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import AutoModel, AutoModelForCausalLM, CLIPVisionConfig, Qwen2Config

from parrot.cluster.jobs import Job
from parrot.config.catalog import BackboneFolder, TextShape, VisionShape
from parrot.config.hardware import TrainingHardware
from parrot.config.runs import Run
from parrot.config.settings import Recipe, Tuning
from parrot.config.staleness import key
from parrot.config.suite import Suite
from parrot.errors import UserError
from parrot.model import ParrotConfig, ParrotForConditionalGeneration
from parrot.model.build import configuration, trainable
from parrot.model.folder import kind_of, read_config
from parrot.train.adapters import add_adapters

Stage = Literal["align", "tune"]


class Training(NamedTuple):
    """A training job's run, stage, recipe, hardware and conversation sets (by name)."""

    run: Run
    stage: Stage
    recipe: Recipe
    hardware: TrainingHardware
    sets: tuple[str, ...]


def training(suite: Suite, job: Job) -> Training:
    """Return the training of `job`, whose rule is one of `TRAININGS`."""
    if job.rule == "align":
        run = suite.with_stage1(job.name)
        return Training(run, "align", run.config.align, run.config.hardware.align, run.config.data.align)
    run = suite.run(job.name)
    data = run.config.data
    sets = tuple(name for language in data.languages for name in data.instructions[language])
    return Training(run, "tune", run.config.tune, run.config.hardware.tune, sets)


class Parameters(NamedTuple):
    """Parameter counts of a model: all, those that a stage trains, and those of the largest sharded module.

    ZeRO and FSDP gather a module at a time; the largest is the embeddings, the head or the expert block.
    """

    total: int
    trained: int
    largest: int


class Shapes:
    """Configurations and parameter counts of a suite's runs, each computed once."""

    def __init__(self, suite: Suite):
        self.suite = suite
        self._configs: dict[str, ParrotConfig] = {}
        self._parameters: dict[str, Parameters] = {}
        self._backbones: dict[str, int] = {}

    def config(self, run: Run, stage: Stage) -> ParrotConfig:
        """Return the configuration of a stage's model.

        Raises:
            UserError: a backbone is missing and the catalogue has no shape for it.
        """
        model = run.config.model
        digest = key([stage, model])
        if digest not in self._configs:
            vision = self._backbone(model.vision_tower, VisionShape)
            language = self._backbone(model.language_model, TextShape)
            settings = run.tune if stage == "tune" else run.align
            self._configs[digest] = configuration(settings, vision, language)
        return self._configs[digest]

    def parameters(self, run: Run, stage: Stage, tuning: Tuning | None = None) -> Parameters:
        """Return the parameter counts of a stage's model; `tuning` overrides the run's own."""
        tuning = tuning or run.config.tune.language_model
        digest = key([stage, tuning, run.config.model, run.config.tune.lora])
        if digest not in self._parameters:
            with torch.device("meta"):
                model = ParrotForConditionalGeneration(self.config(run, stage))
            if stage == "tune" and tuning == "lora":
                add_adapters(model, run.config.tune.lora, seed=0)
            trained = sum(model.get_parameter(name).numel() for name in trainable(model, stage, tuning))
            parts = [model.get_input_embeddings(), model.lm_head, model.model.expert_block]
            largest = max(sum(p.numel() for p in part.parameters()) for part in parts if part is not None)
            self._parameters[digest] = Parameters(sum(p.numel() for p in model.parameters()), trained, largest)
        return self._parameters[digest]

    def backbone_parameters(self, name: str) -> int:
        """Return the parameters of a vision encoder or language model, embeddings and head included."""
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
        """Return the configuration in the backbone's folder, or the catalogue's shape until it is fetched."""
        entry = self._entry(name)
        if Path(entry.path, "config.json").is_file():
            config = read_config(Path(entry.path))
            kind_of(Path(entry.path), config, "vision encoder" if shape is VisionShape else "language model")
            return getattr(config, "vision_config", config) if shape is VisionShape else config
        if not isinstance(entry.shape, shape):
            raise UserError(f"config/datasets.yaml: {name}: shape: expected one, as {entry.path} does not exist")
        kind = CLIPVisionConfig if shape is VisionShape else Qwen2Config
        return kind(**entry.shape.model_dump())
