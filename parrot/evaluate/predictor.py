"""What predicts: one protocol, which Parrot (`parrot_predictor`) and any model of transformers (`hf_predictor`) have.

Prediction, chat and the wrappers for other suites know nothing else of a model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from PIL import Image
from transformers import GenerationConfig

from parrot.config.catalog import Language
from parrot.constants import IMAGE_TOKEN

OpenImage = Callable[[], Image.Image]
"""Decodes an image, in its own mode; UserError where it cannot be decoded."""


@dataclass(frozen=True)
class GenerationSettings:
    """How a prediction is decoded: greedily by default, by beams, or by sampling; None: as the model suggests."""

    max_new_tokens: int
    num_beams: int = 1
    length_penalty: float | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = None

    @property
    def greedy(self) -> bool:
        """True without beams and sampling."""
        return self.num_beams == 1 and not self.do_sample

    def over(self, suggested: GenerationConfig) -> GenerationConfig:
        """Lay these settings over what a model's folder suggests, whose repetition penalty is left out."""
        config = copy.deepcopy(suggested)
        given = {name: value for name, value in asdict(self).items() if value is not None}
        config.update(repetition_penalty=1.0, **given)
        return config


@dataclass(frozen=True)
class Item:
    """One input: the user's turn, the images that its `<image>`s stand for, in their order, and how to decode.

    Attributes:
        images: the names under which the images are encoded; those of a benchmark are the base64 images themselves.
        where: file and row of the item, for messages.
        language: of the query; None where it is unknown.
        router_query: the user's turn that the router reads in place of this one; None: this one.
        options: continuations for `Predictor.option_log_likelihoods`.
    """

    query: str
    images: tuple[str, ...]
    where: str
    generation: GenerationSettings
    language: Language | None = None
    router_query: str | None = None
    options: tuple[str, ...] = ()


@dataclass
class Generation:
    """Generated token ids without the end-of-turn token, why they ended, and the expert weights.

    The weights are the mean over the item's images, and empty without images or experts.
    """

    tokens: list[int] = field(default_factory=list)
    stop_reason: Literal["eos", "length"] = "length"
    router_weights: list[float] = field(default_factory=list)


class OptionLikelihood(NamedTuple):
    """The sum of an option's token log-probabilities, and whether greedy decoding would say the option."""

    log_likelihood: float
    is_greedy: bool


class Processor(Protocol):
    """What turns a user's turn into the text that the model reads, and token ids into text."""

    tokenizer: Any

    def format_prompt(self, query: str) -> str:
        """Word the prompt of a user's turn."""


class Predictor(Protocol):
    """A model that predicts; items that are given together have equal settings and equally many images."""

    @property
    def processor(self) -> Processor:
        """The model's processor."""

    @property
    def images_at_once(self) -> int:
        """Say how many images' encodings main memory is to hold."""

    def prepare(self, items: Sequence[Item]) -> list[Item]:
        """Check all items of a job and give each what the router reads of another.

        Raises:
            UserError: an item is bad; the line names it.
        """

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Count the tokens of each prompt, about, for batches of about one length."""

    def encode_images(self, images: Mapping[str, OpenImage], batch: int) -> None:
        """Encode images by name, `batch` at a time, for the items that follow; earlier images are forgotten."""

    def generate(self, items: Sequence[Item]) -> list[Generation]:
        """Predict the items, whose images are encoded."""

    def option_log_likelihoods(self, items: Sequence[Item]) -> list[list[OptionLikelihood]]:
        """Score each item's options after its prompt, as `generate` words it.

        Raises:
            UserError: an empty option.
        """


def until_end(tokens: Sequence[int], ends: Collection[int]) -> Generation:
    """Cut generated token ids before the first that ends a turn."""
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Generation(list(tokens), "length") if stop is None else Generation(list(tokens[:stop]), "eos")


def token_log_likelihoods(logits: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> list[OptionLikelihood]:
    """Score options by the logits (R, K, V) of their tokens (R, K); `mask`, (R, K) bool, leaves padding out."""
    log_probabilities = logits.float().log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    sums = (log_probabilities * mask).sum(-1)
    greedy = ((logits.argmax(-1) == tokens) | ~mask).all(-1)
    return [OptionLikelihood(*scored) for scored in zip(sums.tolist(), greedy.tolist(), strict=True)]


def by_item(items: Sequence[Item], scored: Sequence[OptionLikelihood]) -> list[list[OptionLikelihood]]:
    """Deal the options' scores out to their items."""
    rest = iter(scored)
    return [[next(rest) for _ in item.options] for item in items]


def with_images(text: str, images: int) -> str:
    """Put the images' placeholders before `text`: a single one on a line of its own, several without any break."""
    return f"{IMAGE_TOKEN}\n{text}" if images == 1 else IMAGE_TOKEN * images + text


def encode_unnamed(
    predictor: Predictor, images: Sequence[Sequence[Image.Image]], batch: int = 1
) -> list[tuple[str, ...]]:
    """Encode each item's opened images, and name them for `Item.images`."""
    names = [tuple(f"{item}-{place}" for place in range(len(some))) for item, some in enumerate(images)]
    opened = {
        name: partial(_itself, image)
        for of_item, some in zip(names, images, strict=True)
        for name, image in zip(of_item, some, strict=True)
    }
    predictor.encode_images(opened, batch)
    return names


def generate_texts(predictor: Predictor, items: Sequence[Item]) -> list[str]:
    """Predict the items, in words."""
    tokens = [generation.tokens for generation in predictor.generate(items)]
    return predictor.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)


def _itself(image: Image.Image) -> Image.Image:
    return image
