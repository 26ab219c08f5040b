"""Any image-text-to-text model of transformers as a predictor, through its own processor and chat template."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from parrot.constants import IGNORE_INDEX, IMAGE_TOKEN
from parrot.data.rgb import to_rgb
from parrot.errors import UserError
from parrot.evaluate.generate import use_accelerator
from parrot.evaluate.predictor import (
    Generation,
    Item,
    OpenImage,
    OptionLikelihood,
    by_item,
    token_log_likelihoods,
    until_end,
)
from parrot.model.processing_parrot import pad
from parrot.model.vlm import ChatTemplateProcessor

IMAGES_AT_ONCE = 256  # decoded in main memory


class HFPredictor:
    """Predicts by any image-text-to-text model of transformers; images are encoded anew with every batch."""

    def __init__(self, model: Any, processor: ChatTemplateProcessor):
        self.model = use_accelerator(model)
        self.processor = processor
        self._images: dict[str, Image] = {}

    @property
    def images_at_once(self) -> int:
        """See `Predictor`."""
        return IMAGES_AT_ONCE

    def prepare(self, items: Sequence[Item]) -> list[Item]:
        """See `Predictor.prepare`; no part of these models is a router."""
        for item in items:
            self._check(item)
        return list(items)

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each prompt, without visual ones: how many an image takes is known when it is encoded."""
        prompts = [self.processor.format_prompt(item.query) for item in items]
        return [len(ids) for ids in self.processor.tokenizer(prompts)["input_ids"]]

    def encode_images(self, images: Mapping[str, OpenImage], batch: int) -> None:
        """See `Predictor.encode_images`; what is kept is the images as 8-bit RGB."""
        self._images = {name: to_rgb(image()) for name, image in images.items()}

    @torch.inference_mode()
    def generate(self, items: Sequence[Item]) -> list[Generation]:
        """See `Predictor.generate`."""
        settings = items[0].generation.over(self.model.generation_config)
        prefix = _Prefix()
        tokens = self.model.generate(
            **self._encode(items), generation_config=settings, stopping_criteria=StoppingCriteriaList([prefix])
        )
        ends = torch.tensor(settings.eos_token_id).flatten().tolist()
        return [until_end(row, ends) for row in tokens[:, prefix.length :].tolist()]

    @torch.inference_mode()
    def option_log_likelihoods(self, items: Sequence[Item]) -> list[list[OptionLikelihood]]:
        """See `Predictor.option_log_likelihoods`; an encoder-decoder's options are what its decoder says."""
        options = [self._option(option, item) for item in items for option in item.options]
        if not options:
            return [[] for _ in items]
        inputs = self._encode([item for item in items for _ in item.options])
        tokens = pad(options, 0, "right").to(self.model.device)
        there = pad([np.ones(len(option), bool) for option in options], False, "right").to(self.model.device)
        if self.model.config.get_text_config().is_encoder_decoder:
            logits = self.model(**inputs, labels=tokens.masked_fill(~there, IGNORE_INDEX)).logits
        else:
            logits = self._continued(inputs, tokens, there)
        return by_item(items, token_log_likelihoods(logits, tokens, there))

    def _continued(self, inputs: Any, tokens: Tensor, there: Tensor) -> Tensor:
        """Logits (R, K, V) of the `tokens` (R, K) that follow the prompts."""
        prompts = inputs["input_ids"]
        for name, value in inputs.items():
            if torch.is_tensor(value) and value.shape == prompts.shape:
                inputs[name] = torch.cat([value, torch.zeros_like(tokens, dtype=value.dtype)], dim=1)
        length = prompts.shape[1]
        inputs["input_ids"][:, length:] = tokens
        inputs["attention_mask"][:, length:] = there
        keep = {"logits_to_keep": tokens.shape[1] + 1}
        takes_keep = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        return self.model(**inputs, **(keep if takes_keep else {})).logits[:, -tokens.shape[1] - 1 : -1]

    def _check(self, item: Item) -> None:
        """Check that the model can read an item.

        Raises:
            UserError: it cannot; the line begins with the item's `where`.
        """
        name, mark = type(self.model).__name__, str(self.processor.processor.image_token)
        if mark in item.query.removeprefix(f"{IMAGE_TOKEN}\n") and not (mark == IMAGE_TOKEN and len(item.images) > 1):
            raise UserError(f"{item.where}: expected no {mark} in the text; it stands for the image")
        pixels = inspect.signature(self.model.generate).parameters.get("pixel_values")
        if pixels is not None and pixels.default is pixels.empty and not item.images:
            raise UserError(f"{item.where}: {name} needs an image; leave out control text")
        if len(item.images) > 1 and self.processor.processor.chat_template is None:
            raise UserError(f"{item.where}: images: {name} reads one, found {len(item.images)}")
        if item.query.count(IMAGE_TOKEN) != len(item.images):
            expected = f"expected as many {IMAGE_TOKEN} in the text as images"
            raise UserError(f"{item.where}: {expected}, {len(item.images)}, found {item.query.count(IMAGE_TOKEN)}")

    def _option(self, option: str, item: Item) -> list[int]:
        tokens = self.processor.tokenizer(option, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise UserError(f"{item.where}: options: expected some text, found {option!r}")
        return tokens

    def _encode(self, items: Sequence[Item]) -> Any:
        prompts = [self.processor.format_prompt(item.query) for item in items]
        images = [[self._images[image] for image in item.images] for item in items]
        start = self.processor.tokenizer.bos_token
        options: dict[str, Any] = {"images": images} if images[0] else {}
        if start and prompts[0].startswith(start):
            options["add_special_tokens"] = False
        inputs = self.processor.processor(text=prompts, padding=True, return_tensors="pt", **options)
        return inputs.to(self.model.device, self.model.dtype)


class _Prefix(StoppingCriteria):
    """Stops nothing and sees how many tokens precede the first generated one, which differs by architecture."""

    def __init__(self) -> None:
        self.length = -1

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        if self.length < 0:
            self.length = input_ids.shape[1] - 1
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
