"""The disk space that jobs will add: data, tokenised sets, features, checkpoints and models."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from parrot.cluster.jobs import TRAININGS, Job
from parrot.cluster.plan.cost import Costs, tokenised
from parrot.cluster.plan.memory import bytes_per_parameter
from parrot.cluster.plan.shapes import training
from parrot.config.catalog import BackboneFolder, ConversationSet
from parrot.config.runs import Run
from parrot.io.files import archive_or_self

CHECKPOINTS = 3  # per training: the two that are kept, and the one being written
TOKEN = 8  # bytes per position of a tokenised set: token and label
GIGABYTE = 10**9


class Disk(NamedTuple):
    """Bytes; `features` are cached vision features; `checkpoints` are deleted when a training ends."""

    data: int = 0
    tokenised: int = 0
    features: int = 0
    checkpoints: int = 0
    models: int = 0

    @property
    def total(self) -> int:
        """Bytes of all kinds."""
        return sum(self)


def disk(costs: Costs, to_do: Iterable[Job], at_a_time: int) -> Disk:
    """Return the maximum disk space of the remaining jobs, of which `at_a_time` run concurrently."""
    to_do = list(to_do)
    trainings = [job for job in to_do if job.rule in TRAININGS]
    checkpoints = sorted((checkpoint_bytes(costs, job) for job in trainings), reverse=True)
    return Disk(
        data=_data(costs, [costs.suite.with_data(job.name) for job in to_do if job.rule == "fetch"]),
        tokenised=_tokenised(costs, trainings),
        features=_features(costs, trainings),
        checkpoints=CHECKPOINTS * sum(checkpoints[:at_a_time]),
        models=sum(model_bytes(costs, job) for job in trainings),
    )


def checkpoint_bytes(costs: Costs, job: Job) -> int:
    """Return the size of one checkpoint: trained weights and optimiser states."""
    of = training(costs.suite, job)
    each = bytes_per_parameter(of.recipe.precision, of.hardware.strategy)
    return costs.shapes.parameters(of.run, of.stage).trained * (each.weight + each.optimizer)


def model_bytes(costs: Costs, job: Job) -> int:
    """Return the size of a training's output in float32: the projector of stage 1, the complete model of stage 2."""
    of = training(costs.suite, job)
    parameters = costs.shapes.parameters(of.run, of.stage)
    return 4 * (parameters.trained if of.stage == "align" else parameters.total)


def _data(costs: Costs, runs: Iterable[Run]) -> int:
    """Return the size of missing images and backbones, the latter as published, with two bytes per parameter.

    Pretrained models to evaluate and translation models have no size in the catalogue and are not counted.
    """
    named = {name for run in runs if run.pretrained_model is None for name in run.fetch.datasets}
    entries = {name: entry for name, entry in costs.suite.datasets.items() if name in named}
    archives = {name: archive for run in runs for name, archive in run.fetch.archives.items()}
    images: float = sum(archive.bytes or 0 for archive in archives.values() if not Path(archive.file).exists())
    images += sum(
        entry.estimate.gigabytes * GIGABYTE
        for entry in entries.values()
        if isinstance(entry, ConversationSet)
        and entry.estimate is not None
        and not all(os.path.exists(archive_or_self(place)) for place in entry.image_places.values())
    )
    missing = [
        name for name, entry in entries.items() if isinstance(entry, BackboneFolder) and not Path(entry.path).is_dir()
    ]
    return round(images) + sum(2 * costs.shapes.backbone_parameters(name) for name in missing)


def _tokenised(costs: Costs, jobs: Iterable[Job]) -> int:
    """Return the size of the sets that are not tokenised yet, each counted once."""
    sizes = {}
    for of in (training(costs.suite, job) for job in jobs):
        visual = costs.shapes.config(of.run, of.stage).num_image_tokens
        for name in of.sets:
            if tokenised(costs.entry(name), costs.tokenised) is None:
                found = costs.groups(of, name)
                sizes[name] = TOKEN * sum(n * (sample.text + sample.images * visual) for n, sample in found)
    return sum(sizes.values())


def _features(costs: Costs, jobs: Iterable[Job]) -> int:
    """Return the size of the vision features that trainings cache on disk, each set counted once."""
    sizes = {}
    for of in (training(costs.suite, job) for job in jobs):
        if of.hardware.features == "disk":
            config, bf16 = costs.shapes.config(of.run, of.stage), of.recipe.precision == "bf16"
            each = config.num_image_tokens * config.vision_config.hidden_size * (2 if bf16 else 4)
            for name in of.sets:
                sizes[name] = each * sum(n * sample.images for n, sample in costs.groups(of, name))
    return sum(sizes.values())
