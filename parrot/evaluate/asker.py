"""A model and the questions it is asked: prompts, pictures' features, batches of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from parrot.data.tsv import decode_image
from parrot.evaluate.generate import Answer, check_length, generate, use_accelerator
from parrot.evaluate.questions import Question
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor

FEATURE_BYTES = 2**31  # of main memory, for the features of the pictures that are asked about at a time


class Asker:
    """Asks `model` the `questions`; a question is named by its place among them."""

    def __init__(
        self, model: ParrotForConditionalGeneration, processor: ParrotProcessor, questions: Sequence[Question]
    ):
        self.model = use_accelerator(model)
        self.processor = processor
        self.questions = questions
        self.prompts = [
            np.array(processor.encode(processor.format_prompt(question.query)), dtype=np.int32)
            for question in questions
        ]
        for question, prompt in zip(questions, self.prompts, strict=True):
            check_length(model, prompt, question.where)
        self._router_texts = _router_texts(model.config.router, processor, questions, self.prompts)
        self._features = torch.empty(0)
        self._position: dict[str, int] = {}

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt, visual tokens included."""
        return [len(prompt) for prompt in self.prompts]

    @property
    def pictures_at_once(self) -> int:
        """Pictures whose features fit into `FEATURE_BYTES`."""
        config = self.model.config
        size = config.num_image_tokens * config.vision_config.hidden_size * self.model.dtype.itemsize
        return max(1, FEATURE_BYTES // size)

    @torch.inference_mode()
    def see(self, pictures: Sequence[str], batch: int) -> None:
        """Encode base64 `pictures`, so that questions about them can be asked; earlier ones are forgotten.

        ConfigError naming file and row of a picture that cannot be decoded.
        """
        where = {question.picture: question.where for question in self.questions}
        parts = [
            self.model.encode_images(pixels.to(self.model.device)).cpu()
            for pixels in self._decoded([(picture, where[picture]) for picture in pictures], batch)
        ]
        self._features = torch.cat(parts) if parts else torch.empty(0)
        self._position = {picture: place for place, picture in enumerate(pictures)}

    def _decoded(self, pictures: list[tuple[str, str]], batch: int) -> Iterator[Tensor]:
        """Pixels, `batch` pictures at a time; the next ones are decoded while these are encoded."""

        def decode(some: list[tuple[str, str]]) -> Tensor:
            images = [decode_image(picture, where) for picture, where in some]
            return self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]

        slices = [pictures[start : start + batch] for start in range(0, len(pictures), batch)]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(decode, slices[0]) if slices else None
            for following in (*slices[1:], None):
                if waiting is None:
                    return
                pixels = waiting.result()
                waiting = pool.submit(decode, following) if following else None
                yield pixels

    def ask(self, places: Sequence[int]) -> list[Answer]:
        """Answers to the questions at `places`, which are all about pictures that were seen, or all without one."""
        asked = [self.questions[place] for place in places]
        seen = [self._position[question.picture] for question in asked if question.picture is not None]
        texts = self._router_texts
        return generate(
            self.model,
            [self.prompts[place] for place in places],
            self._features[seen].to(self.model.device) if seen else None,
            asked[0].max_new_tokens,
            [texts[place] for place in places] if texts and seen else None,
            self.processor.language_ids([question.language for question in asked]) if seen else None,
        )


def _router_texts(
    router: str, processor: ParrotProcessor, questions: Sequence[Question], prompts: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """What the router reads for each question; None where that is the prompt.

    The router `shuffled_text` reads the prompt of another question with a picture, of whatever language: each one is
    read once, by the fixed seed 0.
    """
    if router != "shuffled_text" and processor.router_text == "prompt":
        return None
    texts = [prompt[processor.router_reads(prompt.tolist())] for prompt in prompts]
    if router == "shuffled_text":
        pictured = [place for place, question in enumerate(questions) if question.picture is not None]
        order = np.random.default_rng(0).permutation(pictured)
        partner = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        texts = [texts[partner.get(place, place)] for place in range(len(texts))]
    return texts
