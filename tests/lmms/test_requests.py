"""What lmms-eval's requests make of the model: its text, its pictures, its settings, its stopping strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from lmms_eval.api.instance import Instance
from lmms_eval.models import get_model
from PIL import Image

from parrot.errors import ConfigError

WHITE = Image.new("L", (2, 2), 255)
DOCUMENTS = {"one": [WHITE], "two": [WHITE, WHITE], "none": None, "film": ["film.mp4"]}


class Recorded:
    """Stands in for the model, and says every query backwards."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def answer(
        self, queries: Sequence[str], pictures: Sequence[Sequence[Image.Image]], language: str | None, **generation: Any
    ) -> list[str]:
        modes = [[picture.mode for picture in some] for some in pictures]
        self.asked.append((list(queries), modes, language, generation))
        return [query[::-1] for query in queries]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As lmms-eval builds it from its command line, by the name that the entry point gives."""
    recorded = Recorded()
    monkeypatch.setattr("parrot.integrations.lmms_eval.Answerer", lambda folder, dtype, device: recorded)
    arguments = {"batch_size": "2", "max_batch_size": None, "device": None}
    parrot = get_model("parrot").create_from_arg_string("pretrained=some/folder,language=tr", arguments)
    parrot.task_dict = {"task": {"test": DOCUMENTS}}
    return parrot


def request(context: str, document: str, **settings: Any) -> Instance:
    arguments = (context, settings, lambda pictures: pictures, document, "task", "test")
    return Instance("generate_until", arguments, idx=0, metadata={"task": "task", "doc_id": document, "repeats": 1})


def asked(model: Any, context: str, document: str, **settings: Any) -> Mapping[str, Any]:
    model.generate_until([request(context, document, **settings)])
    return model.answerer.asked[-1][-1]


def test_pictures_stand_before_the_text_or_where_it_says(model: Any) -> None:
    contexts = [("ab", "one"), ("abc", "two"), ("abcd", "none"), ("abc<image>", "one")]
    answers = model.generate_until([request(*context) for context in contexts])
    queries = ["<image>\nab", "<image><image>abc", "abcd", "abc<image>"]
    assert answers == [query[::-1] for query in queries]
    assert [(batch[0], batch[1], batch[2]) for batch in model.answerer.asked] == [
        (queries[:2], [["RGB"], ["RGB", "RGB"]], "tr"),
        (queries[2:], [[], ["RGB"]], "tr"),
    ]


def test_requests_of_other_settings_are_other_batches(model: Any) -> None:
    lengths = [5, 7, 5]
    model.generate_until([request("abc", "none", max_new_tokens=length) for length in lengths])
    assert [(len(batch[0]), batch[-1]["max_new_tokens"]) for batch in model.answerer.asked] == [(2, 5), (1, 7)]


def test_settings(model: Any) -> None:
    assert asked(model, "a", "none") == {"max_new_tokens": 512, "do_sample": False}
    # As most tasks word greedy decoding, with another model's own option beside it.
    greedy = {"do_sample": False, "temperature": 0, "top_p": 1.0, "num_beams": 1, "image_aspect_ratio": "original"}
    assert asked(model, "a", "none", **greedy) == {"max_new_tokens": 512, "do_sample": False, "num_beams": 1}
    sampled = {"max_new_tokens": 9, "do_sample": True, "temperature": 0.7, "top_p": 0.9}
    assert asked(model, "a", "none", **sampled) == sampled


@pytest.mark.parametrize(
    ("until", "said"), [("c", "d"), (["b", "c"], "d"), ([], "dcba"), (None, "dcba"), (["x"], "dcba")]
)
def test_an_answer_ends_before_a_stopping_string(model: Any, until: Any, said: str) -> None:
    assert model.generate_until([request("abcd", "none", until=until)]) == [said]


def test_what_it_cannot_do_is_said(model: Any) -> None:
    with pytest.raises(ConfigError, match="task task: expected pictures, found str"):
        model.generate_until([request("a", "film")])
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="generate_until"):
        model.generate_until_multi_round([])
