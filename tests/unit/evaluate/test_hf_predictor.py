"""Models of transformers' own architectures asked as they are: batches, prediction files, what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from parrot.config.stages import PredictSettings
from parrot.data.tsv import decode_rgb, read_tsv
from parrot.errors import UserError
from parrot.evaluate import model_source
from parrot.evaluate.hf_predictor import HFPredictor
from parrot.evaluate.predict import predict
from parrot.evaluate.predictor import GenerationSettings, Item, with_images
from parrot.model.checkpoint import load
from parrot.model.vlm import ChatTemplateProcessor, load_vlm
from tests.bench.asking import encode
from tests.helpers.tiny_questions import COLOURS, LIMIT, image, item, predict_settings
from tests.helpers.tiny_training import write_backbones
from tests.helpers.tiny_vlms import ARCHITECTURES

BATCH = 5
WORDLESS = ("blip2", "mblip")  # without a chat template, and never without an image


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    return predict_settings(tmp_path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, make in ARCHITECTURES.items():
        make(root / name)
    return {name: root / name for name in ARCHITECTURES}


def items_for(name: str) -> list[Item]:
    shown = [f"<image>\nWhich colour{'?' * (1 + 3 * n % 7)}\nA. red" for n in range(7)]
    items = [item(text, image(COLOURS[n % 3]), f"row {n}") for n, text in enumerate(shown)]
    return items + ([] if name in WORDLESS else [item("Which?" * (1 + n), None) for n in range(3)])


def predictor_of(folder: Path) -> HFPredictor:
    """The model of a folder, which has seen an image of each colour."""
    predictor = HFPredictor(*load_vlm(folder))
    encode(predictor, [image(colour) for colour in COLOURS], BATCH)
    return predictor


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batched_answers_equal_batch_1_answers(folders: dict[str, Path], name: str) -> None:
    predictor, items = predictor_of(folders[name]), items_for(name)
    for some in (items[:7], items[7:]):
        together = predictor.generate(some) if some else []
        assert together == [predictor.generate([one])[0] for one in some]
        assert all(generation.router_weights == [] for generation in together)
    # Otherwise answers never ended at different steps, and this test says little.
    assert len({len(generation.tokens) for generation in predictor.generate(items[:7])}) > 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_answers_depend_on_the_image(folders: dict[str, Path], name: str) -> None:
    texts = [f"<image>\nWhich colour{'?' * n}" for n in range(1, 9)]
    items = [item(text, image(colour)) for text in texts for colour in COLOURS]
    answers = [tuple(generation.tokens) for generation in predictor_of(folders[name]).generate(items)]
    assert any(len(set(answers[place : place + 3])) > 1 for place in range(0, len(items), 3))


@pytest.mark.parametrize("name", ["llava", "idefics3", "blip2"])
def test_answers_are_those_of_transformers_alone(folders: dict[str, Path], name: str) -> None:
    items = items_for(name)[:3]
    found = predictor_of(folders[name]).generate(items)
    model = AutoModelForImageTextToText.from_pretrained(folders[name])
    processor = AutoProcessor.from_pretrained(folders[name])
    for asked, answer in zip(items, found, strict=True):
        text = asked.query.removeprefix("<image>\n")
        if name not in WORDLESS:
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
            text = processor.apply_chat_template([turn], add_generation_prompt=True)
        inputs = processor(images=decode_rgb(asked.images[0], ""), text=text, return_tensors="pt")
        ends = model.generation_config.eos_token_id
        limits = {"eos_token_id": ends, "max_new_tokens": LIMIT, "do_sample": False}
        tokens = model.generate(**inputs, **limits)[0, inputs["input_ids"].shape[1] :].tolist()
        assert answer.tokens == (tokens[:-1] if tokens[-1] in ends else tokens)


def test_files_have_the_columns_of_every_run(folders, settings, tmp_path: Path) -> None:
    for batch in (1, BATCH):
        predict(
            settings,
            model_source.pretrained(folders["qwen2_vl"], torch.float32),
            tmp_path / str(batch),
            tmp_path / "work",
            batch,
        )
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / str(BATCH) / name).read_bytes()
    table = read_tsv(tmp_path / "1" / "MMMB_en.tsv")
    assert list(table.columns[-5:]) == ["image_sha256", "prediction", "prompt_sha256", "stop_reason", "router_weights"]
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
        answers.append(predictor_of(folder).generate(items_for("llava")[7:]))
    assert answers[0] == answers[1]


def test_text_of_a_question_may_not_stand_for_an_image(folders) -> None:
    asked = item("<image>\nWhat is <|image_pad|>?", image("red"), "a.tsv: row 3")
    with pytest.raises(UserError, match=r"^a.tsv: row 3: expected no <\|image_pad\|> in the text"):
        predictor_of(folders["qwen2_vl"]).prepare([asked])


def test_blip2_cannot_be_asked_without_an_image(folders) -> None:
    asked = item("What is it?", None, "a.tsv: row 3")
    with pytest.raises(UserError, match=r"^a.tsv: row 3: Blip2\w+ needs an image"):
        predictor_of(folders["blip2"]).prepare([asked])


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def bring_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('code of a checkpoint ran')")


def forget_the_image(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (shutil.rmtree, "no such model folder"),
        (remove_weights, r"no model\.safetensors"),
        (bring_code, r"config\.json: model_type: expected an architecture that transformers knows, found 'mine'"),
        (forget_the_image, r"no preprocessor_config\.json"),
        (remove_tokenizer, r"no tokenizer\.json"),
    ],
    ids=["folder", "weights", "code", "pixels", "tokenizer"],
)
def test_a_folder_that_cannot_be_asked_is_one_line(folders, tmp_path: Path, break_it, expected: str) -> None:
    folder = tmp_path / "llava"
    shutil.copytree(folders["llava"], folder)
    break_it(folder)
    with pytest.raises(UserError, match=expected) as caught:
        load_vlm(folder)
    assert str(folder) in str(caught.value)


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    write_backbones(tmp_path)
    with pytest.raises(UserError, match=r"qwen/config\.json: model_type: expected an image-text-to-text model"):
        load_vlm(tmp_path / "qwen")


def test_a_blip2_whose_tokens_do_not_fit_is_refused(folders, tmp_path: Path) -> None:
    shutil.copytree(folders["mblip"], tmp_path / "mblip")
    config = json.loads((tmp_path / "mblip/config.json").read_text()) | {"image_token_index": 5}
    (tmp_path / "mblip/config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"tokenizer: expected <image> to be token 5 of 280, found 258"):
        load_vlm(tmp_path / "mblip")


def test_bf16_by_the_dispatcher(folders) -> None:
    model, processor = load(folders["llava"], torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert isinstance(processor, ChatTemplateProcessor)
    predictor = HFPredictor(model, processor)
    encode(predictor, [image(colour) for colour in COLOURS], BATCH)
    assert len(predictor.generate(items_for("llava")[:7])) == 7


@torch.no_grad()
def naive(folder: Path, asked: Item, option: str) -> float:
    """An option's log-likelihood by transformers alone, token by token after the prompt."""
    model = AutoModelForImageTextToText.from_pretrained(folder)
    _, words = load_vlm(folder)
    image = decode_rgb(asked.images[0], "")
    inputs = words.processor(images=image, text=words.format_prompt(asked.query), return_tensors="pt")
    length, total = inputs["input_ids"].shape[1], 0.0
    decoder = [[257]]  # where a decoder starts
    for token in words.tokenizer(option, add_special_tokens=False)["input_ids"]:
        if folder.name == "mblip":
            model.config.image_token_index = words.tokenizer.convert_tokens_to_ids("<image>")
            logits = model(**inputs, decoder_input_ids=torch.tensor(decoder)).logits
            decoder[0].append(token)
        else:
            logits = model(**inputs).logits
            for name, value in inputs.items():
                if value.shape == (1, length):
                    following = {"input_ids": token, "attention_mask": 1}.get(name, 0)
                    inputs[name] = torch.cat([value, torch.full((1, 1), following, dtype=value.dtype)], dim=1)
            length += 1
        total += float(logits[0, -1].double().log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_options_likelihoods_are_those_of_one_option_alone(folders: dict[str, Path], name: str) -> None:
    predictor = predictor_of(folders[name])
    options = [("red", "a long way off"), ("x",), ("blue", "green", "no")]
    items = [replace(asked, options=some) for asked, some in zip(items_for(name), options, strict=False)]
    found = predictor.option_log_likelihoods(items)
    assert [len(scored) for scored in found] == [2, 1, 3]
    for asked, scored in zip(items, found, strict=True):
        expected = [naive(folders[name], asked, option) for option in asked.options]
        assert [each.log_likelihood for each in scored] == pytest.approx(expected, rel=1e-4)
        (alone,) = predictor.option_log_likelihoods([asked])
        assert [each.log_likelihood for each in alone] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["llava", "blip2", "mblip"])
def test_beams_find_other_answers_and_a_batch_changes_nothing(folders: dict[str, Path], name: str) -> None:
    predictor = predictor_of(folders[name])
    beams = GenerationSettings(LIMIT, num_beams=3, length_penalty=-1.0)
    greedy = items_for(name)[:5]
    items = [replace(asked, generation=beams) for asked in greedy]
    together = predictor.generate(items)
    assert together == [predictor.generate([one])[0] for one in items]
    assert together != predictor.generate(greedy)


@pytest.mark.parametrize("name", ["qwen2_vl", "llava_onevision", "idefics3"])
def test_an_item_of_two_images(folders: dict[str, Path], name: str) -> None:
    red, blue = image("red"), image("blue")
    query = with_images("Which is red?", 2)
    pairs = [Item(query, images, "here", GenerationSettings(LIMIT)) for images in ((red, blue), (blue, red))]
    predictor = predictor_of(folders[name])
    assert predictor.prepare(pairs) == pairs
    one_way, other_way = predictor.generate(pairs)
    assert [one_way, other_way] == [predictor.generate([pair])[0] for pair in pairs]


def test_a_model_that_reads_one_image_refuses_two(folders) -> None:
    two = Item("<image><image>?", (image("red"), image("blue")), "a.tsv: row 3", GenerationSettings(LIMIT))
    with pytest.raises(UserError, match=r"^a.tsv: row 3: images: Blip2\w+ reads one, found 2"):
        predictor_of(folders["blip2"]).prepare([two])


def test_an_option_without_text_is_refused(folders) -> None:
    with pytest.raises(UserError, match=r"^row 0: options: expected some text, found ''"):
        predictor_of(folders["llava"]).option_log_likelihoods([replace(items_for("llava")[0], options=("a", ""))])
