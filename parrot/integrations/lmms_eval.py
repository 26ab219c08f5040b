"""Parrot in lmms-eval: ``lmms-eval eval --model parrot --model_args pretrained=MODEL_FOLDER --tasks ...``.

lmms-eval finds it by the entry point ``lmms_eval.models``, so installing this package is all it takes. Only lmms-eval
imports this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from accelerate import PartialState
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from PIL import Image
from tqdm import tqdm

from parrot.config.catalog import Language
from parrot.constants import IMAGE
from parrot.errors import ConfigError
from parrot.integrations.answering import Answerer, with_pictures

MANIFEST = ModelManifest("parrot", simple_class_path=f"{__name__}.Parrot")

MAX_NEW_TOKENS = 512


class Parrot(lmms):
    """A trained run's model folder, or a released checkpoint's, as a model that writes answers.

    Args:
        pretrained: the folder.
        batch_size: questions at once.
        device: by default the process's own GPU under `accelerate launch`, else the GPU if there is one.
        dtype: of the weights.
        language: of all questions, for a router that is told it.
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
        self.answerer = Answerer(pretrained, dtype, self.device)

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """The answer to each request, cut before the first of the task's stopping strings."""
        answers = [""] * len(requests)
        with tqdm(total=len(requests), desc="Parrot", unit="question", disable=self.rank != 0) as progress:
            for places in self._batches(requests):
                batch = [requests[place].args for place in places]
                pictures = [self._pictures(arguments) for arguments in batch]
                settings = batch[0][1]
                said = self.answerer.answer(
                    [_query(arguments[0], len(some)) for arguments, some in zip(batch, pictures, strict=True)],
                    pictures,
                    self.language,
                    **_generation(settings),
                )
                for place, text in zip(places, said, strict=True):
                    answers[place] = _cut(text, settings.get("until"))
                progress.update(len(places))
        return answers

    def _batches(self, requests: Sequence[Instance]) -> Iterator[list[int]]:
        """Places of requests to ask together: of the same settings, texts close in length."""

        def settings(place: int) -> str:
            return json.dumps(requests[place].args[1], sort_keys=True, default=str)

        order = sorted(range(len(requests)), key=lambda place: (settings(place), len(requests[place].args[0])))
        for _, places in groupby(order, settings):
            alike = list(places)
            for start in range(0, len(alike), self.batch_size):
                yield alike[start : start + self.batch_size]

    def _pictures(self, arguments: tuple[Any, ...]) -> list[Image.Image]:
        _, _, doc_to_visual, document, task, split = arguments
        found = doc_to_visual(self.task_dict[task][split][document]) or []
        if not all(isinstance(each, Image.Image) for each in found):
            raise ConfigError(f"task {task}: expected pictures, found {type(found[0]).__name__}")
        return [picture.convert("RGB") for picture in found]

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("Parrot writes answers; it takes tasks with output_type generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        raise NotImplementedError("Parrot answers one turn; it takes tasks with output_type generate_until")


def _generation(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `generate`; tasks also name options of other models' own, which mean nothing here."""
    sampled = bool(settings.get("do_sample")) and settings.get("temperature") != 0
    names = ("temperature", "top_p") if sampled else ()
    arguments = {name: settings[name] for name in ("num_beams", *names) if settings.get(name) is not None}
    return {"max_new_tokens": settings.get("max_new_tokens", MAX_NEW_TOKENS), "do_sample": sampled, **arguments}


def _query(context: str, pictures: int) -> str:
    return context if IMAGE in context else with_pictures(context, pictures)


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            text = text.split(stop, 1)[0]
    return text.strip()
