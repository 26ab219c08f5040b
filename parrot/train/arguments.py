"""What transformers' Trainer is told."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from parrot.config.hardware import TrainingHardware, accumulation_steps
from parrot.config.settings import Recipe
from parrot.train import strategy
from parrot.train.loading import workers

PREFETCHED = 4  # micro-batches that a loading process keeps ready


def training_arguments(
    recipe: Recipe, hardware: TrainingHardware, seed: int, processes: int, folder: Path
) -> TrainingArguments:
    """Everything but the number of steps, for a training that keeps its checkpoints in `folder`.

    Constructing them initialises torch.distributed and, under zero3, lets transformers load the model in pieces; do it
    before building the model.
    """
    on_gpu = torch.cuda.is_available()
    loading = workers(hardware.workers, on_gpu)
    accumulation = accumulation_steps(recipe.global_batch, hardware.micro_batch, processes)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=hardware.micro_batch,
        gradient_accumulation_steps=accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler,
        warmup_steps=recipe.warmup_ratio,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=recipe.precision == "bf16",
        activation_checkpointing=recipe.gradient_checkpointing,
        use_cpu=not on_gpu,
        seed=seed,
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
        **strategy.arguments(hardware, recipe, accumulation),
    )
    # A process has one GPU, however many it sees: Trainer would split every micro-batch over them all.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
