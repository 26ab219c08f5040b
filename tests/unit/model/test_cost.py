"""What a step and a prefill compute and keep: supervised logits only, no loop over samples, one whole compiled step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.utils import is_flash_attn_2_available

from parrot.evaluate.generate import generate
from tests.bench.plain import PlainParrot
from tests.helpers.tiny_model import VOCABULARY, collate, images, row, tiny_model

ANSWER = 3


class Recorder(TorchDispatchMode):
    """Names of all operations that run, and the most rows of logits that one of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.logits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor) and tensor.shape[-1:] == (VOCABULARY,):
                self.logits = max(self.logits, tensor.numel() // VOCABULARY)
        return result


def training_batch(samples: int) -> dict[str, Tensor]:
    """Rows of equal length, one image each, the last tokens supervised."""
    batch = collate([row(5, "image", 40, seed=seed) for seed in range(samples)])
    ids = batch["input_ids"]
    labels = torch.where(torch.arange(ids.shape[1]) >= ids.shape[1] - ANSWER, ids, -100)
    return {"input_ids": ids, "labels": labels, "pixel_values": images(samples)}


def training_model(**over: Any) -> nn.Module:
    model = tiny_model(**over).train()
    model.model.vision_tower.requires_grad_(False)
    return model


def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    output = model(**batch)
    loss = output if isinstance(output, Tensor) else output.loss
    loss.backward()
    return loss.detach()


def head_rows(model: nn.Module) -> list[int]:
    """How many rows each call of the head gets, filled as it is called."""
    rows: list[int] = []
    model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[:-1].numel()))
    return rows


def test_training_gives_the_head_supervised_rows_only():
    model = training_model()
    rows = head_rows(model)
    step(model, training_batch(4))
    assert rows == [4 * ANSWER]


def test_generation_gives_the_head_the_last_position_only():
    model = tiny_model()
    rows = head_rows(model)
    prompts = [row(5, "image", 9), row(3, "image", 2)]
    model.generate(
        **collate(prompts, "left"), pixel_values=images(2), max_new_tokens=3, do_sample=False, pad_token_id=0
    )
    assert rows == [2, 2, 2]
    rows.clear()
    model.generation_config.eos_token_id = VOCABULARY
    generate(model, [np.array(prompt) for prompt in prompts], model.encode_images(images(2)), max_new_tokens=3)
    assert rows[:2] == [2, 2]


def recorded(model: nn.Module, batch: dict[str, Tensor]) -> Recorder:
    with Recorder() as recorder:
        step(model, batch)
    return recorder


def test_a_step_makes_supervised_logits_only():
    samples = 8
    batch = training_batch(samples)
    assert recorded(training_model(), batch).logits == samples * ANSWER
    assert recorded(PlainParrot(training_model()), batch).logits >= batch["input_ids"].shape[1] - 1


def test_operations_do_not_grow_with_the_batch():
    model = training_model()
    names = []
    for samples in (2, 6):
        model.zero_grad(set_to_none=True)
        names.append(recorded(model, training_batch(samples)).names)
    assert len(names[0]) > 100
    assert names[0] == names[1]


def test_loss_and_gradients_equal_the_plain_transcription_s():
    batch = training_batch(3)
    ours, plain = training_model(), PlainParrot(training_model())
    torch.testing.assert_close(step(ours, batch), step(plain, batch))
    ours_shared = {name.removeprefix("model."): p.grad for name, p in ours.named_parameters()}
    renamed = {"projector": "multi_modal_projector", "router": "expert_block.router.weight"}
    compared = 0
    for name, parameter in plain.named_parameters():
        first, _, rest = name.partition(".")
        if first in ("vision_tower", "experts"):
            continue
        expected = ours_shared[".".join(filter(None, [renamed.get(first, first), rest]))]
        torch.testing.assert_close(parameter.grad, expected, msg=name)
        compared += 1
    assert compared > 20
    experts = ours.model.expert_block.experts
    for k, (gate, up, down) in enumerate(plain.experts):
        torch.testing.assert_close(gate.weight.grad, experts.gate_proj.grad[k])
        torch.testing.assert_close(up.weight.grad, experts.up_proj.grad[k])
        torch.testing.assert_close(down.weight.grad.T, experts.down_proj.grad[k])


def test_a_compiled_training_step_equals_an_eager_one():
    torch._dynamo.reset()
    batch = training_batch(3)
    eager, model = training_model(), training_model()
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(step(compiled, batch), step(eager, batch))
    gradients = [{name: p.grad for name, p in m.named_parameters() if p.requires_grad} for m in (model, eager)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_attention_is_sdpa_unless_asked_otherwise():
    model = tiny_model()
    assert {m.config._attn_implementation for m in model.modules() if hasattr(m, "config")} == {"sdpa"}
    if is_flash_attn_2_available():
        model.set_attn_implementation("flash_attention_2")
        assert model.config.text_config._attn_implementation == "flash_attention_2"
    else:  # refused for want of the package, not by the model
        with pytest.raises(ImportError, match="package for FlashAttention2"):
            model.set_attn_implementation("flash_attention_2")
