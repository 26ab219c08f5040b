"""Parrot in lmms-eval: ``lmms-eval eval --model parrot --model_args pretrained=MODEL_FOLDER --tasks ...``.

lmms-eval finds it by the entry point ``lmms_eval.models``, so installing this package is all it takes. Only lmms-eval
imports this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from accelerate import PartialState
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from tqdm import tqdm

from parrot.config.catalog import Language
from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.evaluate.parrot_predictor import load_predictor
from parrot.evaluate.predictor import GenerationSettings, Item, encode_unnamed, generate_texts, with_images

MANIFEST = ModelManifest("parrot", simple_class_path=f"{__name__}.Parrot")

MAX_NEW_TOKENS = 512
GENERATE = "generate_until"  # type of a request


class Parrot(lmms):
    """A trained run's model folder, or a released checkpoint's, as a model that writes answers and scores choices.

    Args:
        pretrained: the folder.
        batch_size: questions at once.
        device: by default the process's own GPU under `accelerate launch`, else the GPU if there is one.
        dtype: of the weights.
        language: of all questions, for a router that reads it.
    """

    def __init__(
        self,
        pretrained: str,
        batch_size: int | str = 1,
        device: str | None = None,
        dtype: str = "float32",
        language: Language | None = None,
    ):
        super().__init__()
        self.batch_size = int(batch_size)
        self.device = device or PartialState().device
        self.language = language
        self.predictor = load_predictor(pretrained, getattr(torch, dtype), self.device)
        self.where = pretrained

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Generate for each request, and cut before the first of the task's stopping strings."""
        answers = [""] * len(requests)
        for places in self._batches(requests):
            settings = requests[places[0]].args[1]
            items = self._items([requests[place] for place in places], _generation(settings))
            for place, text in zip(places, generate_texts(self.predictor, items), strict=True):
                answers[place] = _cut(text, settings.get("until"))
        return answers

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Score each request's continuation after its prompt: its log-likelihood, and whether it is the greedy answer.

        The delimiter before a choice, a space by default, is left out: in a chat the choice begins a turn.
        """
        scores = [(0.0, False)] * len(requests)
        for places in self._batches(requests):
            batch = [requests[place] for place in places]
            items = [
                replace(item, options=(self._continuation(request.args).lstrip(),))
                for item, request in zip(self._items(batch, GenerationSettings(1)), batch, strict=True)
            ]
            for place, (scored,) in zip(places, self.predictor.option_log_likelihoods(items), strict=True):
                scores[place] = (scored.log_likelihood, scored.is_greedy)
        return scores

    def _items(self, requests: Sequence[Instance], generation: GenerationSettings) -> list[Item]:
        images = [self._images(request.args) for request in requests]
        names = encode_unnamed(self.predictor, images, self.batch_size)
        queries = [_query(request.args[0], len(some)) for request, some in zip(requests, images, strict=True)]
        return [
            Item(query, some, self.where, generation, self.language) for query, some in zip(queries, names, strict=True)
        ]

    def _batches(self, requests: Sequence[Instance]) -> Iterator[list[int]]:
        """Places of requests to predict together: of the same settings, texts close in length; shows progress."""

        def settings(place: int) -> str:
            request = requests[place]
            return json.dumps(request.args[1], sort_keys=True, default=str) if request.request_type == GENERATE else ""

        order = sorted(range(len(requests)), key=lambda place: (settings(place), len(requests[place].args[0])))
        with tqdm(total=len(requests), desc="Parrot", unit="question", disable=self.rank != 0) as progress:
            for _, places in groupby(order, settings):
                alike = list(places)
                for start in range(0, len(alike), self.batch_size):
                    some = alike[start : start + self.batch_size]
                    yield some
                    progress.update(len(some))

    def _continuation(self, arguments: tuple[Any, ...]) -> str:
        _, target, _, document, task, split = arguments
        return target if isinstance(target, str) else str(target(self.task_dict[task][split][document]))

    def _images(self, arguments: tuple[Any, ...]) -> list[Image.Image]:
        _, _, doc_to_visual, document, task, split = arguments
        found = doc_to_visual(self.task_dict[task][split][document]) or []
        if not all(isinstance(each, Image.Image) for each in found):
            raise UserError(f"task {task}: expected images, found {type(found[0]).__name__}")
        return [image.convert("RGB") for image in found]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Refuse tasks of several rounds."""
        raise NotImplementedError("Parrot answers one turn; it takes tasks with output_type generate_until")


def _generation(settings: Mapping[str, Any]) -> GenerationSettings:
    """How a task's answers are decoded; tasks also name options of other models' own, which mean nothing here."""
    sampled = bool(settings.get("do_sample")) and settings.get("temperature") != 0
    names = ("num_beams", *(("temperature", "top_p") if sampled else ()))
    given = {name: settings[name] for name in names if settings.get(name) is not None}
    return GenerationSettings(settings.get("max_new_tokens", MAX_NEW_TOKENS), do_sample=sampled, **given)


def _query(context: str, images: int) -> str:
    return context if IMAGE_TOKEN in context else with_images(context, images)


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            text = text.split(stop, 1)[0]
    return text.strip()
