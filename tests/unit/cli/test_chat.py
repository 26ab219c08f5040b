"""`parrot chat` on a tiny random model: what is asked, what appears and when, and what goes wrong in one line."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from parrot.cli import app as cli
from parrot.evaluate.chat import Chat
from parrot.evaluate.generate import TextStream
from parrot.model.checkpoint import load_parrot
from tests.bench.asking import answer_questions
from tests.helpers.tiny_model import tiny_tokenizer
from tests.helpers.tiny_questions import item
from tests.helpers.tiny_training import talkative_model

MODELS = Path(__file__).parents[3] / "docs/models.md"
TR, ZH, EN = QUESTIONS = "Bu resimde ne var?", "图片里有什么？", "What is it?"
LIMIT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, `backbones`, `image.png`, and files that are no images."""
    folder = tmp_path_factory.mktemp("chat")
    model, processor = talkative_model(folder / "backbones")
    # Tokens without text, so that transformers' own answers, which keep the last token, read the same.
    model.generation_config.eos_token_id = list(range(256, model.config.text_config.vocab_size))
    for part in (model, processor):
        part.save_pretrained(folder / "model")
    pixels = np.random.default_rng(0).integers(256, size=(13, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    (folder / "cut.png").write_bytes((folder / "image.png").read_bytes()[:100])
    (folder / "text.png").write_text("no image")
    return folder


class Said(NamedTuple):
    code: int | str | None
    out: str
    err: str


@pytest.fixture
def parrot_chat(folder: Path, monkeypatch, capfd) -> Callable[..., Said]:
    """Run `parrot chat` about the image, with `typed` on standard input."""

    def run(
        *arguments: str, model: str = "model", image: str = "image.png", typed: str = "", stdin: Any = None
    ) -> Said:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["parrot", "chat", "--model", model, "--image", image, *arguments])
        monkeypatch.setattr(sys, "stdin", stdin or io.StringIO(typed))
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return Said(stopped.value.code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def predicted(folder: Path) -> dict[str, tuple[str, Any]]:
    """For each question the text and the answer that prediction gives, several at once and not streamed."""
    model, processor = load_parrot(folder / "model")
    image = base64.b64encode((folder / "image.png").read_bytes()).decode()
    questions = [item(f"<image>\n{question}", image, "here", LIMIT, "en") for question in QUESTIONS]
    answers = answer_questions(model, processor, questions, batch=8)
    texts = processor.tokenizer.batch_decode([answer.tokens for answer in answers], skip_special_tokens=True)
    assert len({text.strip() for text in texts}) == len(QUESTIONS)
    return {q: (text.strip(), answer) for q, text, answer in zip(QUESTIONS, texts, answers, strict=True)}


@pytest.mark.parametrize("text", ["  Ünlü bir  kedi \n", "图片里有🦜。", " \nمرحبا\n\nok", "", " "])
def test_a_stream_cuts_no_character_and_adds_up(text: str):
    tokenizer = tiny_tokenizer()  # a token a byte
    tokens = tokenizer(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for length in range(1, len(tokens) + 1):
        stream.grow(tokens[:length])
        whole_characters = text.encode()[:length].decode(errors="ignore")
        assert "".join(pieces) == whole_characters.strip()
    assert stream.end(tokens) == "".join(pieces) == text.strip()
    assert "" not in pieces


def test_bytes_that_make_no_character_appear_once_that_is_certain():
    tokenizer = tiny_tokenizer()
    tokens = [*tokenizer("aü")["input_ids"][:2], *tokenizer("bü")["input_ids"][:2]]
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for length in range(1, 5):
        stream.grow(tokens[:length])
    assert pieces == ["a", "\ufffdb"]
    assert stream.end(tokens) == "".join(pieces) == "a\ufffdb\ufffd"


def test_streamed_answers_are_the_predicted_ones(folder: Path, predicted):
    asked = Chat(folder / "model", folder / "image.png")
    for question in QUESTIONS:
        pieces: list[str] = []
        reply = asked.reply(f"<image>\n{question}", LIMIT, pieces.append)
        text, answer = predicted[question]
        assert reply.text == "".join(pieces) == text
        assert len(pieces) > 1
        assert reply.stop_reason == answer.stop_reason
        assert reply.router_weights == pytest.approx(answer.router_weights, abs=1e-6)


def test_an_answer_that_ends_by_itself(folder: Path, predicted):
    asked = Chat(folder / "model", folder / "image.png")
    tokens = predicted[ZH][1].tokens
    asked.predictor.model.generation_config.eos_token_id = end = tokens[4]
    reply = asked.reply(f"<image>\n{ZH}", LIMIT)
    assert reply.stop_reason == "eos"
    assert reply.text == asked.predictor.processor.tokenizer.decode(tokens[: tokens.index(end)]).strip()


def test_one_question_prints_its_answer_alone(parrot_chat, predicted):
    assert parrot_chat(TR, "--max-new-tokens", str(LIMIT))[:2] == (0, f"{predicted[TR][0]}\n")


def test_several_questions_load_and_encode_once(parrot_chat, predicted, monkeypatch):
    loaded, encoded = [], []

    def counting(path, dtype):
        model, processor = load_parrot(path, dtype)
        encode = model.encode_images
        monkeypatch.setattr(model, "encode_images", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
        loaded.append(path)
        return model, processor

    monkeypatch.setattr("parrot.evaluate.parrot_predictor.load_parrot", counting)
    said = parrot_chat(*QUESTIONS, "--max-new-tokens", str(LIMIT))
    assert said.out == "".join(f"> {question}\n{predicted[question][0]}\n" for question in QUESTIONS)
    assert (loaded, encoded) == ([Path("model")], [1])


def test_json_is_one_object_a_line(parrot_chat, predicted):
    said = parrot_chat(*QUESTIONS, "--json", "--router", "--max-new-tokens", str(LIMIT))
    assert (said.code, said.err) == (0, "")
    lines = [json.loads(line) for line in said.out.split("\n")[:-1]]
    assert [line["question"] for line in lines] == list(QUESTIONS)
    assert "图片" in said.out
    for line in lines:
        text, answer = predicted[line["question"]]
        assert (line["answer"], line["stop_reason"]) == (text, answer.stop_reason)
        assert line["router_weights"] == pytest.approx(answer.router_weights, abs=2e-6)
        assert (line["image"], line["model"]) == ("image.png", "model")
        assert line["query"] == f"<image>\n{line['question']}"


def test_options_and_instruction_are_listed_below_the_question(parrot_chat):
    said = parrot_chat(TR, "--option", "kedi", "--option", "at", "--instruction", "Seçin.", "--json")
    assert json.loads(said.out)["query"] == f"<image>\n{TR}\nA. kedi\nB. at\nSeçin."


def test_experts_shares_are_printed_on_request(parrot_chat, predicted):
    said = parrot_chat(EN, "--router", "--max-new-tokens", str(LIMIT))
    shares = said.out.removeprefix(f"{predicted[EN][0]}\n")
    first, second = (100 * weight for weight in predicted[EN][1].router_weights)
    assert shares == f"experts: {first:.1f} %, {second:.1f} %\n"


def test_an_answer_that_is_cut_off_says_so(parrot_chat):
    said = parrot_chat(TR, "--max-new-tokens", "1")
    assert said.err == "parrot: reply cut off at 1 tokens; --max-new-tokens sets the limit\n"
    assert said.code == 0


def test_questions_from_a_pipe(parrot_chat, predicted):
    said = parrot_chat("--interactive", "--max-new-tokens", str(LIMIT), typed=f"{TR}\n\n  {ZH}  \n")
    assert said.code == 0
    assert said.out == "".join(f"> {question}\n{predicted[question][0]}\n" for question in (TR, ZH))


def test_a_line_may_have_options_of_its_own(parrot_chat):
    lines = [{"question": TR, "options": ["a", "b"], "instruction": "Seç."}, {"question": EN}]
    typed = "".join(f"{json.dumps(line)}\n" for line in lines) + f"{ZH}\n"
    said = parrot_chat("--interactive", "--json", "--option", "c", "--max-new-tokens", "1", typed=typed)
    assert said.code == 0
    queries = [json.loads(line)["query"] for line in said.out.splitlines()]
    assert queries == [f"<image>\n{TR}\nA. a\nB. b\nSeç.", f"<image>\n{EN}", f"<image>\n{ZH}\nA. c"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "question: expected JSON: "),
        ('{"question": ' + "[" * 100_000, "question: expected JSON: "),
        ('{"question": 1' + "0" * 5000 + "}", "question: expected JSON: "),
        ('{"question": "a", "question": "b"}', "question: line 1: question is there twice"),
        ('{"questions": "?"}', "question: question"),
        ('{"question": 1}', "question: question: "),
    ],
)
def test_an_object_that_is_no_question_is_refused(parrot_chat, predicted, line, expected):
    said = parrot_chat("--interactive", "--max-new-tokens", str(LIMIT), typed=f"{line}\n{EN}\n")
    assert said.code == 1
    assert said.err.splitlines()[0].startswith(f"parrot: error: {expected}")
    assert said.out == f"> {EN}\n{predicted[EN][0]}\n"


def test_questions_are_answered_as_they_come(parrot_chat, predicted, monkeypatch, capfd):
    before: list[str] = []

    def ask(prompt: str) -> str:
        before.append(capfd.readouterr().out)
        if len(before) > 2:
            raise EOFError
        return (TR, ZH)[len(before) - 1]

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("parrot.cli.chat._on_terminal", lambda: True)
    assert parrot_chat(EN, "--interactive", "--max-new-tokens", str(LIMIT)).code == 0
    # What was typed on a terminal stands there already.
    assert before == [f"> {EN}\n{predicted[EN][0]}\n", f"{predicted[TR][0]}\n", f"{predicted[ZH][0]}\n"]


def test_a_terminal_is_asked_when_no_question_is_given(parrot_chat, predicted):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    said = parrot_chat("--max-new-tokens", str(LIMIT), stdin=Terminal(f"{ZH}\n"))
    assert said.out == f"> {ZH}\n{predicted[ZH][0]}\n"


def test_a_bad_line_is_refused_and_the_next_one_answered(parrot_chat, predicted):
    said = parrot_chat("--interactive", "--max-new-tokens", str(LIMIT), typed=f"a <image>\n{EN}\n")
    assert said.out == f"> {EN}\n{predicted[EN][0]}\n"
    assert said.err.splitlines()[0].startswith("parrot: error: question: expected no <image>")
    assert said.code == 1


@pytest.mark.parametrize(
    ("arguments", "where", "expected"),
    [
        (("?",), {"image": "absent.png"}, "absent.png is missing"),
        (("?",), {"image": "text.png"}, "text.png cannot be decoded: unknown format"),
        (("?",), {"image": "cut.png"}, "cut.png cannot be decoded: "),
        (("?",), {"image": "model"}, "model: expected a file, found a folder"),
        (("?",), {"model": "absent"}, "absent: no such model folder"),
        (("?",), {"model": "image.png"}, "image.png: no such model folder"),
        (("?",), {"model": "backbones"}, "backbones: no config.json"),
        (
            ("?",),
            {"model": "backbones/clip"},
            "backbones/clip/config.json: model_type: expected a Parrot model, found",
        ),
        (("ok", "a <image>"), {}, "question: expected no <image> in the text"),
        (("?", "--option", "<image>"), {}, "--option: expected no <image> in the text"),
        (("",), {}, "question: expected some text, found none"),
        (("ok", " "), {}, "question: expected some text, found none"),
        (("?", "--instruction", ""), {}, "--instruction: expected some text, found none"),
        (("?", *["--option", "x"] * 27), {}, "--option: expected at most 26, found 27"),
        (("\udcff",), {}, "question: expected UTF-8 text"),
        (
            ("?", "--language", "xx"),
            {},
            "--language: (whole): expected a language of parrot/languages.csv, ",
        ),
        (("x" * (2**20 + 1),), {}, "question: expected at most 1048576 bytes (limits.text_bytes), found 1048577"),
        ((), {}, "expected a question, or --interactive"),
    ],
    ids=lambda value: None,
)
def test_what_is_wrong_is_one_line_before_the_model_is_loaded(parrot_chat, monkeypatch, arguments, where, expected):
    monkeypatch.setattr("parrot.model.checkpoint.pretrained", lambda *_: pytest.fail("the model was loaded"))
    said = parrot_chat(*arguments, **where)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"parrot: error: {expected}")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("config.json", "{", "config.json: expected JSON"),
        ("config.json", "[]", "config.json: expected a JSON object, found list"),
        ("tokenizer.json", "{", "tokenizer.json: expected JSON"),
        ("tokenizer.json", None, ": no tokenizer.json"),
        ("processor_config.json", None, ": no processor_config.json"),
        ("model.safetensors", None, ": no model.safetensors"),
        ("model.safetensors", "{", ": the weights cannot be read"),
    ],
)
def test_a_damaged_model_folder_is_one_line(parrot_chat, folder: Path, tmp_path: Path, file, content, expected):
    for path in (folder / "model").iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    said = parrot_chat("?", model=str(tmp_path))
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"parrot: error: {tmp_path}")
    assert expected in said.err
    assert said.err.count("\n") == 1


def test_the_readmes_python_gives_the_same_answer(folder: Path, monkeypatch, capsys):
    code, _ = re.findall(r"```python\n(.*?)```", MODELS.read_text(encoding="utf-8"), re.DOTALL)
    path = "results/mini/parrot/model"
    assert path in code
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code.replace(path, "model").replace("examples/strawberry.png", "image.png"), names)
    limit = int(re.search(r"max_new_tokens=(\d+)", code)[1])
    expected = Chat("model", "image.png").reply(f"<image>\n{names['question']}", limit)
    assert capsys.readouterr().out.strip() == expected.text
