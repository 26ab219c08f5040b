"""Any image-text-to-text model of transformers, asked through its own processor and chat template."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from transformers import StoppingCriteria

from parrot.constants import IMAGE
from parrot.data.tsv import decode_picture
from parrot.errors import ConfigError
from parrot.evaluate.generate import Answer, use_accelerator
from parrot.evaluate.questions import Question
from parrot.model.vlm import OwnWords

PICTURES_AT_ONCE = 256  # decoded in main memory


class AnyModelAsker:
    """Asks `model` the `questions`, as `parrot.evaluate.asker.Asker` does; pictures are encoded with every question."""

    def __init__(self, model: Any, words: OwnWords, questions: Sequence[Question]):
        self.model = use_accelerator(model)
        self.words = words
        self.questions = questions
        self.prompts = [words.format_prompt(question.query) for question in questions]
        self._seen: dict[str, Image] = {}
        self._check()

    def _check(self) -> None:
        """ConfigError where the model cannot be asked a question."""
        mark = str(self.words.processor.image_token)
        pixels = inspect.signature(self.model.generate).parameters.get("pixel_values")
        needs_picture = pixels is not None and pixels.default is pixels.empty
        for question in self.questions:
            if mark in question.query.removeprefix(f"{IMAGE}\n"):
                raise ConfigError(f"{question.where}: expected no {mark} in the text; it stands for the picture")
            if needs_picture and question.picture is None:
                name = type(self.model).__name__
                raise ConfigError(f"{question.where}: {name} cannot be asked without a picture; leave out control text")

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt, without visual ones: how many a picture takes is known when it is seen."""
        return [len(ids) for ids in self.words.tokenizer(self.prompts)["input_ids"]]

    @property
    def pictures_at_once(self) -> int:
        return PICTURES_AT_ONCE

    def see(self, pictures: Sequence[str], batch: int) -> None:
        """Decode base64 `pictures`, so that questions about them can be asked; earlier ones are forgotten.

        ConfigError naming file and row of a picture that cannot be decoded.
        """
        where = {question.picture: question.where for question in self.questions}
        self._seen = {picture: decode_picture(picture, where[picture]) for picture in pictures}

    @torch.inference_mode()
    def ask(self, places: Sequence[int]) -> list[Answer]:
        """Answers to the questions at `places`, which are all about pictures that were seen, or all without one."""
        asked = [self.questions[place] for place in places]
        inputs = self._encode(
            [self.prompts[place] for place in places],
            [self._seen[question.picture] for question in asked if question.picture is not None],
        )
        settings = copy.deepcopy(self.model.generation_config)
        settings.update(max_new_tokens=asked[0].max_new_tokens)
        steps = _Steps()
        tokens = self.model.generate(**inputs, generation_config=settings, stopping_criteria=[steps])
        ends = torch.tensor(settings.eos_token_id).flatten().tolist()
        return [_answer(row, ends) for row in tokens[:, tokens.shape[1] - steps.count :].tolist()]

    def _encode(self, prompts: list[str], pictures: list[Image]) -> Any:
        start = self.words.tokenizer.bos_token
        options: dict[str, Any] = {"images": [[picture] for picture in pictures]} if pictures else {}
        if start and prompts[0].startswith(start):
            options["add_special_tokens"] = False
        inputs = self.words.processor(text=prompts, padding=True, return_tensors="pt", **options)
        return inputs.to(self.model.device, self.model.dtype)


class _Steps(StoppingCriteria):
    """Stops nothing and counts the tokens that each sequence got: what precedes them differs by architecture."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        self.count += 1
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _answer(tokens: list[int], ends: list[int]) -> Answer:
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Answer(tokens, "length") if stop is None else Answer(tokens[:stop], "eos")
