"""How a stage's training runs on its hardware: Trainer's arguments, the strategy over processes, attention kernels."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from transformers import TrainingArguments
from transformers.utils import is_flash_attn_2_available

from parrot.config.hardware import TrainingHardware, accumulation_steps
from parrot.config.settings import Recipe
from parrot.errors import UserError
from parrot.train.distributed import workers

ZERO_STAGE = {"zero2": 2, "zero3": 3}
SPLIT_WEIGHTS = ("zero3", "fsdp2")


def prepare(hardware: TrainingHardware, stage: str) -> None:
    """Check that the strategy can be had here; call it before anything of the model is made.

    Raises:
        UserError: a strategy without its package or without processes to spread over.
    """
    where = f"hardware.{stage}.strategy: {hardware.strategy}"
    if hardware.strategy != "ddp" and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"{where} is for processes that `parrot launch --gpus N` starts; expected ddp, which one process can do too"
        )
    # DeepSpeed, accelerate and FSDP call what this version of torch renames.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.distributed")
    if hardware.strategy != "ddp" and not torch.cuda.is_available():
        _stand_in_for_gpus(hardware)
    if hardware.strategy not in ZERO_STAGE:
        # accelerate imports DeepSpeed wherever it is installed: a second and a half, and a warning without a GPU.
        sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]
        return
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(f"{where} needs the package deepspeed, which the extra `gpu` installs")
    # Trainer accumulates by itself and does not tell accelerate, which warns that DeepSpeed was told otherwise.
    logging.getLogger("accelerate.accelerator").setLevel(logging.ERROR)
    if not torch.cuda.is_available():
        _use_gloo()


def _stand_in_for_gpus(hardware: TrainingHardware) -> None:
    """Let accelerate, which knows these strategies on GPUs alone, take processes on cores for such."""
    state = PartialState(cpu=True)
    zero = hardware.strategy in ZERO_STAGE
    state.distributed_type = DistributedType.DEEPSPEED if zero else DistributedType.MULTI_GPU


def _use_gloo() -> None:
    """Let DeepSpeed's processes on cores talk by gloo.

    It would compile collectives of its own at a user's first start, and one killed at that leaves a lock behind that
    no later one gets past.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)


def _strategy_arguments(hardware: TrainingHardware, recipe: Recipe, accumulation: int) -> dict[str, Any]:
    """Return the strategy's part of `TrainingArguments`.

    Where it is made before the model, transformers loads a zero3 model in pieces: no process ever holds the whole.
    """
    configured = hardware.strategy != "ddp" and not torch.cuda.is_available()
    given: dict[str, Any] = {"accelerator_config": {"use_configured_state": configured}}
    if hardware.strategy == "ddp":
        # A text-only micro-batch runs the visual modules too, so that every parameter has a gradient in every step.
        return given | {"ddp_find_unused_parameters": False}
    if hardware.strategy == "fsdp2":
        # One saved whole: the checkpoint that this suite writes is its own.
        return given | {"fsdp": True, "fsdp_config": {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}}
    return given | {"deepspeed": _deepspeed(hardware, recipe, accumulation)}


def _deepspeed(hardware: TrainingHardware, recipe: Recipe, accumulation: int) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": ZERO_STAGE[hardware.strategy], "reduce_bucket_size": "auto"}
    if hardware.strategy == "zero3":
        zero |= {"stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto"}
    memory = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    if hardware.offload != "none":
        zero["offload_optimizer"] = memory
    if hardware.offload == "all":
        zero["offload_param"] = memory
    return {
        "zero_optimization": zero,
        "bf16": {"enabled": recipe.precision == "bf16"},
        "gradient_clipping": recipe.max_grad_norm,
        "train_batch_size": recipe.global_batch,
        "train_micro_batch_size_per_gpu": hardware.micro_batch,
        "gradient_accumulation_steps": accumulation,
        "zero_allow_untested_optimizer": True,  # torch's own AdamW, the optimiser of every strategy
        "steps_per_print": sys.maxsize,
    }


def prepare_model(model: Any, hardware: TrainingHardware, recipe: Recipe, device: torch.device) -> None:
    """Prepare a model, of which is known what trains, for the strategy; `device` is the process' own."""
    if hardware.strategy in SPLIT_WEIGHTS:
        # What one process gathers all gather, in the same order, or they wait for each other for ever.
        model.model.always_visual = True
    if hardware.strategy == "zero3":
        # DeepSpeed expects all where its own pieces are, and as they are; of what trains it keeps a float32 copy.
        dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        for parameter in model.parameters():
            if not hasattr(parameter, "ds_id"):
                parameter.data = parameter.data.to(device, dtype)
    # FSDP gathers a layer of either encoder at once; transformers names layers of CLIP's text encoder too.
    layers = (model.model.language_model.layers, model.model.vision_tower.encoder.layers)
    model._no_split_modules = {type(layer).__name__ for part in layers for layer in part}


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
        **_strategy_arguments(hardware, recipe, accumulation),
    )
    # A process has one GPU, however many it sees: Trainer would split every micro-batch over them all.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def choose_kernels(model: Any, hardware: TrainingHardware, precision: str, where: str) -> None:
    """Set the language model's attention and compile its layers, as `hardware` says; `where` names it in errors.

    The vision encoder keeps `sdpa`: its images are all of one length, and nothing of them is masked.

    Raises:
        UserError: an attention that cannot run here; nothing else is taken in its place.
    """
    lack = _lack(hardware.attention, precision)
    if lack is not None:
        raise UserError(f"{where}.attention: {hardware.attention} needs {lack}; expected sdpa here")
    model.set_attn_implementation({"text_config": hardware.attention, "vision_config": "sdpa"})
    if hardware.compile:
        for layer in model.model.language_model.layers:
            layer.compile()


def _lack(attention: str, precision: str) -> str | None:
    """Say what `attention` needs and this machine or the recipe does not have."""
    if attention not in ("flash_attention_2", "flex_attention"):
        return None
    if not torch.cuda.is_available():
        return "a GPU"
    if attention == "flex_attention":
        return None
    if not is_flash_attn_2_available():
        return "the package flash-attn"
    return None if precision == "bf16" else f"precision bf16, found {precision}"
