"""Tokens, prompts, conversations and their labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from parrot.model.chat_template import QWEN, image_first
from tests.golden.model.reference import expand, read_json


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden") / "model"
    if "text" in metafunc.fixturenames:
        texts = read_json(folder / "tokenizer_cases.json")
        metafunc.parametrize("text", texts, ids=[str(number) for number in range(len(texts))])
    for kind in ("format", "format_query"):
        if kind in metafunc.fixturenames:
            cases = [case for case in read_json(folder / "formatter.json") if case["kind"] == kind]
            assert cases
            metafunc.parametrize(kind, cases, ids=[case.get("id", str(number)) for number, case in enumerate(cases)])
    if "item" in metafunc.fixturenames:
        items = read_json(folder / "dataset.json")["items"]
        metafunc.parametrize("item", items, ids=[item["id"] for item in items])


@pytest.fixture(scope="module", params=["tokenizer", "checkpoint"])
def tokenizer(request, folder):
    return AutoTokenizer.from_pretrained(folder / request.param)


@pytest.fixture(scope="module", params=["tokenizer", "checkpoint"])
def slow_tokenizer(request, folder, tmp_path_factory):
    """From vocab.json and merges.txt, which are all that some releases have."""
    copy = shutil.copytree(folder / request.param, tmp_path_factory.mktemp("slow") / request.param)
    (copy / "tokenizer.json").unlink()
    return AutoTokenizer.from_pretrained(copy)


def test_tokens(text, tokenizer):
    assert tokenizer(text["text"], add_special_tokens=False)["input_ids"] == text["ids"]
    assert tokenizer.decode(text["ids"]) == text["decoded"]
    assert tokenizer.decode(text["ids"], skip_special_tokens=True) == text["decoded_skip_special"]


def test_tokens_without_tokenizer_json(text, slow_tokenizer):
    assert slow_tokenizer(text["text"], add_special_tokens=False)["input_ids"] == text["ids"]


def test_special_tokens(folder, tokenizer):
    for token, number in read_json(folder / "checkpoint/added_tokens.json").items():
        assert tokenizer.convert_tokens_to_ids(token) == number
    named = read_json(folder / "checkpoint/special_tokens_map.json")
    assert tokenizer.eos_token == named["eos_token"]["content"]
    assert tokenizer.pad_token == named["pad_token"]["content"]
    assert set(named["additional_special_tokens"]) <= set(tokenizer.all_special_tokens)


def test_special_tokens_of_the_import(folder, processor):
    for name, token in read_json(folder / "checkpoint/special_tokens_map.json").items():
        if isinstance(token, dict):
            assert getattr(processor.tokenizer, name) == token["content"]


def test_conversations_as_text(format):
    """Nothing is moved here: an image stays where it stands in its turn."""
    assert "".join(turn.header + turn.body for turn in QWEN.turns(format["conversations"])) == format["prompt"]


def test_conversations_as_tokens(format, processor):
    expected = expand(format["input_ids"], format["labels"], processor)
    assert processor.encode_turns(format["conversations"]) == expected


def test_queries(format_query, processor):
    prompt = QWEN.format_prompt(format_query["query"], format_query.get("generation_preface", ""))
    assert prompt == format_query["prompt"]
    ids, _ = expand(format_query["input_ids"], format_query["input_ids"], processor)
    assert processor.encode(prompt) == ids


def test_training_samples(folder, item, processor):
    """With the image moved to the front of its turn."""
    (sample,) = (sample for sample in read_json(folder / "data.json") if sample["id"] == item["id"])
    ids, labels = processor.format_conversation(sample["conversations"])
    assert (ids, labels) == expand(item["input_ids"], item["labels"], processor)
    words = [token for token in ids if token != processor.image_token_id]
    assert processor.tokenizer.decode(words) == item["decoded_without_image_token"]


def test_every_training_sample_is_there(folder):
    assert {item["id"] for item in read_json(folder / "dataset.json")["items"]} == {
        sample["id"] for sample in read_json(folder / "data.json")
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<image>", "<image>"),
        ("what is this?\n<image>", "<image>\nwhat is this?"),
        (" <image> left, <image> right ", "<image>\nleft,  right"),
        ("no image ", "no image "),
    ],
)
def test_where_an_image_is_put(value, expected):
    assert image_first(value) == expected
