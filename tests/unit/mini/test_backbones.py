"""The shipped backbones, and what they were allowed to learn from."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPVisionModel, Qwen2ForCausalLM

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import Dataset, load_catalogue
from parrot.constants import PAPER_LANGUAGES
from parrot.io.digests import file_sha256
from parrot.mini.backbones.contrastive import contrastive_loss, pixel_values
from parrot.mini.backbones.corpus import Writer
from parrot.mini.backbones.images import Sampler, mirror
from parrot.mini.backbones.language import Example, accuracy, batches, encode, loss_of, new_model
from parrot.mini.backbones.make import CONCEPTS, RESOURCES, SEED
from parrot.mini.compose.material import load_material
from parrot.mini.compose.questions import is_reserved
from parrot.mini.compose.scenes import Scene
from parrot.model.chat_template import QWEN
from tests.helpers.prompt_reader import PromptReader

FOLDER = RESOURCES / "backbones"
ENCODERS = ("clip", "clip_zh")
TRAINING = ["fluent", "fluent-flat", "fxemoji", "noto", "noto-v1"]


@pytest.fixture(scope="module")
def material():
    return load_material(RESOURCES, CONCEPTS, None)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER / "qwen")


@pytest.fixture(scope="module")
def writer(material):
    return Writer(material, load_catalogue("config/benchmarks.yaml", Benchmark)["mini_mmmb"].instruction)


@pytest.fixture(scope="module")
def lines(writer):
    opening, rest = writer.corpus(1800, SEED)
    return opening + rest


# --- what ships ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_load_with_the_plain_classes(name):
    model, report = CLIPVisionModel.from_pretrained(FOLDER / name, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    processor = CLIPImageProcessorPil.from_pretrained(FOLDER / name)
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    pixels = processor(images=image, return_tensors="pt").pixel_values
    torch.testing.assert_close(pixels, pixel_values(image[None]))
    assert model(pixels, output_hidden_states=True).hidden_states[-2].shape == (1, 26, 128)


def test_the_language_model_answers_in_chat_format(tokenizer):
    model = Qwen2ForCausalLM.from_pretrained(FOLDER / "qwen").eval()
    options = "\n".join(("A. dog", "B. bus", "C. castle", "D. rose"))
    prompt = QWEN.format_prompt(f"castle\nWhat is in the picture?\n{options}\nAnswer with the option's text.")
    ids = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids.input_ids.shape[1] :]
    assert tokenizer.decode(out) == "castle<|im_end|>"


def test_the_chat_template_is_the_format_learnt(tokenizer):
    messages = [{"role": "user", "content": "castle\nWhat?"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == QWEN.format_prompt(
        "castle\nWhat?"
    )


@pytest.mark.parametrize("name", ["clip", "clip_zh", "qwen"])
def test_digests_are_the_catalogue_s(name):
    digest = file_sha256(FOLDER / name / "model.safetensors")
    assert load_catalogue("config/datasets.yaml", Dataset)[f"mini_{name}"].sha256 == digest
    assert json.loads((FOLDER / name / "provenance.json").read_text())["sha256"] == digest


def test_size():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 12e6


@pytest.mark.parametrize("language", PAPER_LANGUAGES)
def test_names_survive_the_tokenizer(language, tokenizer, material):
    for concept in material.concepts.ids:
        name = material.concepts.name(concept, language)
        assert tokenizer.decode(tokenizer(name).input_ids) == unicodedata.normalize("NFC", name)


def test_special_tokens_are_single(tokenizer):
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"):
        assert len(tokenizer(token).input_ids) == 1
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


# --- what they were made from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ENCODERS, "qwen"])
def test_made_from_training_emoji_sets_and_what_ships_now(name):
    record = json.loads((FOLDER / name / "provenance.json").read_text())
    images = sorted(Path(file).stem for file in record["sources"] if file.startswith("images/"))
    assert images == TRAINING
    for file, digest in record["sources"].items():
        assert file_sha256(RESOURCES / file) == digest, f"{file} has changed: make {name} anew"


def test_encoders_read_one_language():
    spoken = {name: json.loads((FOLDER / name / "provenance.json").read_text())["languages"] for name in ENCODERS}
    assert spoken == {"clip": ["en"], "clip_zh": ["zh"]}


def _scripts(text: str) -> set[str]:
    known = ("LATIN", "CYRILLIC", "ARABIC", "CJK")
    words = {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}
    return words & set(known)


def test_each_line_is_of_one_language(lines):
    script = {"zh": "CJK", "ar": "ARABIC", "ru": "CYRILLIC"}
    empty = QWEN.format_prompt("")
    wrapper = empty.split("\n\n")
    for line in lines:
        text = line.prompt.removeprefix(empty[: empty.index("user\n") + 5]) + line.answer
        for token in (*wrapper, "<|im_end|>", "<|im_start|>assistant", "A. ", "B. ", "C. ", "D. "):
            text = text.replace(token, "")
        assert _scripts(text) <= {script.get(line.language, "LATIN")}, line


def test_no_line_is_a_benchmark_s_question(lines, material):
    asked = 0
    for language in PAPER_LANGUAGES:
        reader = PromptReader(material.phrases, language)
        for line in lines:
            if line.language == language and line.prompt:
                key = reader.key(line.prompt.replace("<|im_end|>", "\n<|im_end|>"))
                asked += key is not None
                assert key is None or not is_reserved(key), line
    assert asked > 1000


def test_languages_are_drawn_apart(lines):
    drawn = {
        language: [line.kind + line.answer for line in lines if line.language == language and line.kind == "counting"]
        for language in PAPER_LANGUAGES
    }
    assert len({tuple(answers) for answers in drawn.values()}) == len(PAPER_LANGUAGES)


# --- how they are made -----------------------------------------------------------------------------------------------


def test_a_batch_of_images_is_the_seed_s_alone(material):
    favoured = material.concepts.ids[:20]
    first, again = (Sampler(material, favoured, ("noto",), "en", 40, seed=5)(3) for _ in range(2))
    other = Sampler(material, favoured, ("noto",), "en", 40, seed=6)(3)
    assert (first.pixels == again.pixels).all()
    assert first.captions == again.captions
    assert first.captions != other.captions
    assert first.pixels.shape == (40, 40, 40, 3)


def test_a_mirror_swaps_left_and_right_only():
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    seen, scene = mirror(image, Scene("horizontal", ("dog", "rose")))
    assert (seen[:, 0] == image[:, 39]).all()
    assert scene == Scene("horizontal", ("rose", "dog"))
    assert mirror(image, Scene("vertical", ("dog", "rose")))[1] == Scene("vertical", ("dog", "rose"))


def test_contrastive_loss_of_distinct_captions_is_clip_s():
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(5, 8, generator=generator), dim=-1) for _ in range(2))
    logits, diagonal = 7 * images @ texts.T, torch.arange(5)
    expected = sum(torch.nn.functional.cross_entropy(side, diagonal) for side in (logits, logits.T)) / 2
    none = torch.zeros(5, 5, dtype=torch.bool)
    torch.testing.assert_close(contrastive_loss(images, texts, diagonal, none, torch.tensor(7.0)), expected)


def test_what_is_also_true_is_no_negative():
    images, texts = torch.eye(2)[[0, 0]], torch.eye(2)[[0, 0]]
    owner, also = torch.tensor([0, 1]), torch.tensor([[False, True], [True, False]])
    assert contrastive_loss(images, texts, owner, also, torch.tensor(9.0)).item() == pytest.approx(0, abs=1e-6)


def test_padding_leaves_the_loss_alone(tokenizer):
    torch.manual_seed(0)
    model = new_model(tokenizer).eval()
    long, short = Example(list(range(5, 25)), 15), Example(list(range(30, 40)), 5)
    together = loss_of(model, [long, short]).item()
    assert together == pytest.approx((loss_of(model, [long]).item() + loss_of(model, [short]).item()) / 2, rel=1e-5)


def test_batches_use_each_text_once_and_are_of_like_length():
    rng = random.Random(0)
    examples = [Example([number] * rng.randint(1, 60), 0) for number in range(480)]
    made = list(batches(examples, 24, seed=1))
    used = [example.ids[0] for batch in made for example in batch]
    assert sorted(used) == list(range(480))
    assert max(len(max(b, key=lambda e: len(e.ids)).ids) - len(min(b, key=lambda e: len(e.ids)).ids) for b in made) < 12


def test_accuracy_counts_whole_answers(tokenizer):
    torch.manual_seed(0)
    model = new_model(tokenizer).eval()
    prompt = list(range(10, 20))
    greedy = model.generate(torch.tensor([prompt]), max_new_tokens=2, do_sample=False, eos_token_id=None)[0].tolist()
    wrong = greedy[:-1] + [(greedy[-1] + 1) % len(tokenizer)]
    assert accuracy(model, [Example(greedy, 10), Example(wrong, 10)]) == 50.0


def test_plain_text_is_learnt_from_its_first_token(tokenizer, writer):
    line = writer.line("en", "sentence", random.Random(0))
    (example,) = encode(tokenizer, [line])
    assert example.supervised == 1
    assert tokenizer.decode(example.ids) == line.answer
