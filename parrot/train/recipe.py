"""The two training stages: one recipe, two sets of weights that it trains."""

from __future__ import annotations

import json
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
from transformers.utils import logging

from parrot.config import ConfigError, TuneRecipe
from parrot.data.collate import Collator, count_truncated, with_partners
from parrot.data.conversations import load
from parrot.digest import code_digest, file_sha256, key
from parrot.files import atomic_write, write_json
from parrot.hardware import TrainingHardware
from parrot.model.build import WEIGHTS, build, projector_sha256, save_projector, trainable
from parrot.runs import AlignSettings, TuneSettings
from parrot.train import kernels, provenance
from parrot.train.adapters import add_adapters, merge_adapters, save_adapters
from parrot.train.callbacks import HeldOut, Progress, Recorder, StopOnSigterm
from parrot.train.checkpoints import cut_back, newest_whole, remove_broken, step_of
from parrot.train.features import prepare
from parrot.train.launch import STOPPED, requeue
from parrot.train.live import shown_live
from parrot.train.loading import plain_errors, workers
from parrot.train.order import GlobalBatches, Micro, accumulation_steps, optimiser_steps
from parrot.train.system_metrics import sampled
from parrot.train.trainer import StageTrainer

HELD_OUT_SAMPLES = 128  # of each held-out set; its loss is a curve to look at, not a result
PREFETCHED = 4  # micro-batches that a loading process keeps ready


class Stage(NamedTuple):
    """What sets one stage apart from the other."""

    name: Literal["align", "tune"]
    settings: AlignSettings | TuneSettings
    projector: Path | None
    validation: tuple[Any, ...]
    product: str
    save: Callable[[Any, Any, Path], None]


def align(
    settings: AlignSettings, output: Path, work: Path, hardware: TrainingHardware, tracked_as: str | None = None
) -> None:
    """Stage 1: train the projector; writes `projector/`, `metrics.jsonl` and `provenance.json` into `output`.

    `work` keeps tokenised data and checkpoints: a run that was interrupted goes on from its newest whole checkpoint.
    Raises ConfigError for data, settings or folders that do not fit; exits with 143 after a SIGTERM, having saved.
    """
    _train(Stage("align", settings, None, (), "projector", _save_projector), output, work, hardware, tracked_as)


def tune(
    settings: TuneSettings,
    projector: Path,
    output: Path,
    work: Path,
    hardware: TrainingHardware,
    tracked_as: str | None = None,
) -> None:
    """Stage 2: train projector, experts and language model, starting from stage 1's folder `projector`.

    Writes `model/`, `metrics.jsonl` and `provenance.json` into `output`; see `align` for `work`, errors and exits.
    Adapters of the language model are merged into `model/`, and kept apart in `model/adapter/`.
    """
    if not (projector / WEIGHTS).is_file():
        raise ConfigError(f"{projector}: no {WEIGHTS}; expected a projector that stage 1 saved")
    save = partial(_save_model, settings.recipe)
    _train(Stage("tune", settings, projector, settings.validation, "model", save), output, work, hardware, tracked_as)


def _train(stage: Stage, output: Path, work: Path, hardware: TrainingHardware, tracked_as: str | None) -> None:
    started = time.time()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings, recipe = stage.settings, stage.settings.recipe
    # Refuses a bad one before anything is loaded.
    accumulation_steps(recipe.global_batch, hardware.micro_batch, _processes())
    _make_folder(output)
    folder = work / stage.name / _key(stage)
    _make_folder(folder)

    model, processor = build(settings, stage.projector)
    kernels.choose(model, hardware, recipe.precision, f"hardware.{stage.name}")
    facts = provenance.describe(settings, hardware, model, processor)
    if stage.projector is not None:
        facts["projector_sha256"] = _check_projector(model, stage.projector)
    facts |= _choose_weights(stage, model)
    rows = load(settings.data, processor, work / "datasets")
    facts |= {"samples": len(rows), "truncated_samples": count_truncated(rows, recipe.max_length)}
    held_out = _held_out(stage, processor, work / "datasets")
    if model.config.router == "shuffled_text":
        population, seed = len(rows), stage.settings.seed
        held_out = {name: with_partners(some, population, seed) for name, some in held_out.items()}
        rows = with_partners(rows, population, seed)

    with plain_errors():
        trainer = _trainer(stage, model, processor, rows, held_out, folder, hardware)
    checkpoint = newest_whole(folder)
    first = step_of(checkpoint) if checkpoint else 0
    main = trainer.is_world_process_zero()
    if main:
        remove_broken(folder)
        cut_back(folder / "metrics.jsonl", first)
        write_json(folder / "provenance.json", {"stage": stage.name, **facts})
        if facts["truncated_samples"]:
            print(f"{stage.name}: {facts['truncated_samples']} of {len(rows)} samples lose their end", file=sys.stderr)
    with shown_live(tracked_as if main else None, folder, output):
        with plain_errors(), sampled(folder, provenance.gpu_uuids()):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        whole = trainer.state.global_step >= trainer.state.max_steps
        # Every node has stopped writing into the folder, which is about to go.
        trainer.accelerator.wait_for_everyone()
        if whole and main:
            facts |= {"resumed_from_step": first or None, "wall_seconds": round(time.time() - started, 1)}
            _write(stage, model, processor, facts, folder, output)
    if not whole:
        if main:
            requeue()
        raise SystemExit(STOPPED)
    trainer.accelerator.wait_for_everyone()


def _choose_weights(stage: Stage, model: Any) -> dict[str, int]:
    """Set what the stage trains; the numbers of all parameters and of the trained ones."""
    total, recipe = model.num_parameters(), stage.settings.recipe
    if not isinstance(recipe, TuneRecipe):
        names = trainable(model, "align")
    else:
        if recipe.language_model == "lora":
            add_adapters(model, recipe.lora, stage.settings.seed)
        names = trainable(model, "tune", recipe.language_model)
    return {"parameters": total, "trained_parameters": sum(model.get_parameter(name).numel() for name in names)}


def _write(stage: Stage, model: Any, processor: Any, facts: dict[str, Any], folder: Path, output: Path) -> None:
    """Write a finished stage's output, then drop its checkpoints: asked again, it is trained again."""
    _publish(output / stage.product, lambda partial: stage.save(model, processor, partial))
    for earlier in output.glob("system-*.jsonl"):
        earlier.unlink()
    for record in (folder / "metrics.jsonl", *folder.glob("system-*.jsonl")):
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
    folder: Path,
    hardware: TrainingHardware,
) -> StageTrainer:
    recipe = stage.settings.recipe
    steps = optimiser_steps(recipe, len(rows))
    lengths = np.minimum(rows.data["length"].to_numpy(), recipe.max_length)
    micro = Micro(hardware.micro_batch, _processes(), recipe.packing)
    args, features = _arguments(stage, folder, hardware, steps), None
    if hardware.features == "disk":
        features = prepare(model, processor, [rows, *held_out.values()], args, folder.parents[1] / "features")
    trainer = StageTrainer(
        model=model,
        args=args,
        train_dataset=rows,
        data_collator=Collator(processor, model.config.router, recipe.max_length, recipe.packing, rows, features),
        order=GlobalBatches(lengths, recipe.global_batch, steps, stage.settings.seed, micro),
        held_out=held_out,
        adapter_rate=recipe.lora.learning_rate if isinstance(recipe, TuneRecipe) else None,
        callbacks=[
            Recorder(folder / "metrics.jsonl", recipe.global_batch),
            Progress(stage.name, recipe.global_batch),
            StopOnSigterm(),
            *([HeldOut(recipe.eval_steps)] if stage.validation else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(stage: Stage, folder: Path, hardware: TrainingHardware, steps: int) -> TrainingArguments:
    recipe, on_gpu = stage.settings.recipe, torch.cuda.is_available()
    loading = workers(hardware.workers, on_gpu)
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=hardware.micro_batch,
        gradient_accumulation_steps=accumulation_steps(recipe.global_batch, hardware.micro_batch, _processes()),
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=recipe.precision == "bf16",
        activation_checkpointing=recipe.gradient_checkpointing,
        use_cpu=not on_gpu,
        seed=stage.settings.seed,
        # Bit equality is promised on a CPU; a GPU's deterministic kernels are slow, and not all exist.
        full_determinism=not on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        save_strategy="steps",
        save_steps=recipe.save_steps,
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_num_workers=loading,
        dataloader_prefetch_factor=PREFETCHED if loading else None,
        dataloader_pin_memory=on_gpu,
    )


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def _held_out(stage: Stage, processor: Any, cache: Path) -> dict[str, Dataset]:
    held_out = {}
    for entry in stage.validation:
        rows = load((entry,), processor, cache)
        chosen = np.random.default_rng(0).permutation(len(rows))[:HELD_OUT_SAMPLES]
        held_out[entry.language] = rows.select(sorted(chosen.tolist()))
    return held_out


def _check_projector(model: Any, folder: Path) -> str:
    """Digest of the projector in `model`; ConfigError when stage 1's provenance, beside `folder`, names another one."""
    loaded, record = projector_sha256(model), folder.parent / "provenance.json"
    saved = json.loads(record.read_text(encoding="utf-8"))["projector_sha256"] if record.is_file() else loaded
    if loaded != saved:
        raise ConfigError(f"{folder}: the projector that was loaded is not the one that {record} describes")
    return loaded


def _save_projector(model: Any, processor: Any, folder: Path) -> None:
    save_projector(model, folder)


def _save_model(recipe: TuneRecipe, model: Any, processor: Any, folder: Path) -> None:
    if recipe.language_model == "lora":
        save_adapters(model, recipe.lora, folder / "adapter")
        merge_adapters(model)
    model.save_pretrained(folder, save_original_format=False)
    processor.save_pretrained(folder)


def _publish(final: Path, write: Callable[[Path], None]) -> None:
    """Write a folder beside `final` and rename it, so that a folder that exists is whole."""
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    write(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made a folder: {error.strerror}") from None


def _key(stage: Stage) -> str:
    """Digest of everything that the stage's checkpoints depend on."""
    projector = file_sha256(stage.projector / WEIGHTS) if stage.projector else None
    return key([stage.settings.model_dump(mode="json"), projector, code_digest("parrot.train.recipe")])
