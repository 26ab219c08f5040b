"""Chatting with models of other kinds: other routers, none, and a released checkpoint as it is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from parrot.config.catalog import Language
from parrot.config.settings import ExpertSettings
from parrot.errors import UserError
from parrot.evaluate.chat import Chat, Reply
from parrot.model.build import build
from parrot.model.checkpoint import load_parrot
from tests.bench.asking import answer_questions
from tests.helpers.tiny_questions import item
from tests.helpers.tiny_training import tune_settings, write_backbones

QUERY = "<image>\nBu resimde ne var?"
LIMIT = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat_models")
    write_backbones(folder)
    pixels = np.random.default_rng(0).integers(256, size=(13, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    return folder


@pytest.fixture
def save(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Save a random model with the experts that are asked for, to a folder of that name."""

    def of(name: str, **experts: object) -> Path:
        given = ExpertSettings(**{"num_experts": 2, "expert_intermediate_size": 8} | experts)
        model, processor = build(tune_settings(folder, ()).model_copy(update={"experts": given}))
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        for part in (model, processor):
            part.save_pretrained(tmp_path / name)
        return tmp_path / name

    return of


def predicted(model: Path, image: Path, language: Language = "en") -> Reply:
    network, processor = load_parrot(model)
    question = item(QUERY, base64.b64encode(image.read_bytes()).decode(), "here", LIMIT, language)
    (answer,) = answer_questions(network, processor, [question], batch=1)
    text = processor.tokenizer.decode(answer.tokens, skip_special_tokens=True).strip()
    return Reply(text, answer.stop_reason, answer.router_weights)


def test_the_router_that_is_told_the_language(save, folder: Path):
    model, image = save("model", router="language"), folder / "image.png"
    replies = {language: Chat(model, image, language).reply(QUERY, LIMIT) for language in ("en", "tr")}
    for language, reply in replies.items():
        assert reply == predicted(model, image, language)
    assert replies["en"].router_weights != replies["tr"].router_weights
    with pytest.raises(UserError, match=r"model: its router reads the language; expected --language"):
        Chat(model, image)


def test_a_language_that_no_router_reads_is_refused(save, folder: Path):
    with pytest.raises(UserError, match=r"model: --language: expected none, since its router does not read the lang"):
        Chat(save("model"), folder / "image.png", "en")


def test_the_router_that_reads_the_users_words_alone(save, folder: Path):
    user, prompt = save("user", router_text="user"), save("prompt")
    replies = [Chat(model, folder / "image.png").reply(QUERY, LIMIT) for model in (user, prompt)]
    assert replies == [predicted(model, folder / "image.png") for model in (user, prompt)]
    assert replies[0].router_weights != replies[1].router_weights


def test_the_router_that_reads_other_questions_is_refused(save, folder: Path):
    model = save("model", router="shuffled_text")
    with pytest.raises(UserError, match=r"model: its router reads other questions \(shuffled_text\); here is none"):
        Chat(model, folder / "image.png")


def test_without_experts_there_are_no_shares(save, folder: Path):
    model = save("model", num_experts=0, router="language")
    reply = Chat(model, folder / "image.png").reply(QUERY, LIMIT)
    assert reply.router_weights == []
    assert reply == predicted(model, folder / "image.png")


def test_a_released_checkpoint_as_it_is(golden: Path, folder: Path):
    checkpoint = golden / "model" / "checkpoint"
    pieces: list[str] = []
    reply = Chat(checkpoint, folder / "image.png").reply(QUERY, LIMIT, pieces.append)
    assert reply == predicted(checkpoint, folder / "image.png")
    assert reply.text == "".join(pieces)
    assert len(reply.router_weights) == 6
