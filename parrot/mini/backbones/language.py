"""Text pretraining of the mini Qwen2 language model: next token on sentences, the answer's tokens on questions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from parrot.mini.backbones.corpus import Line
from parrot.mini.backbones.optimise import Optimiser
from parrot.model.chat_template import QWEN

BATCH = 24
LOG_EVERY = 100
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """A text whose tokens are supervised from the place `supervised` on."""

    ids: list[int]
    supervised: int


def new_model(tokenizer: PreTrainedTokenizerBase) -> Qwen2ForCausalLM:
    """Return a randomly initialised Qwen2 of about 1.2 million parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(QWEN.turn_end),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    return Qwen2ForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerBase, lines: Sequence[Line]) -> list[Example]:
    """Lines to examples; without a prompt all of the answer but its first token is supervised."""
    prompts = tokenizer([line.prompt for line in lines]).input_ids
    answers = tokenizer([line.answer for line in lines]).input_ids
    return [Example(p + a, max(1, len(p))) for p, a in zip(prompts, answers, strict=True)]


def batches(examples: Sequence[Example], size: int, seed: int) -> Iterator[list[Example]]:
    """Shuffled batches of texts of like length, so that little of a batch is padding."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator).tolist()
    chunk = size * 40
    for start in range(0, len(order), chunk):
        near = sorted(order[start : start + chunk], key=lambda i: len(examples[i].ids))
        groups = [near[i : i + size] for i in range(0, len(near) - size + 1, size)]
        for group in torch.randperm(len(groups), generator=generator).tolist():
            yield [examples[i] for i in groups[group]]


def loss_of(model: Qwen2ForCausalLM, batch: Sequence[Example]) -> torch.Tensor:
    """Mean cross-entropy over the supervised tokens; logits are computed only there."""
    ids, at, rows = _stack(batch, model.config.pad_token_id)
    # Padding stands behind the text, where causal attention never looks: no mask, hence sdpa's fast path.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[rows, at - 1]
    return cross_entropy(model.lm_head(hidden), ids[rows, at])


def pretrain(
    tokenizer: PreTrainedTokenizerBase, phases: Sequence[Sequence[Example]], seed: int, lr: float = 3e-3
) -> Qwen2ForCausalLM:
    """Train once over each phase in turn, under one learning-rate curve; same seed, one thread: same weights."""
    torch.manual_seed(seed)
    model = new_model(tokenizer).train()
    plan = [batch for number, examples in enumerate(phases) for batch in batches(examples, BATCH, seed + number)]
    optimiser = Optimiser(model.named_parameters(), len(plan), muon_lr=lr, adamw_lr=lr)
    started, total = time.process_time(), 0.0
    for step, batch in enumerate(plan, 1):
        loss = loss_of(model, batch)
        loss.backward()
        optimiser.step()
        total += loss.item()
        if step % LOG_EVERY == 0:
            logger.info(
                "step %d/%d loss %.3f %.0f s", step, len(plan), total / LOG_EVERY, time.process_time() - started
            )
            total = 0.0
    return model.eval()


@torch.inference_mode()
def accuracy(model: Qwen2ForCausalLM, examples: Sequence[Example], size: int = 240) -> float:
    """Per cent of examples whose every supervised token is the most likely one: exactly the greedily right answers."""
    right = 0
    for start in range(0, len(examples), size):
        ids, at, rows = _stack(examples[start : start + size], model.config.pad_token_id)
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[rows, at - 1]
        wrong = model.lm_head(hidden).argmax(-1) != ids[rows, at]
        right += len(ids) - len(rows[wrong].unique())
    return round(100 * right / len(examples), 1)


def _stack(batch: Sequence[Example], padding: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids (B, T), right-padded; the supervised tokens' columns (N,) and rows (N,)."""
    longest = max(len(example.ids) for example in batch)
    ids = torch.tensor([example.ids + [padding] * (longest - len(example.ids)) for example in batch])
    places = [(row, at) for row, example in enumerate(batch) for at in range(example.supervised, len(example.ids))]
    rows, columns = torch.tensor(places).T
    return ids, columns, rows
