"""Models of transformers' own architectures asked as they are: batches, prediction files, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from parrot.config.stages import PredictSettings
from parrot.data.tsv import decode_picture, read_tsv
from parrot.errors import ConfigError
from parrot.evaluate.any_model import AnyModelAsker
from parrot.evaluate.predict import predict
from parrot.evaluate.questions import Question
from parrot.model.checkpoint import load
from parrot.model.vlm import OwnWords, load_vlm
from tests.helpers.tiny_questions import COLOURS, LIMIT, picture, predict_settings
from tests.helpers.tiny_training import write_backbones
from tests.helpers.tiny_vlms import ARCHITECTURES

BATCH = 5
WORDLESS = ("blip2", "mblip")  # without a chat template, and never without a picture


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    return predict_settings(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, make in ARCHITECTURES.items():
        make(root / name)
    return {name: root / name for name in ARCHITECTURES}


def questions(name: str) -> list[Question]:
    shown = [f"<image>\nWhich colour{'?' * (1 + 3 * n % 7)}\nA. red" for n in range(7)]
    asked = [Question(text, picture(COLOURS[n % 3]), f"row {n}", LIMIT, "en") for n, text in enumerate(shown)]
    return asked + ([] if name in WORDLESS else [Question("Which?" * (1 + n), None, "", LIMIT, "en") for n in range(3)])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batched_answers_equal_batch_1_answers(folders: dict[str, Path], name: str) -> None:
    asker = AnyModelAsker(*load_vlm(folders[name]), questions(name))
    asker.see([picture(colour) for colour in COLOURS], BATCH)
    for places in (range(7), range(7, len(asker.questions))):
        together = asker.ask(places) if places else []
        assert together == [asker.ask([place])[0] for place in places]
        assert all(answer.router_weights == [] for answer in together)
    # Otherwise answers never ended at different steps, and this test says little.
    assert len({len(answer.tokens) for answer in asker.ask(range(7))}) > 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_depend_on_the_picture(folders: dict[str, Path], name: str) -> None:
    texts = [f"<image>\nWhich colour{'?' * n}" for n in range(1, 9)]
    asked = [Question(text, picture(colour), "row", LIMIT, "en") for text in texts for colour in COLOURS]
    asker = AnyModelAsker(*load_vlm(folders[name]), asked)
    asker.see([picture(colour) for colour in COLOURS], BATCH)
    answers = [tuple(answer.tokens) for answer in asker.ask(range(len(asked)))]
    assert any(len(set(answers[place : place + 3])) > 1 for place in range(0, len(asked), 3))


@pytest.mark.parametrize("name", ["llava", "idefics3", "blip2"])
def test_answers_are_those_of_transformers_alone(folders: dict[str, Path], name: str) -> None:
    asker = AnyModelAsker(*load_vlm(folders[name]), questions(name)[:3])
    asker.see([picture(colour) for colour in COLOURS], BATCH)
    model = AutoModelForImageTextToText.from_pretrained(folders[name])
    processor = AutoProcessor.from_pretrained(folders[name])
    for question, answer in zip(asker.questions, asker.ask(range(3)), strict=True):
        assert question.picture is not None
        text = question.query.removeprefix("<image>\n")
        if name not in WORDLESS:
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
            text = processor.apply_chat_template([turn], add_generation_prompt=True)
        inputs = processor(images=decode_picture(question.picture, ""), text=text, return_tensors="pt")
        ends = model.generation_config.eos_token_id
        limits = {"eos_token_id": ends, "max_new_tokens": LIMIT, "do_sample": False}
        tokens = model.generate(**inputs, **limits)[0, inputs["input_ids"].shape[1] :].tolist()
        assert answer.tokens == (tokens[:-1] if tokens[-1] in ends else tokens)


def test_files_have_the_columns_of_every_run(folders, settings, tmp_path: Path) -> None:
    for batch in (1, BATCH):
        predict(settings, partial(load_vlm, folders["qwen2_vl"]), tmp_path / str(batch), tmp_path / "work", batch)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / str(BATCH) / name).read_bytes()
    table = read_tsv(tmp_path / "1" / "MMMB_en.tsv")
    assert list(table.columns[-5:]) == ["picture", "prediction", "prompt_sha256", "stop_reason", "router_weights"]
    assert set(table["router_weights"]) == {"[]"}
    assert set(table["stop_reason"]) == {"eos", "length"}
    asked = "USER: <|vision_start|><|image_pad|><|vision_end|>\nWhich colour?\nA. red\nB. NA\nAnswer. ASSISTANT:"
    assert table["prompt_sha256"][0] == hashlib.sha256(asked.encode()).hexdigest()


def test_sampling_and_penalties_of_a_release_are_left_out(folders, tmp_path: Path) -> None:
    shutil.copytree(folders["llava"], tmp_path / "llava")
    path = tmp_path / "llava" / "generation_config.json"
    habits = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 5.0, "num_beams": 2, "max_length": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | habits))
    answers = []
    for folder in (folders["llava"], tmp_path / "llava"):
        asker = AnyModelAsker(*load_vlm(folder), questions("llava")[7:])
        answers.append(asker.ask(range(3)))
    assert answers[0] == answers[1]


def test_text_of_a_question_may_not_stand_for_a_picture(folders) -> None:
    asked = Question("<image>\nWhat is <|image_pad|>?", picture("red"), "a.tsv: row 3", LIMIT, "en")
    with pytest.raises(ConfigError, match=r"^a.tsv: row 3: expected no <\|image_pad\|> in the text"):
        AnyModelAsker(*load_vlm(folders["qwen2_vl"]), [asked])


def test_blip2_cannot_be_asked_without_a_picture(folders) -> None:
    asked = Question("What is it?", None, "a.tsv: row 3", LIMIT, "en")
    with pytest.raises(ConfigError, match=r"^a.tsv: row 3: Blip2\w+ cannot be asked without a picture"):
        AnyModelAsker(*load_vlm(folders["blip2"]), [asked])


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def bring_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('code of a checkpoint ran')")


def forget_the_picture(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (shutil.rmtree, "no such model folder"),
        (remove_weights, r"no model\.safetensors"),
        (bring_code, r"config\.json: model_type: expected an architecture that transformers knows, found 'mine'"),
        (forget_the_picture, r"no preprocessor_config\.json"),
        (remove_tokenizer, r"no tokenizer\.json"),
    ],
    ids=["folder", "weights", "code", "pixels", "tokenizer"],
)
def test_a_folder_that_cannot_be_asked_is_one_line(folders, tmp_path: Path, break_it, expected: str) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(folders["llava"], folder)
    break_it(folder)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_vlm(folder)
    assert str(folder) in str(caught.value)


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    write_backbones(tmp_path)
    with pytest.raises(ConfigError, match=r"qwen/config\.json: model_type: expected an image-text-to-text model"):
        load_vlm(tmp_path / "qwen")


def test_a_blip2_whose_tokens_do_not_fit_is_refused(folders, tmp_path: Path) -> None:
    shutil.copytree(folders["mblip"], tmp_path / "mblip")
    config = json.loads((tmp_path / "mblip/config.json").read_text()) | {"image_token_index": 5}
    (tmp_path / "mblip/config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"tokenizer: expected <image> to be token 5 of 280, found 258"):
        load_vlm(tmp_path / "mblip")


def test_bf16_by_the_dispatcher(folders) -> None:
    model, words = load(folders["llava"], torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert isinstance(words, OwnWords)
    asker = AnyModelAsker(model, words, questions("llava"))
    asker.see([picture(colour) for colour in COLOURS], BATCH)
    assert len(asker.ask(range(7))) == 7
