"""Prediction on a tiny random model: what is asked, that batches do not matter, and what is written."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from parrot.config.benchmarks import BenchmarkGeneration
from parrot.config.stages import PredictSettings
from parrot.data.tsv import image_id, read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate import predict as predicting
from parrot.evaluate.generate import generate
from parrot.evaluate.items import read_tables
from parrot.evaluate.model_source import trained
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predict import predict
from parrot.evaluate.predictions import read_predictions
from parrot.evaluate.predictor import Generation, GenerationSettings
from parrot.io.progress import Progress
from tests.helpers.tiny_questions import COLOURS, LIMIT, image, in_memory, predict_settings, rows
from tests.helpers.tiny_training import talkative_model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    return talkative_model(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    return predict_settings(tmp_path)


def prompts_of(model, lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    visual = [model.config.image_token_id] * model.config.num_image_tokens
    return [np.array([*random.integers(1, 200, 4), *visual, *random.integers(1, 200, length)]) for length in lengths]


def test_batched_answers_equal_those_of_transformers_one_by_one(built) -> None:
    model, _ = built
    prompts = prompts_of(model, [3, 9, 5, 30, 3, 12, 7, 1])
    pixels = torch.randn(len(prompts), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.encode_images(pixels)
    answers = generate(model, prompts, features, LIMIT)
    for n, (prompt, answered) in enumerate(zip(prompts, answers, strict=True)):
        ids = torch.from_numpy(prompt)[None]
        with torch.no_grad():
            expected = model.generate(ids, pixel_values=pixels[n : n + 1], max_new_tokens=LIMIT, do_sample=False)
            weights = model(ids, pixel_values=pixels[n : n + 1]).router_weights[0]
        tokens = expected[0, len(prompt) :].tolist()
        ended = tokens[-1] in model.generation_config.eos_token_id
        assert answered.tokens == (tokens[:-1] if ended else tokens)
        assert answered.stop_reason == ("eos" if ended else "length")
        assert answered.router_weights == pytest.approx(weights.tolist(), abs=1e-5)
    # Otherwise the batch never shrank and this test says little.
    assert len({len(answered.tokens) for answered in answers}) > 2
    assert {answered.stop_reason for answered in answers} == {"eos", "length"}


def test_questions_without_images(built) -> None:
    model, _ = built
    prompts = [np.arange(1, n) for n in (5, 9, 7)]
    together = generate(model, prompts, None, LIMIT)
    assert together == [generate(model, [prompt], None, LIMIT)[0] for prompt in prompts]
    assert together[0].router_weights == []


def test_what_is_asked(settings: PredictSettings, tmp_path: Path) -> None:
    sheets = {sheet.file.name: sheet for sheet in read_tables(settings, tmp_path)}
    plain, shuffled, text = (sheets[f"MMMB_en{ending}.tsv"].items[4] for ending in ("", ".shuffled", ".text"))
    prompt = "None\n" + "Which colour?" * 2 + "\nA. red\nB. NA\nAnswer."
    assert plain.query == shuffled.query == f"<image>\n{prompt}"
    assert (plain.images, shuffled.images, text.images) == ((image("green"),), (image("blue"),), ())
    assert text.query == f"green.\n{prompt}"
    assert sheets["MMMB_cn.tsv"].items[0].query.endswith("\n请回答。")


def test_items_are_decoded_as_their_benchmark_says(settings: PredictSettings, tmp_path: Path) -> None:
    beams = BenchmarkGeneration(max_new_tokens=3, num_beams=2, length_penalty=-1.0)
    first, second = settings.benchmarks
    both = (first, second.model_copy(update={"generation": beams}))
    tables = read_tables(settings.model_copy(update={"benchmarks": both}), tmp_path)
    decoded = {table.file.name: {item.generation for item in table.items} for table in tables}
    assert decoded["plain_en.tsv"] == {GenerationSettings(3, num_beams=2, length_penalty=-1.0)}
    assert decoded["MMMB_en.tsv"] == {GenerationSettings(LIMIT)}


def test_files(built, settings: PredictSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = built
    encoded = []
    encode = model.encode_images
    monkeypatch.setattr(model, "encode_images", lambda pixels: encoded.append(len(pixels)) or encode(pixels))
    for batch in (1, 5):
        predict(settings, in_memory(built), tmp_path / str(batch), tmp_path / "work", batch)
        assert sum(encoded) == len(COLOURS)
        encoded.clear()
    names = {"MMMB_en", "MMMB_cn"}
    expected = {f"{name}{ending}.tsv" for name in names for ending in ("", ".shuffled", ".text")} | {"plain_en.tsv"}
    assert {path.name for path in (tmp_path / "1").iterdir()} == expected | {"manifest.json"}
    for name in sorted(expected):
        one, five = (read_tsv(tmp_path / batch / name) for batch in ("1", "5"))
        assert list(one["index"]) == [str(n) for n in range(7)]
        assert list(one["B"]) == ["NA"] * 7
        assert list(one["image_sha256"]) == [image_id(image(COLOURS[n % 3])) for n in range(7)]
        assert one["prediction"].equals(five["prediction"])
        for weights, others in zip(one["router_weights"], five["router_weights"], strict=True):
            assert json.loads(weights) == pytest.approx(json.loads(others), abs=2e-6)
            assert len(json.loads(weights)) == (0 if ".text" in name else 2)
    table = read_tsv(tmp_path / "1" / "MMMB_en.tsv")
    columns = [
        *rows("").columns.drop("image"),
        "image_sha256",
        "prediction",
        "prompt_sha256",
        "stop_reason",
        "router_weights",
    ]
    assert list(table.columns) == columns
    asked = processor.format_prompt("<image>\nWhich colour?\nA. red\nB. NA\nAnswer.")
    assert table["prompt_sha256"][0] == hashlib.sha256(asked.encode()).hexdigest()
    assert set(table["stop_reason"]) <= {"eos", "length"}


def test_the_manifest_says_what_each_file_answers_and_whose_answers_they_are(
    built, settings: PredictSettings, tmp_path: Path
) -> None:
    for part in built:
        part.save_pretrained(tmp_path / "model")
    predict(settings, trained(tmp_path / "model", torch.float32), tmp_path / "out", tmp_path / "work", 32)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    files = [path for path in (tmp_path / "model").iterdir() if path.suffix in (".json", ".safetensors")]
    lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in sorted(files)]
    assert manifest["model_sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert manifest["files"].keys() == {path.name for path in (tmp_path / "out").glob("*.tsv")}
    said = manifest["files"]["MMMB_cn.shuffled.tsv"]
    assert said.pop("columns_sha256")
    assert said == {
        "benchmark_sha256": hashlib.sha256((tmp_path / "MMMB_cn.tsv").read_bytes()).hexdigest(),
        "language": "zh",
        "control": "shuffled",
        "rows": 7,
        "rejected": 0,
    }
    for benchmark in settings.benchmarks:
        for language in benchmark.files:
            read_predictions(benchmark, language, tmp_path / "out")


def test_a_folder_that_was_half_written_anew_is_not_whole(
    built, settings: PredictSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", 32)
    monkeypatch.setattr(predicting, "write_tsv", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", 32)
    with pytest.raises(UserError, match=r"manifest\.json: no such file; the predictions are incomplete"):
        read_predictions(settings.benchmarks[0], "en", tmp_path / "out")


def test_predictions_never_overwrite_the_benchmarks(built, settings: PredictSettings, tmp_path: Path) -> None:
    before = (tmp_path / "MMMB_en.tsv").read_bytes()
    with pytest.raises(UserError, match="expected another folder for predictions than the benchmark's own"):
        predict(settings, in_memory(built), tmp_path, tmp_path / "work", 32)
    assert (tmp_path / "MMMB_en.tsv").read_bytes() == before


@pytest.mark.parametrize("said", ["\u3000B. It is the second one", "\xa0A: a cat", " B\r\n", "\n"])
def test_an_answer_is_stored_as_it_was_said(
    built, settings: PredictSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    tokens = built[1].tokenizer(said)["input_ids"]
    monkeypatch.setattr(ParrotPredictor, "generate", lambda _, items: [Generation(tokens, "eos") for _ in items])
    predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", 32)
    assert set(read_tsv(tmp_path / "out" / "MMMB_en.tsv")["prediction"]) == {said}


def test_same_questions_same_bytes(built, settings: PredictSettings, tmp_path: Path) -> None:
    for run in "ab":
        predict(settings, in_memory(built), tmp_path / run, tmp_path / "work", 4)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_parameter_may_be_a_single_number(built, settings: PredictSettings, tmp_path: Path) -> None:
    model, _ = built
    model.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
    try:
        predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", 32)
    finally:
        del model.scale
    assert (tmp_path / "out" / "MMMB_en.tsv").exists()


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("image", "A" * 100, "row 3: image cannot be decoded"),
        ("shuffled", "99", "row 3: shuffled"),
        ("image_text", "", "row 3: image_text"),
        ("answer", "D", "row 3: answer 'D'"),
        ("question", "<image>?", "row 3: expected no <image>"),
    ],
    ids=["image_sha256", "shuffled", "words", "letter", "mark"],
)
def test_bad_rows_are_one_line_and_nothing_is_written(
    built, settings: PredictSettings, tmp_path: Path, column: str, value: str, expected: str
) -> None:
    table = rows("?")
    table.loc[3, column] = value
    write_tsv(table, tmp_path / "MMMB_en.tsv")
    with pytest.raises(UserError, match=expected) as caught:
        predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", 4)
    assert str(tmp_path / "MMMB_en.tsv") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_one_line(settings: PredictSettings, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"model: no model\.safetensors"):
        predict(settings, trained(tmp_path / "model", torch.float32), tmp_path / "out", tmp_path / "work", 4)


def test_plain_progress_lines_come_while_nothing_is_answered(capfd: pytest.CaptureFixture[str]) -> None:
    said = ""
    with Progress(10, seconds_per_line=0.01) as progress:
        progress.add(4)
        for _ in range(1000):
            said += capfd.readouterr().err
            if said.count("\n") > 2:
                break
            time.sleep(0.01)
    lines = (said + capfd.readouterr().err).splitlines()
    assert len(lines) > 3
    assert lines[-1].startswith("4/10 questions, ")
    assert "questions/s" in lines[-1]
    assert lines[-1].endswith("s left")
