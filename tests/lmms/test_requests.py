"""What lmms-eval's requests make of the model: its text, its images, its settings, its stopping strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from lmms_eval.api.instance import Instance
from lmms_eval.models import get_model
from PIL import Image

from parrot.errors import UserError
from parrot.evaluate.predictor import Generation, GenerationSettings, Item, OpenImage, OptionLikelihood

WHITE = Image.new("L", (2, 2), 255)
DOCUMENTS = {"one": [WHITE], "two": [WHITE, WHITE], "none": None, "film": ["film.mp4"]}


class Recorded:
    """Stands in for the model: says every query backwards, a character a token, and scores options by their length."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], list[list[str]], str | None, GenerationSettings]] = []
        self.processor = self.tokenizer = self

    def encode_images(self, images: Mapping[str, OpenImage], batch: int) -> None:
        assert batch == 2
        self.modes = {name: image().mode for name, image in images.items()}

    def generate(self, items: Sequence[Item]) -> list[Generation]:
        (settings,) = {item.generation for item in items}
        (language,) = {item.language for item in items}
        modes = [[self.modes[image] for image in item.images] for item in items]
        self.asked.append(([item.query for item in items], modes, language, settings))
        return [Generation([ord(character) for character in item.query[::-1]]) for item in items]

    def option_log_likelihoods(self, items: Sequence[Item]) -> list[list[OptionLikelihood]]:
        self.scored = [(item.query, item.options) for item in items]
        return [[OptionLikelihood(-float(len(option)), len(option) == 1) for option in item.options] for item in items]

    def batch_decode(self, texts: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(map(chr, tokens)) for tokens in texts]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As lmms-eval builds it from its command line, by the name that the entry point gives."""
    recorded = Recorded()
    monkeypatch.setattr("parrot.integrations.lmms_eval.load_predictor", lambda folder, dtype, device: recorded)
    arguments = {"batch_size": "2", "max_batch_size": None, "device": None}
    parrot = get_model("parrot").create_from_arg_string("pretrained=some/folder,language=tr", arguments)
    parrot.task_dict = {"task": {"test": DOCUMENTS}}
    return parrot


def request(context: str, document: str, **settings: Any) -> Instance:
    return instance("generate_until", context, document, settings)


def instance(kind: str, context: str, document: str, more: Any) -> Instance:
    arguments = (context, more, lambda images: images, document, "task", "test")
    return Instance(kind, arguments, idx=0, metadata={"task": "task", "doc_id": document, "repeats": 1})


def asked(model: Any, context: str, document: str, **settings: Any) -> GenerationSettings:
    model.generate_until([request(context, document, **settings)])
    return model.predictor.asked[-1][-1]


def test_images_stand_before_the_text_or_where_it_says(model: Any) -> None:
    contexts = [("ab", "one"), ("abc", "two"), ("abcd", "none"), ("abc<image>", "one")]
    answers = model.generate_until([request(*context) for context in contexts])
    queries = ["<image>\nab", "<image><image>abc", "abcd", "abc<image>"]
    assert answers == [query[::-1] for query in queries]
    assert [(batch[0], batch[1], batch[2]) for batch in model.predictor.asked] == [
        (queries[:2], [["RGB"], ["RGB", "RGB"]], "tr"),
        (queries[2:], [[], ["RGB"]], "tr"),
    ]


def test_requests_of_other_settings_are_other_batches(model: Any) -> None:
    lengths = [5, 7, 5]
    model.generate_until([request("abc", "none", max_new_tokens=length) for length in lengths])
    assert [(len(batch[0]), batch[-1].max_new_tokens) for batch in model.predictor.asked] == [(2, 5), (1, 7)]


def test_settings(model: Any) -> None:
    assert asked(model, "a", "none") == GenerationSettings(512)
    # As most tasks word greedy decoding, with another model's own option beside it.
    greedy = {"do_sample": False, "temperature": 0, "top_p": 1.0, "num_beams": 1, "image_aspect_ratio": "original"}
    assert asked(model, "a", "none", **greedy) == GenerationSettings(512)
    assert asked(model, "a", "none", num_beams=3) == GenerationSettings(512, num_beams=3)
    sampled = {"max_new_tokens": 9, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    assert asked(model, "a", "none", **sampled) == GenerationSettings(**sampled)


def test_choices_are_scored_without_the_delimiter_in_front(model: Any) -> None:
    choices = [" red", " b", lambda images: f"{len(images)} images"]
    requests = [instance("loglikelihood", "abc", "two", choice) for choice in choices]
    assert model.loglikelihood(requests[:2]) == [(-3.0, False), (-1.0, True)]
    assert model.predictor.scored == [("<image><image>abc", ("red",)), ("<image><image>abc", ("b",))]
    assert model.loglikelihood(requests[2:]) == [(-8.0, False)]


@pytest.mark.parametrize(
    ("until", "said"), [("c", "d"), (["b", "c"], "d"), ([], "dcba"), (None, "dcba"), (["x"], "dcba")]
)
def test_an_answer_ends_before_a_stopping_string(model: Any, until: Any, said: str) -> None:
    assert model.generate_until([request("abcd", "none", until=until)]) == [said]


def test_what_it_cannot_do_is_said(model: Any) -> None:
    with pytest.raises(UserError, match="task task: expected images, found str"):
        model.generate_until([request("a", "film")])
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.generate_until_multi_round([])
