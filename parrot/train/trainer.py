"""transformers' Trainer with this suite's sample order, held-out loss and checkpoints; a loss must be finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl

from parrot.config import ConfigError
from parrot.data.collate import IGNORED
from parrot.train.adapters import set_learning_rate
from parrot.train.checkpoints import mark_whole
from parrot.train.loading import outlive_sigterm
from parrot.train.order import GlobalBatches

WEIGHTS = "model.safetensors"


class StageTrainer(Trainer):
    """Trains what requires gradients; checkpoints hold exactly that, the frozen rest comes from the backbones.

    `held_out` maps languages to data sets; `evaluate` gives their mean loss a supervised token, `eval_loss_{language}`.
    `adapter_rate` is the peak learning rate of adapters, where it is not everything's.
    """

    control: TrainerControl

    def __init__(
        self, *, order: GlobalBatches, held_out: dict[str, Dataset], adapter_rate: float | None, **arguments: Any
    ):
        super().__init__(**arguments)
        del self.model.config.use_cache  # set by Trainer for its own forward passes; not to be saved with the model
        self.order = order
        self.held_out = held_out
        self.adapter_rate = adapter_rate

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> GlobalBatches:
        return self.order

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: Any = super().get_train_dataloader()
        loader.base_dataloader.worker_init_fn = outlive_sigterm  # accelerate's loader holds torch's
        return loader

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(model)
        if self.adapter_rate is not None:
            set_learning_rate(self.model, optimizer, self.adapter_rate)
        return optimizer

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # the default walks through all modules in every step, and nothing here reads the sum

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        ids = inputs.pop("ids")
        loss = super().training_step(model, {**inputs, "use_cache": False}, num_items_in_batch)
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            raise ConfigError(f"step {step}: the loss is {loss.item()}; the batch's samples are {', '.join(ids)}")
        return loss

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss a supervised token of each held-out set, logged as `eval_loss_{language}`."""
        self.model.eval()
        metrics = {f"eval_loss_{language}": self._mean_loss(rows) for language, rows in self.held_out.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _mean_loss(self, rows: Dataset) -> float:
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        loader = DataLoader(rows, batch_size=self.args.per_device_train_batch_size, collate_fn=self.data_collator)
        for batch in self.accelerator.prepare(loader):
            del batch["ids"]
            batch = self._prepare_inputs(batch)
            tokens = (batch["labels"][:, 1:] != IGNORED).sum()
            loss = self.model_wrapped(**batch, use_cache=False, logits_to_keep=1).loss
            sums += torch.stack([loss * tokens, tokens]).double()
        total, tokens = self.accelerator.reduce(sums).tolist()
        return total / tokens

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_whole(Path(self.args.output_dir, f"checkpoint-{self.state.global_step}"))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        state = state_dict if state_dict is not None else self.model.state_dict()
        save_file({name: state[name].contiguous() for name in self._trained()}, Path(output_dir, WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint, WEIGHTS))
        if sorted(state) != self._trained():
            raise ConfigError(f"{resume_from_checkpoint}: holds other weights than this stage trains")
        self.model.load_state_dict(state, strict=False)

    def _trained(self) -> list[str]:
        return sorted(name for name, parameter in self.model.named_parameters() if parameter.requires_grad)
