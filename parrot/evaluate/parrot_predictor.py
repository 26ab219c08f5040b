"""Parrot as a predictor: prompts, images' features, what the router reads, and decoding in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.evaluate.generate import end_tokens, generate, score_options, use_accelerator
from parrot.evaluate.predictor import (
    Generation,
    GenerationSettings,
    Item,
    OpenImage,
    OptionLikelihood,
    by_item,
    until_end,
)
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor
from parrot.model.checkpoint import load_parrot
from parrot.model.processing_parrot import pad

FEATURE_BYTES = 2**31  # of main memory, for the features of the images that are encoded at a time


class ParrotPredictor:
    """Predicts by `model`; several images an item are read, each where its `<image>` stands."""

    def __init__(
        self,
        model: ParrotForConditionalGeneration,
        processor: ParrotProcessor,
        device: str | torch.device | None = None,
    ):
        self.model = use_accelerator(model, device)
        self.processor = processor
        self.router = model.config.router if model.config.num_experts else None
        self._prompts: dict[str, np.ndarray] = {}
        self._features = torch.empty(0)
        self._position: dict[str, int] = {}

    @property
    def images_at_once(self) -> int:
        """Images whose features fit into `FEATURE_BYTES`."""
        config = self.model.config
        size = config.num_image_tokens * config.vision_config.hidden_size * self.model.dtype.itemsize
        return max(1, FEATURE_BYTES // size)

    def prepare(self, items: Sequence[Item]) -> list[Item]:
        """Tokenise and check the items; see `Predictor.prepare`.

        The router `shuffled_text` reads the query of another item with images, of whatever language: each one is read
        once, by the fixed seed 0.
        """
        self._prompts = {item.query: self._encode(item.query) for item in items}
        for item in items:
            self._check(item)
        return _with_partners(items) if self.router == "shuffled_text" else list(items)

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Tokens of each prompt, visual tokens included."""
        return [len(self._prompt(item.query)) for item in items]

    @torch.inference_mode()
    def encode_images(self, images: Mapping[str, OpenImage], batch: int) -> None:
        """See `Predictor.encode_images`; what is kept is the encoder's features."""
        parts = [
            self.model.encode_images(pixels.to(self.model.device)).cpu()
            for pixels in self._pixels(list(images.values()), batch)
        ]
        self._features = torch.cat(parts) if parts else torch.empty(0)
        self._position = {image: place for place, image in enumerate(images)}

    def generate(
        self, items: Sequence[Item], watch: Callable[[list[Generation]], object] = lambda generations: None
    ) -> list[Generation]:
        """See `Predictor.generate`; `watch` is shown greedy generations after every token."""
        inputs, settings = self._inputs(items), items[0].generation
        if settings.greedy:
            return generate(self.model, **inputs, max_new_tokens=settings.max_new_tokens, watch=watch)
        return self._search(settings, [len(item.images) for item in items], **inputs)

    def option_log_likelihoods(self, items: Sequence[Item]) -> list[list[OptionLikelihood]]:
        """See `Predictor.option_log_likelihoods`; an option's end of turn is not counted."""
        options = [[self._option(option, item) for option in item.options] for item in items]
        return by_item(items, score_options(self.model, **self._inputs(items), options=options))

    def _pixels(self, images: list[OpenImage], batch: int) -> Iterator[Tensor]:
        """Pixels, `batch` images at a time; the next ones are decoded while these are encoded."""

        def decode(some: list[OpenImage]) -> Tensor:
            opened = [image() for image in some]
            return self.processor.image_processor(images=opened, return_tensors="pt")["pixel_values"]

        slices = [images[start : start + batch] for start in range(0, len(images), batch)]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(decode, slices[0]) if slices else None
            for following in (*slices[1:], None):
                if waiting is None:
                    return
                pixels = waiting.result()
                waiting = pool.submit(decode, following) if following else None
                yield pixels

    def _encode(self, query: str) -> np.ndarray:
        return np.array(self.processor.encode(self.processor.format_prompt(query)), dtype=np.int32)

    def _prompt(self, query: str) -> np.ndarray:
        return self._prompts[query] if query in self._prompts else self._encode(query)

    def _check(self, item: Item) -> None:
        """Check that the model can read an item.

        Raises:
            UserError: it cannot; the line begins with the item's `where`.
        """
        positions, found = self.model.config.text_config.max_position_embeddings, len(self._prompt(item.query))
        if found > positions:
            raise UserError(f"{item.where}: expected a prompt of at most {positions} tokens, found {found}")
        if item.query.count(IMAGE_TOKEN) != len(item.images):
            expected = f"expected as many {IMAGE_TOKEN} in the text as images"
            raise UserError(f"{item.where}: {expected}, {len(item.images)}, found {item.query.count(IMAGE_TOKEN)}")
        languages = self.processor.languages
        if item.images and self.router == "language" and item.language not in languages:
            known = "which is not known here" if item.language is None else f"one of {', '.join(languages)}"
            raise UserError(f"{item.where}: its router reads the language, {known}; found {item.language}")

    def _option(self, option: str, item: Item) -> list[int]:
        tokens = self.processor.encode(option)
        if not tokens or IMAGE_TOKEN in option:
            raise UserError(f"{item.where}: options: expected some text without {IMAGE_TOKEN}, found {option!r}")
        return tokens

    def _inputs(self, items: Sequence[Item]) -> dict[str, Any]:
        """Prompts, features and what the router reads: the arguments that every way of decoding takes."""
        for item in items:
            if item.query not in self._prompts:
                self._check(item)
        prompts = [self._prompt(item.query) for item in items]
        shown = [(item, prompt) for item, prompt in zip(items, prompts, strict=True) for _ in item.images]
        if not shown:
            return {"prompts": prompts, "image_features": None, "router": {}}
        instead = None
        if self.router == "shuffled_text" or self.processor.router_text == "user":
            read = [prompt if item.router_query is None else self._prompt(item.router_query) for item, prompt in shown]
            instead = [(text, None) for text in read]
        router = self.processor.router_inputs(
            [(prompt, None) for prompt in prompts],
            instead,
            [item.language for item, _ in shown],
            side="left",
        )
        places = [self._position[image] for item in items for image in item.images]
        return {
            "prompts": prompts,
            "image_features": self._features[places].to(self.model.device),
            "router": {name: value.to(self.model.device) for name, value in router.items()},
        }

    @torch.inference_mode()
    def _search(
        self,
        settings: GenerationSettings,
        images: Sequence[int],
        prompts: Sequence[np.ndarray],
        image_features: Tensor | None,
        router: Mapping[str, Tensor],
    ) -> list[Generation]:
        """Decode by transformers' own beams or sampling; `images`: how many each item has."""
        device, weights = self.model.device, []
        hook = self.model.register_forward_hook(lambda _, __, output: weights.append(output.router_weights))
        try:
            tokens = self.model.generate(
                pad(prompts, 0, "left").to(device),
                attention_mask=pad([np.ones(len(prompt)) for prompt in prompts], 0, "left").to(device),
                image_features=image_features,
                generation_config=settings.over(self.model.generation_config),
                **router,
            )
        finally:
            hook.remove()
        ends = end_tokens(self.model).tolist()
        found = [until_end(row, ends) for row in tokens[:, max(map(len, prompts)) :].tolist()]
        if weights[0] is not None:
            # Each item's images are there once a beam; the first beam's are as good as any.
            beams = len(weights[0]) // sum(images)
            for generation, rows, count in zip(
                found, weights[0].split([count * beams for count in images]), images, strict=True
            ):
                generation.router_weights = rows[:count].mean(0).tolist() if count else []
        return found


def load_predictor(
    folder: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device | None = None
) -> ParrotPredictor:
    """Load a run's model folder, or a released checkpoint's, for items that come one by one.

    Raises:
        UserError: the folder is none, or its router reads other items' queries, which are not there.
    """
    predictor = ParrotPredictor(*load_parrot(folder, dtype), device)
    if predictor.router == "shuffled_text":
        raise UserError(f"{folder}: its router reads other questions (shuffled_text); here is none")
    return predictor


def _with_partners(items: Sequence[Item]) -> list[Item]:
    shown = [place for place, item in enumerate(items) if item.images]
    order = np.random.default_rng(0).permutation(shown)
    partner = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [replace(item, router_query=items[partner.get(place, place)].query) for place, item in enumerate(items)]
