"""transformers' Trainer with this suite's sample order, held-out loss, checkpoints and guard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl
from transformers.trainer import SCHEDULER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from parrot.constants import IGNORE_INDEX
from parrot.errors import UserError, naming
from parrot.io.files import sync_tree
from parrot.train import sharded
from parrot.train.adapters import set_learning_rate
from parrot.train.batches import GlobalBatches
from parrot.train.callbacks import non_finite_samples, step_fault
from parrot.train.checkpoints import Program, identities, keep_metrics, latest_complete, mark_complete
from parrot.train.distributed import outlive_signals


class StageTrainer(Trainer):
    """Trains what requires gradients; checkpoints hold exactly that, the frozen rest comes from the backbones.

    `held_out` maps languages to data sets; `evaluate` gives their mean loss a supervised token, `eval_loss_{language}`.
    `adapter_rate` is the peak learning rate of adapters, where it is not everything's; `strategy` is the hardware's;
    `code` lists the programs of the training so far, for its checkpoints.
    """

    control: TrainerControl

    def __init__(
        self,
        *,
        order: GlobalBatches,
        held_out: dict[str, Dataset],
        adapter_rate: float | None,
        strategy: str,
        code: Sequence[Program] = (),
        **arguments: Any,
    ):
        super().__init__(**arguments)
        del self.model.config.use_cache  # set by Trainer for its own forward passes; not to be saved with the model
        self.order = order
        self.held_out = held_out
        self.adapter_rate = adapter_rate
        self.strategy = strategy
        self.code = code
        self.sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        if self.is_fsdp_enabled and self.args.bf16:
            # accelerate would have the loss, computed in float32, rounded with all that the model gives.
            plugin = self.accelerator.state.fsdp_plugin
            plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)
        self.micro_batches: list[tuple[torch.Tensor, list[str]]] = []  # of the step under way: loss and sample ids

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> GlobalBatches:
        return self.order

    def get_train_dataloader(self) -> DataLoader[Any]:
        loader: Any = super().get_train_dataloader()
        loader.base_dataloader.worker_init_fn = outlive_signals  # accelerate's loader holds torch's
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
        self.micro_batches.append((loss, ids))
        return loss

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        """As Trainer's, which calls it after every optimiser step and before it saves.

        Raises:
            UserError: a loss or gradient is not finite.
        """
        super().log(logs, *arguments, **named)
        if "loss" not in logs:
            return
        if wrong := step_fault(logs, self.state.log_history[:-1], self.args.max_grad_norm):
            names = non_finite_samples(self.micro_batches)
            if not self.is_world_process_zero():
                raise SystemExit(1)  # all find the same; the first one tells
            raise UserError(
                f"step {self.state.global_step}: {wrong}; the batch's samples are {', '.join(names)}; "
                f"the last good checkpoint is {latest_complete(Path(self.args.output_dir)) or 'none'}"
            )
        self.micro_batches.clear()

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss a supervised token of each held-out set, logged as `eval_loss_{language}`."""
        self.model.eval()
        metrics = {f"eval_loss_{language}": self._mean_loss(rows) for language, rows in self.held_out.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _mean_loss(self, rows: Dataset) -> float:
        """Every process takes as many batches; where there are too few, one that does not count."""
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        batches = list(torch.arange(len(rows)).split(self.args.per_device_train_batch_size))
        for turn in range(0, len(batches), self.args.world_size):
            mine = turn + self.args.process_index
            counts = mine < len(batches)
            batch = self.data_collator([rows[place] for place in batches[mine if counts else 0].tolist()])
            del batch["ids"]
            batch = self._prepare_inputs(batch)
            tokens = (batch["labels"][:, 1:] != IGNORE_INDEX).sum() * counts
            loss = self.model_wrapped(**batch, use_cache=False, logits_to_keep=1).loss
            sums += torch.stack([loss * tokens, tokens]).double()
        total, tokens = self.accelerator.reduce(sums).tolist()
        return total / tokens

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        checkpoint = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
        with naming(checkpoint):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                keep_metrics(checkpoint)
            self.accelerator.wait_for_everyone()  # each process writes its random state last
            # A network file system may show the first node less than the others wrote.
            names = sorted(set(gather_object(sync_tree(checkpoint) if self.args.local_process_index == 0 else [])))
            share = identities(checkpoint, names[self.args.process_index :: self.args.world_size])
            files = dict(gather_object(list(share.items())))
            if self.args.should_save:
                mark_complete(checkpoint, self.strategy, self.args.world_size, files, self.code)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.sharded:
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        state = self.model.state_dict()
        save_file({name: state[name].contiguous() for name in self._trained()}, Path(output_dir, SAFE_WEIGHTS_NAME))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.sharded:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        sharded.save(self, Path(output_dir))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _prepare_for_training(
        self, max_steps: int, train_dataloader: DataLoader[Any], resume_from_checkpoint: str | None
    ) -> Any:
        if not self.sharded or resume_from_checkpoint is None:
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        sharded.load(self, Path(resume_from_checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(resume_from_checkpoint, SCHEDULER_NAME), weights_only=True))
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        state = load_file(Path(resume_from_checkpoint, SAFE_WEIGHTS_NAME))
        if sorted(state) != self._trained():
            raise UserError(
                f"{resume_from_checkpoint}: holds other weights than this stage trains; --fresh restarts it"
            )
        self.model.load_state_dict(state, strict=False)

    def _trained(self) -> list[str]:
        return sorted(name for name, parameter in self.model.named_parameters() if parameter.requires_grad)
