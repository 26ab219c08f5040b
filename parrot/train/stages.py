"""The two training stages: one recipe, two sets of weights that it trains."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainingArguments
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from parrot.config.hardware import TrainingHardware, accumulation_steps
from parrot.config.settings import TuneRecipe
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.config.staleness import code_of
from parrot.data.collate import Collator, count_truncated, with_partners
from parrot.data.conversations import load
from parrot.errors import UserError
from parrot.io.files import atomic_write, check_folder, make_folder, new_folder, read_object, sync_tree, write_json
from parrot.io.lock import exclusive_lock
from parrot.model.build import build, projector_sha256, save_projector, trainable, without_weights
from parrot.train import provenance, sharded, strategy
from parrot.train.adapters import add_adapters, merge_adapters, save_adapters
from parrot.train.batches import BatchLayout, GlobalBatches, optimiser_steps
from parrot.train.callbacks import HeldOut, Progress, Recorder, StopOnSignal
from parrot.train.checkpoints import (
    METRICS,
    Program,
    check_parallelism,
    folder_name,
    forget,
    latest_valid,
    programs,
    restore_metrics,
    step_of,
)
from parrot.train.distributed import broadcast_from_rank0, plain_errors
from parrot.train.live import live_tracking
from parrot.train.memory import record_out_of_memory, reduced_micro_batch
from parrot.train.precompute import prepare
from parrot.train.preemption import STOPPED, requeue
from parrot.train.strategy import training_arguments
from parrot.train.system_metrics import sampled
from parrot.train.trainer import StageTrainer

HELD_OUT_SAMPLES = 128  # of each language; their loss is a curve to look at, not a result


class Stage(NamedTuple):
    """What sets one stage apart from the other."""

    name: Literal["align", "tune"]
    settings: AlignSettings | TuneSettings
    projector: Path | None
    validation: tuple[Any, ...]
    output_name: str
    save: Callable[[Any, Any, Path], None]


def align(
    settings: AlignSettings,
    output: Path,
    work: Path,
    hardware: TrainingHardware,
    tracked_as: str | None = None,
    fresh: bool = False,
) -> None:
    """Stage 1: train the projector; writes `projector/`, `metrics.jsonl` and `provenance.json` into `output`.

    `work` keeps tokenised data and checkpoints: a run that was interrupted resumes from its latest complete checkpoint,
    or, where it is `fresh`, starts over. A Slurm job that was put back in the queue resumes either way.

    Raises:
        UserError: data, settings or folders that do not fit; exits with 143 after a SIGTERM and 130 after a Ctrl-C,
            having saved.
    """
    stage = Stage("align", settings, None, (), "projector", _save_projector)
    _train(stage, output, work, hardware, tracked_as, fresh)


def tune(
    settings: TuneSettings,
    projector: Path,
    output: Path,
    work: Path,
    hardware: TrainingHardware,
    tracked_as: str | None = None,
    fresh: bool = False,
) -> None:
    """Stage 2: train projector, experts and language model, starting from stage 1's folder `projector`.

    Writes `model/`, `metrics.jsonl` and `provenance.json` into `output`; see `align` for `work`, `fresh`, errors
    and exits. Adapters of the language model are merged into `model/`, and kept apart in `model/adapter/`.
    """
    if not (projector / SAFE_WEIGHTS_NAME).is_file():
        raise UserError(f"{projector}: no {SAFE_WEIGHTS_NAME}; expected a projector that stage 1 saved")
    save = partial(_save_model, settings.recipe)
    stage = Stage("tune", settings, projector, settings.validation, "model", save)
    _train(stage, output, work, hardware, tracked_as, fresh)


def _train(
    stage: Stage, output: Path, work: Path, hardware: TrainingHardware, tracked_as: str | None, fresh: bool
) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    strategy.prepare(hardware, stage.name)
    # Refuses a bad one before anything is loaded.
    accumulation_steps(stage.settings.recipe.global_batch, hardware.micro_batch, _processes())
    make_folder(output)
    check_folder(output)
    weights = stage.projector / SAFE_WEIGHTS_NAME if stage.projector else None
    folder = work / stage.name / folder_name(stage.settings, weights)
    make_folder(folder)
    check_folder(folder)
    with StopOnSignal() as stop, exclusive_lock(folder, "training"):
        if fresh and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            broadcast_from_rank0("fresh", lambda: forget(folder))
        # A network file system may show the nodes of a job other states of a folder.
        fits = broadcast_from_rank0(
            "micro_batch", lambda: reduced_micro_batch(folder, hardware, _processes(), stage.name).micro_batch
        )
        hardware = hardware.model_copy(update={"micro_batch": fits})
        try:
            _train_in(folder, stage, output, work, hardware, tracked_as, stop)
        except torch.OutOfMemoryError:
            recipe = stage.settings.recipe
            raise record_out_of_memory(folder, hardware, _processes(), recipe.global_batch, stage.name) from None
        except SystemExit as end:
            # One of several cannot know whether Slurm ended it, or torchrun since another failed; the launcher does.
            if end.code == STOPPED and "WORLD_SIZE" not in os.environ:
                requeue()
            raise


def _train_in(
    folder: Path,
    stage: Stage,
    output: Path,
    work: Path,
    hardware: TrainingHardware,
    tracked_as: str | None,
    stop: StopOnSignal,
) -> None:
    """Train with checkpoints in `folder`, from the latest complete one on."""
    started = time.time()
    settings, recipe = stage.settings, stage.settings.recipe
    latest = broadcast_from_rank0("checkpoint", lambda: str(latest_valid(folder) or ""))
    checkpoint = Path(latest) if latest else None
    if checkpoint is not None:
        check_parallelism(checkpoint, hardware.strategy, _processes())
    first = step_of(checkpoint) if checkpoint else 0
    code = broadcast_from_rank0("code", lambda: programs(checkpoint, code_of(settings)))

    arguments = training_arguments(recipe, hardware, settings.seed, _processes(), folder)
    model, processor = build(settings, stage.projector)
    strategy.choose_kernels(model, hardware, recipe.precision, f"hardware.{stage.name}")
    facts = provenance.describe(settings, hardware, model, processor, code)
    if stage.projector is not None:
        facts["projector_sha256"] = _check_projector(model, stage.projector)
    facts |= _choose_weights(stage, model)
    strategy.prepare_model(model, hardware, recipe, arguments.device)
    cache = work / "datasets"
    broadcast_from_rank0(
        "tokenised", lambda: len(load(settings.data + stage.validation, processor, cache, recipe.max_length))
    )
    rows = load(settings.data, processor, cache, recipe.max_length)
    _check_enough(rows, stage, model.config.router)
    facts |= {"samples": len(rows), "truncated_samples": count_truncated(rows, recipe.max_length)}
    held_out = _held_out(stage, processor, cache)
    if model.config.router == "shuffled_text":
        population, seed = len(rows), stage.settings.seed
        held_out = {name: with_partners(some, population, seed) for name, some in held_out.items()}
        rows = with_partners(rows, population, seed)

    with plain_errors():
        trainer = _trainer(stage, model, processor, rows, held_out, arguments, hardware, code, stop)
    main = trainer.is_world_process_zero()
    if main:
        restore_metrics(folder, checkpoint)
        write_json(folder / "provenance.json", {"stage": stage.name, **facts})
        if facts["truncated_samples"]:
            print(f"{stage.name}: {facts['truncated_samples']} of {len(rows)} samples lose their end", file=sys.stderr)
    with live_tracking(tracked_as if main else None, folder, output):
        with plain_errors(), sampled(folder, provenance.gpu_uuids()):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        whole = trainer.state.global_step >= trainer.state.max_steps
        finished = _gathered_model(stage, trainer) if whole else None
        # Every node has stopped writing into the folder, which is about to go.
        trainer.accelerator.wait_for_everyone()
        if whole:
            facts |= {"resumed_from_step": first or None, "wall_seconds": round(time.time() - started, 1)}
            broadcast_from_rank0("written", lambda: _write(stage, finished, processor, facts, folder, output))
    if main and not whole and stop.exit_code == STOPPED and _processes() > 1:
        requeue()
    trainer.accelerator.wait_for_everyone()  # the first process of a Slurm step to end ends the others
    if not whole:
        raise SystemExit(stop.exit_code)


def _choose_weights(stage: Stage, model: Any) -> dict[str, int]:
    """Set what the stage trains; the numbers of all parameters and of the trained ones."""
    total, recipe = sum(map(sharded.size, model.parameters())), stage.settings.recipe
    if not isinstance(recipe, TuneRecipe):
        names = trainable(model, "align")
    else:
        if recipe.language_model == "lora":
            add_adapters(model, recipe.lora, stage.settings.seed)
        names = trainable(model, "tune", recipe.language_model)
    trained = sum(sharded.size(model.get_parameter(name)) for name in names)
    return {"parameters": total, "trained_parameters": trained}


def _gathered_model(stage: Stage, trainer: StageTrainer) -> Any:
    """Return the trained model, or one that holds all weights where they are split over processes.

    All processes call it together. Where weights are split, only the first one gets a model, the others get None.
    """
    if not trainer.sharded:
        return trainer.model
    weights = sharded.full_state(trainer.model)
    if not weights:
        return None
    copy, recipe = without_weights(trainer.model.config), stage.settings.recipe
    if isinstance(recipe, TuneRecipe) and recipe.language_model == "lora":
        add_adapters(copy, recipe.lora, stage.settings.seed)
    copy.load_state_dict(weights, strict=False, assign=True)
    copy.tie_weights()
    assert not any(parameter.is_meta for parameter in copy.parameters()), "every weight was gathered"
    copy.generation_config = trainer.model.generation_config
    return copy


def _write(stage: Stage, model: Any, processor: Any, facts: dict[str, Any], folder: Path, output: Path) -> None:
    """Write a finished stage's output, then drop its checkpoints: a later request trains it again."""
    with new_folder(output / stage.output_name) as partial:
        stage.save(model, processor, partial)
        sync_tree(partial)  # before the checkpoints go
    for earlier in output.glob("system-*.jsonl"):
        earlier.unlink()
    for record in (folder / METRICS, *folder.glob("system-*.jsonl")):
        atomic_write(output / record.name, record.read_bytes())
    own = {"projector_sha256": projector_sha256(model), "peak_rss_mib": round(provenance.peak_rss_mib(), 1)}
    write_json(output / "provenance.json", {"stage": stage.name, **own, **facts})
    shutil.rmtree(folder)


def _trainer(
    stage: Stage,
    model: Any,
    processor: Any,
    rows: Dataset,
    held_out: dict[str, Dataset],
    arguments: TrainingArguments,
    hardware: TrainingHardware,
    code: list[Program],
    stop: StopOnSignal,
) -> StageTrainer:
    recipe, folder = stage.settings.recipe, Path(arguments.output_dir)
    steps = arguments.max_steps = optimiser_steps(recipe, len(rows))
    lengths = np.minimum(rows.data["length"].to_numpy(), recipe.max_length)
    micro = BatchLayout(hardware.micro_batch, _processes(), recipe.packing)
    features = None
    if hardware.features == "disk":
        with sharded.gathered(*model.model.vision_tower.parameters()):
            features = prepare(model, processor, [rows, *held_out.values()], arguments, folder.parents[1] / "features")
    trainer = StageTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(processor, model.config.router, recipe.max_length, recipe.packing, rows, features),
        order=GlobalBatches(lengths, recipe.global_batch, steps, stage.settings.seed, micro),
        held_out=held_out,
        adapter_rate=recipe.lora.learning_rate if isinstance(recipe, TuneRecipe) else None,
        strategy=hardware.strategy,
        code=code,
        callbacks=[
            Recorder(folder / METRICS, recipe.global_batch),
            Progress(stage.name, recipe.global_batch),
            stop,
            *([HeldOut(recipe.eval_steps)] if stage.validation else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def _held_out(stage: Stage, processor: Any, cache: Path) -> dict[str, Dataset]:
    held_out = {}
    for language in dict.fromkeys(entry.language for entry in stage.validation):
        sets = tuple(entry for entry in stage.validation if entry.language == language)
        rows = load(sets, processor, cache, stage.settings.recipe.max_length)
        chosen = np.random.default_rng(0).permutation(len(rows))[:HELD_OUT_SAMPLES]
        held_out[language] = rows.select(sorted(chosen.tolist()))
    return held_out


def _check_enough(rows: Dataset, stage: Stage, router: str) -> None:
    """Check that there is an image to train on; that each set has samples is checked where it is read.

    Raises:
        UserError: there is none.
    """
    sets = ", ".join(entry.file for entry in stage.settings.data)
    if rows.data["image"].null_count == len(rows):
        raise UserError(f"{stage.name}: {sets}: expected samples with images, found none")
    if router == "shuffled_text" and len(rows) == 1:
        raise UserError(f"{stage.name}: {sets}: model.router: shuffled_text needs another sample's text, found one")


def _check_projector(model: Any, folder: Path) -> str:
    """Digest of the projector in `model`.

    Raises:
        UserError: stage 1's provenance, beside `folder`, names another one.
    """
    loaded, record = projector_sha256(model), folder.parent / "provenance.json"
    saved = read_object(record).get("projector_sha256") if record.is_file() else loaded
    if loaded != saved:
        raise UserError(f"{folder}: the projector that was loaded is not the one that {record} describes")
    return loaded


def _save_projector(model: Any, processor: Any, folder: Path) -> None:
    save_projector(model, folder)


def _save_model(recipe: TuneRecipe, model: Any, processor: Any, folder: Path) -> None:
    if recipe.language_model == "lora":
        save_adapters(model, recipe.lora, folder / "adapter")
        merge_adapters(model)
    model.save_pretrained(folder, save_original_format=False)
    processor.save_pretrained(folder)
