"""Models that predict, before they are loaded: their files, their processor, and how each process loads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from parrot.config.settings import ImageReading
from parrot.config.stages import AlignSettings
from parrot.config.staleness import canonical
from parrot.evaluate.hf_predictor import HFPredictor
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predictor import Predictor, Processor
from parrot.io.digests import file_sha256
from parrot.model import ParrotForConditionalGeneration
from parrot.model.build import build, check_projector
from parrot.model.checkpoint import folders_of, load, load_parrot, load_processor
from parrot.model.folder import check_folder
from parrot.model.processing_parrot import processor_of


@dataclass(frozen=True)
class ModelSource:
    """A model that prediction can load in every process; its functions can be pickled.

    Attributes:
        folders: whose weights and JSON files the model is made of.
        load: gives the predictor.
        load_processor: gives its processor alone, without weights; UserError where the folders make no model.
        settings: what else the model is made by, as text.
    """

    folders: Sequence[Path]
    load: Callable[[], Predictor]
    load_processor: Callable[[], Processor]
    settings: str = ""

    def sha256(self) -> str:
        """Digest of the model: of the files' names and contents, whatever the folders' names, and of the settings."""
        digest = hashlib.sha256(self.settings.encode())
        for folder in self.folders:
            for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
                digest.update(f"{path.name} {file_sha256(path)}\n".encode())
        return digest.hexdigest()


def trained(folder: Path, dtype: torch.dtype) -> ModelSource:
    """Source of a run's model folder, or of a released checkpoint's."""
    return ModelSource(folders_of(folder), partial(_load_parrot, folder, dtype), partial(load_processor, folder))


def pretrained(folder: Path, dtype: torch.dtype) -> ModelSource:
    """Source of a Parrot model's folder or of any image-text-to-text model's in transformers' format."""
    return ModelSource(folders_of(folder), partial(_load, folder, dtype), partial(load_processor, folder))


def stage1(settings: AlignSettings, projector: Path, dtype: torch.dtype) -> ModelSource:
    """Source of a stage-1 model: its backbones and the projector's folder."""
    folders = [Path(settings.vision_tower.path), Path(settings.language_model.path), projector]
    load_processor = partial(_stage1_processor, settings, projector)
    made_by = settings.model_dump(mode="json", exclude={"data", "recipe", "vision_tower", "language_model"})
    return ModelSource(folders, partial(_build, settings, projector, dtype), load_processor, canonical(made_by))


def _load_parrot(folder: Path, dtype: torch.dtype) -> Predictor:
    return ParrotPredictor(*load_parrot(folder, dtype))


def _load(folder: Path, dtype: torch.dtype) -> Predictor:
    model, processor = load(folder, dtype)
    ours = isinstance(model, ParrotForConditionalGeneration)
    return ParrotPredictor(model, processor) if ours else HFPredictor(model, processor)


def _build(settings: AlignSettings, projector: Path, dtype: torch.dtype) -> Predictor:
    return ParrotPredictor(*build(settings, projector, dtype))


def _stage1_processor(settings: AlignSettings, projector: Path) -> Processor:
    check_folder(settings.vision_tower.path, "vision encoder")
    check_folder(settings.language_model.path, "language model")
    check_projector(settings, projector)
    reading = settings.model_dump(include=set(ImageReading.model_fields))
    folders = (settings.vision_tower.path, settings.language_model.path)
    return processor_of(*folders, settings.vision_feature_select, **reading)
