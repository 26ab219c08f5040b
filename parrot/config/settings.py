"""Typed settings: what ``config/config.yaml``, and the files laid over it, may say.

Every model forbids unknown keys, so that a misspelt key is an error and never a silent default. Nothing here imports
torch. Names of data sets, backbones and benchmarks are those of the catalogues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from parrot.config.base import Distinct, LearningRate, Several, Share, StrictModel, Text
from parrot.config.benchmarks import BenchmarkGeneration, Control
from parrot.config.catalog import Address, Language, Revision
from parrot.config.hardware import Hardware
from parrot.config.limits import Limits
from parrot.config.strict_yaml import read_yaml
from parrot.constants import PAPER_LANGUAGES

Tuning = Literal["full", "lora", "frozen"]


class ExpertSettings(StrictModel):
    """The expert block; the defaults are the released code's."""

    num_experts: int = Field(6, ge=0, le=1024, description="0: no expert block (the LLaVA-style baseline)")
    expert_intermediate_size: int = Field(4096, gt=0, le=1 << 20)
    expert_type: Literal["gated", "two_layer"] = Field("gated", description="two_layer: the paper's")
    top_k: int | None = Field(None, ge=1, description="experts that an image uses; none: all")
    residual: Literal["released", "paper"] = Field(
        "released",
        description="released: experts' sum + moe_weight x visual; paper: visual + alpha x experts' sum",
    )
    moe_weight: float = Field(0.1, ge=0, le=1000)
    alpha: float = Field(1.0, ge=0, le=1000)
    router: Literal["text", "uniform", "shuffled_text", "language", "image"] = Field(
        "text", description="what weighs the experts; all but text are controls"
    )
    router_text: Literal["prompt", "user"] = Field("prompt", description="user: without system prompt and role markers")
    router_balance: float = Field(0.0, ge=0, le=1000, description="coefficient of a load-balancing loss")

    @model_validator(mode="after")
    def _few_enough(self) -> ExpertSettings:
        if self.num_experts and self.top_k is not None and self.top_k > self.num_experts:
            raise ValueError(f"top_k: expected at most num_experts, {self.num_experts}, found {self.top_k}")
        return self


class ImageReading(StrictModel):
    """How pixels are made 8-bit RGB where a file says more of them; `released` is the released code's way throughout.

    A photograph of 8 bits a channel, upright and opaque, is the same by every way.
    """

    image_orientation: Literal["exif", "released"] = Field(
        "exif", description="exif: turned upright as EXIF says; released: as it is stored"
    )
    image_high_bit_grey: Literal["scaled", "released"] = Field(
        "scaled", description="greys of 16 or 32 bits and floats; scaled: to 8 bits; released: clipped to 0..255"
    )
    image_alpha: Literal["white", "released"] = Field(
        "white", description="white: transparent images are laid on white; released: the alpha channel is dropped"
    )


class ModelSettings(ExpertSettings, ImageReading):
    """Architecture; backbones are names of the data-set catalogue (kind backbone)."""

    hf: Text | None = Field(
        None,
        description="an image-text-to-text model of transformers that a run evaluates as pretrained, without training: "
        "a backbone of config/datasets.yaml, a folder, or a hub repository as owner/name",
    )
    revision: Revision | None = Field(None, description="of the hub repository that hf is; none: main")
    vision_tower: Text
    language_model: Text
    projector: Literal["linear", "mlp2x_gelu"] = "mlp2x_gelu"
    vision_feature_layer: int = -2
    vision_feature_select: Literal["cls_patch", "patch"] = "cls_patch"

    @model_validator(mode="after")
    def _class_token(self) -> ModelSettings:
        if self.num_experts and self.vision_feature_select == "patch":
            raise ValueError("vision_feature_select: patch leaves the experts' router without its class token")
        return self


class DataSettings(StrictModel):
    """Names of conversation sets."""

    align: Distinct[Text] = Field(min_length=1, description="stage-1 caption sets")
    languages: Distinct[Language] = Field(PAPER_LANGUAGES, min_length=1, description="stage-2 languages")
    instructions: dict[Language, Distinct[Text]] = Field(description="stage-2 instruction sets by language")
    validation: dict[Language, Distinct[Text]] = Field(
        default_factory=dict, description="held-out sets whose loss is recorded during stage 2"
    )


class Recipe(StrictModel):
    """How one stage trains; the batch is the global one, whatever the number of processes."""

    global_batch: int = Field(gt=0, le=1 << 20)
    learning_rate: LearningRate
    weight_decay: float = Field(0.0, ge=0, le=1)
    warmup_ratio: Share = 0.03
    lr_scheduler: Literal["cosine", "constant"] = "cosine"
    max_length: int = Field(2048, gt=0, le=1 << 20, description="tokens a sample, visual tokens included")
    epochs: float | None = Field(None, gt=0, le=10_000)
    max_steps: int | None = Field(
        None, gt=0, le=1_000_000_000, description="optimiser steps; exactly one of epochs and max_steps"
    )
    max_grad_norm: float = Field(1.0, gt=0, le=1_000_000)
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    packing: bool = Field(False, description="a micro-batch is one row without padding, samples kept apart")
    save_steps: int = Field(100, gt=0)
    eval_steps: int | None = Field(None, gt=0, description="held-out loss every so many steps; none: only at the end")

    @model_validator(mode="after")
    def _one_length(self) -> Recipe:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("exactly one of epochs and max_steps must be given")
        return self


class LoraSettings(StrictModel):
    """Low-rank adapters of the language model's linear layers (LoRA, arXiv:2106.09685).

    Rank, alpha and dropout are by default mBLIP's (arXiv:2307.06930), which puts adapters on every linear layer too.
    """

    rank: int = Field(8, gt=0, le=1 << 16)
    alpha: int = Field(16, gt=0, le=1 << 20, description="an adapter's product is added alpha / rank times")
    dropout: Share = Field(
        0.05, description="its draws, and with them the losses, depend on the micro-batch; 0: they do not"
    )
    target_modules: Distinct[Text] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="names of linear layers of the language model: by default those of attention and MLP",
    )
    learning_rate: LearningRate | None = Field(None, description="of the adapters alone; none: the recipe's")


class TuneRecipe(Recipe):
    """How stage 2 trains. Projector, router and experts always train, the vision encoder never does."""

    language_model: Tuning = Field(
        "full", description="full: all its weights train (the paper); lora: low-rank adapters; frozen: nothing of it"
    )
    lora: LoraSettings = Field(LoraSettings(), description="the adapters of language_model lora")


class Conventions(StrictModel):
    """How questions are worded and answers read, where VLMEvalKit's ways are a choice; every score names them."""

    matcher: Literal["current", "may2024"] = Field(
        "current", description="VLMEvalKit's exact matching: today's, or the one behind the paper's numbers"
    )
    prompt_language: Literal["dataset", "group"] = Field(
        "dataset", description="language of the instruction: the file's, or English as in a run on the name of a group"
    )
    postprocess: Literal["vlmevalkit", "none"] = Field(
        "vlmevalkit",
        description="whether predictions are shortened before matching as VLMEvalKit's Parrot wrapper does",
    )
    missing_values: Literal["strings", "vlmevalkit"] = Field(
        "strings",
        description="strings: None, NA and null are texts; vlmevalkit: cells are what pandas makes of them, and "
        "of its spreadsheet of predictions, so that such options vanish and such predictions become nan",
    )
    translator: Text = Field(
        "none",
        description="what translates questions and options into English before prediction: none; parallel_rows: the "
        "benchmark's own English rows, a perfect translator; or an NLLB model, named as under model.hf",
    )


class JudgeSettings(StrictModel):
    """A language model that rates free answers, behind an OpenAI-compatible chat interface."""

    name: Text = Field(description="model name at the server; recorded with every score")
    url: Address = Field(description="address of the API, before /chat/completions, e.g. http://localhost:8000/v1")
    key_variable: str = Field("", description="environment variable that holds the server's key; none: no key")
    temperature: float = Field(0.2, ge=0, le=100, description="VLMEvalKit's")
    attempts: int = Field(3, gt=0, le=1000, description="requests per item until its ratings can be read")
    concurrency: int = Field(4, gt=0, le=256, description="requests in flight")
    request: str = Field("", description="judge instruction; default: ours, not LLaVA-Bench's")


class EvaluateSettings(Conventions):
    """Which benchmarks a run is evaluated on, and by which conventions."""

    benchmarks: Distinct[Text] = Field(min_length=1, description="names of config/benchmarks.yaml")
    controls: Distinct[Control] = Field(("none",), min_length=1)
    dtype: Literal["fp32", "bf16"] = Field("fp32", description="of the evaluated model; the paper's evaluation is fp32")
    generation: dict[Text, BenchmarkGeneration] = Field(
        default_factory=dict,
        description="how the run decodes, by benchmark, in place of the benchmark's own generation",
    )
    resamples: int = Field(1000, gt=0, le=1_000_000, description="bootstrap resamples over images")
    judge: JudgeSettings | None = Field(None, description="none: benchmarks of kind judged are refused")


class ReportSettings(StrictModel):
    """What the report of `all` covers."""

    runs: Distinct[Text] = Field(min_length=1)
    tables: Distinct[Text] = Field(("table1",), description="names of config/tables.yaml")
    samples: int = Field(10, ge=0, le=10_000, description="sample predictions shown in report.html")
    browse_rows: int = Field(
        2000, gt=0, description="predictions on a run's page, at most; complete questions are left out"
    )
    notes: Several[Text] = Field((), description="what this scale does and does not show")
    notice: str = Field("", description="what the plan and the report say first")
    titles: dict[Text, Text] = Field(
        default_factory=dict, description="what tables and figures call a run, by its name"
    )


def _expanded(names: Iterable[str], aliases: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for alias in names for name in aliases.get(alias, (alias,)))


class OverlapSettings(StrictModel):
    """Which training images count as copies of benchmark images, for `parrot overlap`."""

    distance: int = Field(8, ge=0, le=64, description="bits in which 64-bit difference hashes differ, at most")
    correlation: float = Field(0.98, ge=-1, le=1, description="of the thumbnails' colours, at least")


class Config(StrictModel):
    """A whole config file after overlaying."""

    scale: str = Field(pattern="^[a-z0-9_]+$", max_length=64)
    seed: int = Field(0, ge=0)
    aliases: dict[Text, Distinct[Text]] = Field(
        default_factory=dict,
        description="names that runs give to this scale's data sets and backbones: names of datasets.yaml",
    )
    model: ModelSettings
    data: DataSettings
    align: Recipe
    tune: TuneRecipe
    evaluate: EvaluateSettings
    report: ReportSettings
    hardware: Hardware
    limits: Limits = Limits()
    overlap: OverlapSettings = OverlapSettings()
    data_pin: str | None = Field(
        pattern=r"[^/]\.dvc$", description="DVC file that pins this scale's data, e.g. data.dvc; null: not pinned"
    )

    def without_aliases(self) -> Config:
        """Return the config with the names of data sets and backbones that its aliases stand for.

        Raises:
            ValueError: an alias of several names is a backbone's.
        """
        data, model = self.data, self.model
        sets = {
            "align": _expanded(data.align, self.aliases),
            "instructions": {lang: _expanded(names, self.aliases) for lang, names in data.instructions.items()},
            "validation": {lang: _expanded(names, self.aliases) for lang, names in data.validation.items()},
        }
        backbones = {}
        for field in ("vision_tower", "language_model"):
            names = self.aliases.get(getattr(model, field), (getattr(model, field),))
            if len(names) != 1:
                raise ValueError(f"model.{field}: expected an alias of one backbone, found {', '.join(names)}")
            backbones[field] = names[0]
        update = {"data": data.model_copy(update=sets), "model": model.model_copy(update=backbones)}
        return self.model_copy(update=update)


def overlay(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: mappings merge key by key, everything else (lists too) is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def load_config(*paths: str | Path) -> dict[str, Any]:
    """Return the raw mapping of the config files laid over one another, in order."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = overlay(merged, read_yaml(path))
    return merged
