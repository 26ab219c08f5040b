"""Low-rank adapters of the language model (LoRA, arXiv:2106.09685), by peft: put on, saved apart, merged.

An adapted layer computes `W x + alpha / rank * B A x`; B starts at 0, so that training starts from the layer itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import nn

from parrot.config.settings import LoraSettings
from parrot.errors import UserError
from parrot.model.modeling_parrot import ParrotForConditionalGeneration

ADAPTER = "default"  # peft's name of an adapter, a part of its parameters' names
PREFIX = "base_model.model."  # of every name in an adapter file
FULLY_TRAINED = ("multi_modal_projector", "expert_block")


def add_adapters(model: ParrotForConditionalGeneration, lora: LoraSettings, seed: int) -> None:
    """Put adapters beside the language model's layers `lora.target_modules`, in place; `seed` alone sets their start.

    Raises:
        UserError: a name that no linear layer of the language model has.
    """
    layers = model.model.language_model.named_modules()
    known = {name.rpartition(".")[2] for name, layer in layers if isinstance(layer, nn.Linear)}
    unknown = [name for name in lora.target_modules if name not in known]
    if unknown:
        raise UserError(
            f"tune.lora.target_modules: the language model has no linear layer {unknown[0]}; "
            f"it has {', '.join(sorted(known))}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(_peft_config(lora), model, ADAPTER)


def set_learning_rate(model: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give the adapters a peak learning rate of their own, in parameter groups behind the others'."""
    adapters = {id(parameter) for name, parameter in model.named_parameters() if ".lora_" in name}
    for group in list(optimizer.param_groups):
        theirs = [parameter for parameter in group["params"] if id(parameter) in adapters]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in adapters]
        if theirs:
            optimizer.add_param_group({**group, "params": theirs, "lr": rate})


def save_adapters(model: ParrotForConditionalGeneration, lora: LoraSettings, folder: Path) -> None:
    """Write everything that was trained as a peft adapter: adapter_config.json and adapter_model.safetensors.

    `PeftModel.from_pretrained(base, folder)` makes the tuned model of `base`, one built from the same backbones.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    config = _peft_config(lora)
    config.modules_to_save = [name for name in FULLY_TRAINED if getattr(model.model, name) is not None]
    config.save_pretrained(str(folder))
    state = {PREFIX + name.replace(f".{ADAPTER}.", "."): tensor.detach().cpu() for name, tensor in trained.items()}
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def merge_adapters(model: ParrotForConditionalGeneration) -> None:
    """Add every adapter's product to its layer's weight, in place: the model is one without adapters again."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config


def _peft_config(lora: LoraSettings) -> LoraConfig:
    names = "|".join(map(re.escape, lora.target_modules))
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # The vision encoder's layers have the same names, hence the path.
        target_modules=rf"model\.language_model\.(.*\.)?({names})",
    )
