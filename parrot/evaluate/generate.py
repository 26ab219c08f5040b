"""Greedy generation in batches: left-padded prompts, a key-value cache, and no work for answers that have ended.

Besides being leaner than `generate()` (a batch shrinks as its answers end), this loop keeps the router's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from parrot.errors import ConfigError
from parrot.model import ParrotForConditionalGeneration


@dataclass
class Answer:
    """Generated token ids without the end-of-turn token, why they ended, and the picture's expert weights if any."""

    tokens: list[int] = field(default_factory=list)
    stop_reason: Literal["eos", "length"] = "length"
    router_weights: list[float] = field(default_factory=list)


def check_length(model: ParrotForConditionalGeneration, prompt: np.ndarray, where: str) -> None:
    """ConfigError starting with `where` for a prompt of more tokens than the language model has positions for."""
    positions = model.config.text_config.max_position_embeddings
    if len(prompt) > positions:
        raise ConfigError(f"{where}: expected a prompt of at most {positions} tokens, found {len(prompt)}")


@torch.inference_mode()
def generate(
    model: ParrotForConditionalGeneration,
    prompts: Sequence[np.ndarray],
    image_features: Tensor | None,
    max_new_tokens: int,
    router_texts: Sequence[np.ndarray] | None = None,
    languages: Sequence[int] | None = None,
    watch: Callable[[list[Answer]], object] = lambda answers: None,
) -> list[Answer]:
    """Answer `prompts` (token ids, image tokens expanded), at most `max_new_tokens` tokens each.

    `image_features` (B, L, d_vision) are the encoder's features of each prompt's one picture, None where the prompts
    have no picture. The router reads each prompt, or in its place `router_texts` (token ids) where given, and the
    `languages` (places in `config.languages`) where that is its kind. `watch` is shown all answers, as
    far as they go, after every token.
    An answer does not depend on the batch it is in, up to ties that rounding decides: products of other shapes may sum
    in another order, which in float32 moves a logit by about 1e-6 of its size.
    """
    ends = _end_tokens(model)
    input_ids, mask = _pad_left(prompts, model.device)
    router: dict[str, Tensor] = {}
    if router_texts is not None:
        router["router_input_ids"], router["router_mask"] = _pad_left(router_texts, model.device)
    if languages is not None:
        router["language_ids"] = torch.tensor(languages, device=model.device)
    cache = DynamicCache(config=model.config.text_config)
    output = model(
        input_ids=input_ids,
        attention_mask=mask,
        image_features=image_features,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **router,
    )
    answers = [Answer() for _ in prompts]
    if output.router_weights is not None:
        for answer, weights in zip(answers, output.router_weights.tolist(), strict=True):
            answer.router_weights = weights
    open_answers = answers
    for step in range(max_new_tokens):
        tokens = output.logits[:, -1].argmax(-1)
        ended = torch.isin(tokens, ends)
        for answer, token, end in zip(open_answers, tokens.tolist(), ended.tolist(), strict=True):
            if end:
                answer.stop_reason = "eos"
            else:
                answer.tokens.append(token)
        watch(answers)
        if step + 1 == max_new_tokens or bool(ended.all()):
            break
        if bool(ended.any()):
            going_on = (~ended).nonzero().squeeze(-1)
            open_answers = [open_answers[place] for place in going_on.tolist()]
            tokens, mask = tokens[going_on], mask[going_on]
            cache.batch_select_indices(going_on)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        output = model(
            input_ids=tokens.unsqueeze(1), attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
    return answers


def use_accelerator(model: ParrotForConditionalGeneration) -> ParrotForConditionalGeneration:
    """`model` in evaluation mode, on the GPU where there is one."""
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval()


def _end_tokens(model: ParrotForConditionalGeneration) -> Tensor:
    ends = model.generation_config.eos_token_id
    assert ends is not None, "a model that is asked needs generation_config.eos_token_id"
    return torch.tensor(ends, device=model.device).flatten()


def _pad_left(prompts: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and their mask; padding is masked, so its token does not matter."""
    length = max(map(len, prompts))
    input_ids = np.zeros((len(prompts), length), dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, length - len(prompt) :] = prompt
        mask[row, length - len(prompt) :] = 1
    return torch.from_numpy(input_ids).to(device), torch.from_numpy(mask).to(device)
