"""Generation in batches by Parrot, its options' likelihoods, and how text is shown meanwhile.

Greedy decoding is a loop of our own: besides being leaner than transformers' `generate()` (a batch shrinks as its
predictions end), it keeps the router's weights and shows every token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from parrot.evaluate.predictor import Generation, OptionLikelihood, token_log_likelihoods
from parrot.model import ParrotForConditionalGeneration
from parrot.model.processing_parrot import pad

UNFINISHED = "\ufffd"  # what decoding puts for bytes that make no character, such as the first half of one


@torch.inference_mode()
def generate(
    model: ParrotForConditionalGeneration,
    prompts: Sequence[np.ndarray],
    image_features: Tensor | None,
    max_new_tokens: int,
    router: Mapping[str, Tensor] | None = None,
    watch: Callable[[list[Generation]], object] = lambda generations: None,
) -> list[Generation]:
    """Decode `prompts` (token ids, image tokens expanded) greedily, at most `max_new_tokens` tokens each.

    A prediction does not depend on the batch it is in, up to ties that rounding decides: products of other shapes may
    sum in another order, which in float32 moves a logit by about 1e-6 of its size.

    Args:
        image_features: (N, L, d_vision), the encoder's features of the prompts' images in their order; None without.
        router: what `ParrotProcessor.router_inputs` gives, padded on the left; None: the router reads the prompts.
        watch: is shown all generations, as far as they go, after every token.
    """
    ends = end_tokens(model)
    output, cache, mask = _prefill(model, prompts, image_features, router)
    generations = [Generation() for _ in prompts]
    if output.router_weights is not None:
        images = [_images(model, prompt) for prompt in prompts]
        for generation, weights in zip(generations, output.router_weights.split(images), strict=True):
            generation.router_weights = weights.mean(0).tolist() if len(weights) else []
    going_on = generations
    for step in range(max_new_tokens):
        tokens = output.logits[:, -1].argmax(-1)
        ended = torch.isin(tokens, ends)
        for generation, token, end in zip(going_on, tokens.tolist(), ended.tolist(), strict=True):
            if end:
                generation.stop_reason = "eos"
            else:
                generation.tokens.append(token)
        watch(generations)
        if step + 1 == max_new_tokens or bool(ended.all()):
            break
        if bool(ended.any()):
            left = (~ended).nonzero().squeeze(-1)
            going_on = [going_on[place] for place in left.tolist()]
            tokens, mask = tokens[left], mask[left]
            cache.batch_select_indices(left)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        output = model(
            input_ids=tokens.unsqueeze(1), attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
    return generations


@torch.inference_mode()
def score_options(
    model: ParrotForConditionalGeneration,
    prompts: Sequence[np.ndarray],
    image_features: Tensor | None,
    options: Sequence[Sequence[Sequence[int]]],
    router: Mapping[str, Tensor] | None = None,
) -> list[OptionLikelihood]:
    """Score each prompt's `options` (token ids, at least one each) one after the other; the rest as `generate`.

    Every prompt is run once, whatever the number of its options.
    """
    texts = [np.asarray(option) for some in options for option in some]
    if not texts:
        return []
    output, cache, mask = _prefill(model, prompts, image_features, router)
    rows = torch.tensor([row for row, some in enumerate(options) for _ in some], device=model.device)
    cache.batch_select_indices(rows)
    tokens = pad(texts, 0, "right").to(model.device)
    there = pad([np.ones(len(text), bool) for text in texts], False, "right").to(model.device)
    logits = output.logits[rows]
    if tokens.shape[1] > 1:
        rest = model(
            input_ids=tokens[:, :-1],
            attention_mask=torch.cat([mask[rows], there[:, :-1].to(mask.dtype)], dim=1),
            past_key_values=cache,
            use_cache=True,
        )
        logits = torch.cat([logits, rest.logits], dim=1)
    return token_log_likelihoods(logits, tokens, there)


def use_accelerator(
    model: ParrotForConditionalGeneration, device: str | torch.device | None = None
) -> ParrotForConditionalGeneration:
    """Put `model` into evaluation mode, on `device`, by default the GPU where there is one."""
    model.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    return model.eval()


def end_tokens(model: ParrotForConditionalGeneration) -> Tensor:
    """Return the tokens that end a turn, (E,)."""
    ends = model.generation_config.eos_token_id
    assert ends is not None, "a model that predicts needs generation_config.eos_token_id"
    return torch.tensor(ends, device=model.device).flatten()


def _prefill(
    model: ParrotForConditionalGeneration,
    prompts: Sequence[np.ndarray],
    image_features: Tensor | None,
    router: Mapping[str, Tensor] | None,
) -> tuple[Any, DynamicCache, Tensor]:
    """Run the prompts, padded on the left: the output with the last token's logits, the cache, the attention mask."""
    mask = pad([np.ones(len(prompt)) for prompt in prompts], 0, "left").to(model.device)
    cache = DynamicCache(config=model.config.text_config)
    output = model(
        input_ids=pad(prompts, 0, "left").to(model.device),  # padding is masked, so its token does not matter
        attention_mask=mask,
        image_features=image_features,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        **(router or {}),
    )
    return output, cache, mask


def _images(model: ParrotForConditionalGeneration, prompt: np.ndarray) -> int:
    return int((np.asarray(prompt) == model.config.image_token_id).sum()) // model.config.num_image_tokens


class TextStream:
    """Pieces of text for `show`; put together they are the answer that `end` returns.

    Held back until more is known: a character of which not all bytes are there, and whitespace, which an answer's end
    loses.
    """

    def __init__(self, tokenizer: Any, show: Callable[[str], object]):
        self.tokenizer = tokenizer
        self.show = show
        self.shown = ""

    def grow(self, tokens: Sequence[int]) -> None:
        """Show what is certain of an answer that begins with `tokens`."""
        self._show(self._decode(tokens).rstrip(UNFINISHED).rstrip())

    def end(self, tokens: Sequence[int]) -> str:
        """Show the rest of the answer, which is `tokens`, and return it whole."""
        text = self._decode(tokens)
        self._show(text)
        return text

    def _decode(self, tokens: Sequence[int]) -> str:
        # All tokens every time: what a token stands for may depend on those before it.
        return self.tokenizer.decode(tokens, skip_special_tokens=True).strip()

    def _show(self, text: str) -> None:
        assert text.startswith(self.shown), "a longer answer begins as the shorter one does"
        if text != self.shown:
            self.show(text[len(self.shown) :])
            self.shown = text
