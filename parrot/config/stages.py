"""What each stage reads: resolved settings, whose digests decide which results are out of date."""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import Field

from parrot.config.base import Several, StrictModel
from parrot.config.benchmarks import Benchmark, Control
from parrot.config.catalog import BackboneFolder, ConversationSet, Dataset, ImageArchive, Language
from parrot.config.settings import (
    Conventions,
    ExpertSettings,
    ImageReading,
    JudgeSettings,
    LoraSettings,
    Recipe,
    TuneRecipe,
)
from parrot.constants import LANGUAGES, PAPER_LANGUAGES

Read = TypeVar("Read", ConversationSet, BackboneFolder, Benchmark)


class Tokenisation(StrictModel):
    """What a stage makes of its conversation sets before it trains; sets and backbones by catalogue name."""

    stage: Literal["align", "tune"]
    sets: Several[str]
    vision_tower: str
    language_model: str
    vision_feature_select: Literal["cls_patch", "patch"]
    max_length: int


class FetchSettings(StrictModel):
    """Every data set, backbone and benchmark that a run names, by catalogue name; all languages, trained on or not.

    `archives` are those of the data sets' images that config/images.yaml knows.
    """

    datasets: dict[str, Dataset]
    benchmarks: dict[str, Benchmark]
    archives: dict[str, ImageArchive] = {}
    tokenisations: Several[Tokenisation] = ()

    @property
    def given(self) -> list[str]:
        """Files that fetching finds rather than makes: the shipped ones and the user's own."""
        entries = (*self.datasets.values(), *self.benchmarks.values())
        return [
            file for entry in entries if entry.source in ("shipped", "local", "unpublished") for file in _files(entry)
        ]


class StageSettings(ImageReading):
    """What both stages read."""

    seed: int
    vision_tower: BackboneFolder
    language_model: BackboneFolder
    projector: Literal["linear", "mlp2x_gelu"]
    vision_feature_layer: int
    vision_feature_select: Literal["cls_patch", "patch"]
    data: Several[ConversationSet]


class AlignSettings(StageSettings):
    """Exactly what stage 1 reads; its digest is the run's stage-1 key."""

    recipe: Recipe


class TuneSettings(StageSettings):
    """Exactly what stage 2 reads, besides stage 1's projector."""

    experts: ExpertSettings
    validation: Several[ConversationSet]
    recipe: TuneRecipe

    @property
    def router_languages(self) -> tuple[Language, ...]:
        """The languages that the router `language` knows: the paper's, then others that the run trains on."""
        known = {*PAPER_LANGUAGES, *(entry.language for entry in self.data)}
        return tuple(language for language in LANGUAGES if language in known)


class PredictSettings(StrictModel):
    """Exactly what prediction reads, besides the run's own model."""

    model: BackboneFolder | None = Field(None, description="evaluated as pretrained, where the run trains no model")
    benchmarks: Several[Benchmark]
    controls: Several[Control]
    prompt_language: Literal["dataset", "group"]
    dtype: Literal["fp32", "bf16"]
    translator: Literal["none", "parallel_rows"] | BackboneFolder = "none"
    missing_values: Literal["strings", "vlmevalkit"] = "strings"


class ScoreSettings(Conventions):
    """Exactly what scoring reads, besides the predictions."""

    run: str
    seed: int
    benchmarks: Several[Benchmark]
    controls: Several[Control]
    resamples: int
    judge: JudgeSettings | None = None


def as_read(entry: Read) -> Read:
    """Return the entry without what no stage reads: another licence or title must not make a model stale."""
    unread = {"licence": "", "title": "", "estimate": None, "shape": None}
    return entry.model_copy(update={name: value for name, value in unread.items() if name in type(entry).model_fields})


def recipe_as_read(recipe: TuneRecipe) -> TuneRecipe:
    """Return the recipe without adapters that are not trained: other ones must not make a model stale."""
    return recipe if recipe.language_model == "lora" else recipe.model_copy(update={"lora": LoraSettings()})


def _files(entry: ConversationSet | BackboneFolder | Benchmark) -> list[str]:
    match entry:
        case ConversationSet():
            return [entry.file]
        case BackboneFolder():
            return [f"{entry.path}/model.safetensors"]
        case Benchmark():
            return [f"{entry.folder}/{file}" for file in entry.files.values()]
