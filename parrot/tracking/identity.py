"""The identity of every MLflow run, its tag ``parrot.id``, and a named run's settings as MLflow parameters.

Every start of Snakemake reads this module: it imports neither mlflow nor torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from parrot.config.base import StrictModel
from parrot.config.runs import Run


class TrainingId(NamedTuple):
    """The identity of a training's MLflow run: ``{scale}/align/{key}`` or ``{scale}/{run}/seed{seed}/tune``."""

    scale: str
    run: str  # "align" for stage 1, which named runs share
    part: str  # stage 1's key, or the seed and stage

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def stage1_key(self) -> str | None:
        """Stage 1's key; None for stage 2."""
        return self.part if self.run == "align" else None

    @property
    def parent(self) -> str | None:
        """The identity of the named run above a stage 2; None for stage 1."""
        return None if self.run == "align" else f"{self.scale}/{self.run}/{self.part.removesuffix('/tune')}"


def stage1_id(scale: str, key: str) -> TrainingId:
    """Return the identity of a stage 1."""
    return TrainingId(scale, "align", key)


def stage2_id(scale: str, run: str, seed: int) -> TrainingId:
    """Return the identity of a named run's stage 2."""
    return TrainingId(scale, run, f"seed{seed}/tune")


def training_id(text: str) -> TrainingId:
    """Read an identity as ``str(TrainingId)`` writes it."""
    scale, run, part = text.split("/", 2)
    return TrainingId(scale, run, part)


class TrackedRun(StrictModel):
    """MLflow parameters and tags of a run that are not in its records."""

    name: str
    scale: str
    seed: int
    stage1_key: str | None  # None: the run evaluates a pretrained model, without training records
    params: dict[str, str]
    titles: dict[str, str] = {}  # displayed benchmark names, by their name in scores

    @property
    def stage2(self) -> TrainingId:
        """The identity of the run's stage 2."""
        return stage2_id(self.scale, self.name, self.seed)


def tracked_run(run: Run) -> TrackedRun:
    """Return the run's name, seed and compared settings, as MLflow parameters with dotted names."""
    config = run.config.model_dump(mode="json")
    read = {section: config[section] for section in ("model", "align", "tune", "evaluate")}
    read["data"] = {"languages": config["data"]["languages"]}
    if run.pretrained_model is not None:
        pretrained = {name: config["model"][name] for name in ("hf", "revision")}
        read = {"model": pretrained, "evaluate": config["evaluate"]}
    return TrackedRun(
        name=run.name,
        scale=run.config.scale,
        seed=run.config.seed,
        stage1_key=run.stage1_key,
        params=parameters(read),
        titles={benchmark.name: benchmark.called for benchmark in run.shown_benchmarks},
    )


def parameters(value: Any, prefix: str = "") -> dict[str, str]:
    """Flatten nested settings to parameters with dotted names."""
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in parameters(inner, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): as_text(value)}


def as_text(value: Any) -> str:
    """Format a value as an MLflow parameter or tag."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
