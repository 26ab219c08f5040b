"""Weights and optimiser states that are split over processes: keeping them in checkpoints, and making weights whole.

All processes call each function here together.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import state_dict as fsdp
from torch.distributed.tensor import DTensor

SHARDS = "shards"  # FSDP's part of a checkpoint; DeepSpeed names its own
TRAINED = fsdp.StateDictOptions(ignore_frozen_params=True, strict=False)


def save(trainer: Any, folder: Path) -> None:
    """Write trained weights and optimiser states into `folder`, each process its share; frozen weights are left out."""
    if trainer.is_deepspeed_enabled:
        trainer.model_wrapped.save_checkpoint(str(folder), exclude_frozen_parameters=True)
    else:
        checkpoint.save(_fsdp_state(trainer), checkpoint_id=folder / SHARDS)


def load(trainer: Any, folder: Path) -> None:
    """Load what `save` wrote: FSDP's on any number of processes, DeepSpeed's on as many as wrote it."""
    if trainer.is_deepspeed_enabled:
        found, _ = trainer.model_wrapped.load_checkpoint(str(folder), load_module_strict=False)
        assert found is not None, "a complete checkpoint holds DeepSpeed's files"
        return
    state = _fsdp_state(trainer)
    checkpoint.load(state, checkpoint_id=folder / SHARDS)
    model, optimizer = trainer.model, trainer.optimizer.optimizer
    fsdp.set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=TRAINED
    )


def _fsdp_state(trainer: Any) -> dict[str, Any]:
    model, optimizer = fsdp.get_state_dict(trainer.model, trainer.optimizer.optimizer, options=TRAINED)
    return {"model": model, "optimizer": optimizer}


def gathered(*parameters: nn.Parameter) -> AbstractContextManager[Any]:
    """Within, every process holds the whole of each parameter that ZeRO-3 has split, to read it."""
    split = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not split:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(split)


def size(parameter: Tensor) -> int:
    """Elements of a parameter, of which this process may hold a part."""
    return getattr(parameter, "ds_numel", parameter.numel())


def full_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights in float32 in the first process' main memory, by name, one at a time; nothing in other processes.

    Those that DeepSpeed trains in bfloat16 are the optimiser's, which no rounding has touched.
    """
    state = {}
    for name, parameter in model.named_parameters():
        tensor = _whole(parameter)
        if distributed.get_rank() == 0:
            state[name] = tensor.to("cpu", torch.float32)
    return state


@torch.no_grad()
def _whole(parameter: nn.Parameter) -> Tensor:
    if isinstance(parameter, DTensor):
        return parameter.full_tensor()
    if parameter.requires_grad:
        from deepspeed.utils import safe_get_full_fp32_param

        return safe_get_full_fp32_param(parameter)
    with gathered(parameter):
        return parameter.detach().to("cpu", torch.float32, copy=True)
