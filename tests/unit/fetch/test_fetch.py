"""Checking data before any training: what is missing, corrupt or out of step is named in one line."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.catalog import BackboneFolder, ConversationSet
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.fetch import fetch as fetching
from parrot.fetch.fetch import fetch
from parrot.io.digests import file_sha256
from tests.helpers.tiny_training import write_backbones, write_set


def edit(entry: ConversationSet, change) -> None:
    samples = json.loads(Path(entry.file).read_text())
    change(samples)
    Path(entry.file).write_text(json.dumps(samples))


def problem(tmp_path: Path, datasets=(), benchmarks=()) -> str:
    """The one line that fetch stops with."""
    with pytest.raises(UserError) as raised:
        fetch(dict(enumerate(datasets)), dict(enumerate(benchmarks)), check=True, report=tmp_path / "report.json")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_whole_data_gives_a_report_of_counts(tmp_path):
    entry = write_set(tmp_path, "captions", samples=20)
    entry = entry.model_copy(update={"sha256": file_sha256(entry.file)})
    fetch({"captions": entry}, {"quiz": benchmark(tmp_path)}, check=True, report=tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problems"] == []
    assert report["checked"] == {
        "captions": {"samples": 20, "with_image": 16, "accepted_losses": 0},
        "quiz": {"en": 3, "zh": 3},
    }


def test_a_missing_image_is_named_unless_its_loss_is_accepted(tmp_path):
    entry = write_set(tmp_path, "captions")
    (tmp_path / "images/captions-7.png").unlink()
    missing = tmp_path / "images/captions-7.png"
    assert problem(tmp_path, [entry]) == f"{entry.file}: sample captions-7: image: {missing} is missing"
    accepted = entry.model_copy(update={"accepted_losses": ("captions-7",)})
    fetch({"captions": accepted}, {}, check=True, report=tmp_path / "report.json")
    counts = json.loads((tmp_path / "report.json").read_text())["checked"]["captions"]
    assert counts == {"samples": 20, "with_image": 15, "accepted_losses": 1}


def test_an_accepted_loss_that_is_no_sample_is_a_problem(tmp_path):
    entry = write_set(tmp_path, "captions", accepted_losses=("nobody",))
    assert problem(tmp_path, [entry]) == f"{entry.file}: accepted_losses: there is no sample nobody"


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_a_corrupt_image_is_named(damage, tmp_path):
    entry = write_set(tmp_path, "captions")
    path = tmp_path / "images/captions-3.png"
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "truncated": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
            "text": b"not an image",
            "empty": b"",
        }[damage]
    )
    assert problem(tmp_path, [entry]).startswith(f"{entry.file}: sample captions-3: image: {path} cannot be decoded: ")


def test_the_first_problem_is_named_and_the_others_are_counted(tmp_path):
    entry = write_set(tmp_path, "captions", samples=30)
    for number in (1, 2, 3):
        (tmp_path / f"images/captions-{number}.png").unlink()
    report = tmp_path / "report.json"
    line = f"{entry.file}: samples: expected 30, found 20 (and 3 more problems, all in {report})"
    assert problem(tmp_path, [entry]) == line
    assert len(json.loads(report.read_text())["problems"]) == 4


def test_repeated_ids_are_a_problem(tmp_path):
    entry = write_set(tmp_path, "captions")
    edit(entry, lambda samples: samples[5].update(id="captions-4"))
    assert problem(tmp_path, [entry]) == f"{entry.file}: id: captions-4 occurs more than once"
    fetch({"captions": entry.model_copy(update={"ids": "repeat"})}, {}, check=True, report=None)


def test_a_set_with_another_digest_is_a_problem(tmp_path):
    entry = write_set(tmp_path, "captions", sha256="0" * 64)
    found = file_sha256(entry.file)
    assert problem(tmp_path, [entry]) == f"{entry.file}: sha256: expected {'0' * 64}, found {found}"


def test_a_backbone_without_weights_or_with_other_weights_is_a_problem(tmp_path):
    entry = BackboneFolder(kind="backbone", path=str(tmp_path / "clip"), licence="none", source="shipped")
    assert problem(tmp_path, [entry]).startswith(f"{tmp_path}/clip: no such model folder")
    write_backbones(tmp_path)
    weights = tmp_path / "clip/model.safetensors"
    pinned = entry.model_copy(update={"sha256": "0" * 64})
    assert problem(tmp_path, [pinned]).startswith(f"{weights}: sha256: expected {'0' * 64}, found ")
    weights.unlink()
    assert problem(tmp_path, [entry]).startswith(f"{tmp_path}/clip: no model.safetensors")


# --- benchmarks ------------------------------------------------------------------------------------------------------


def image(colour: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def benchmark(folder: Path, **fields) -> Benchmark:
    """A quiz of three rows in two languages."""
    import pandas as pd

    rows = {
        "index": ["10", "11", "12"],
        "question": ["?", "?", "?"],
        "A": ["red", "red", "red"],
        "B": ["blue", "blue", "blue"],
        "C": ["", "green", "green"],
        "D": ["", "", "pink"],
        "answer": ["A", "C", "D"],
        "image": [image("red"), image("green"), image("pink")],
    }
    for language in ("en", "cn"):
        write_tsv(pd.DataFrame(rows, dtype=str), folder / f"Quiz_{language}.tsv")
    return Benchmark(
        name="Quiz",
        folder=str(folder),
        files={"en": "Quiz_en.tsv", "zh": "Quiz_cn.tsv"},
        instruction={"en": "Answer.", "zh": "Answer."},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=4),
        **fields,
    )


def change_cell(folder: Path, file: str, column: str, row: int, value: str) -> None:
    table = read_tsv(folder / file)
    table.loc[row, column] = value
    write_tsv(table, folder / file)


def test_a_benchmark_without_an_answer_column_is_named(tmp_path):
    entry = benchmark(tmp_path)
    write_tsv(read_tsv(tmp_path / "Quiz_cn.tsv").drop(columns="answer"), tmp_path / "Quiz_cn.tsv")
    line = problem(tmp_path, benchmarks=[entry])
    assert line.startswith(f"{tmp_path}/Quiz_cn.tsv: ")
    assert "column answer" in line


def test_an_answer_that_is_not_offered_is_named(tmp_path):
    entry = benchmark(tmp_path)
    change_cell(tmp_path, "Quiz_en.tsv", "answer", 2, "E")
    line = problem(tmp_path, benchmarks=[entry])
    assert line.startswith(f"{tmp_path}/Quiz_en.tsv: ")
    assert "12" in line
    assert "A, B, C, D" in line


def test_languages_that_ask_other_rows_are_a_problem(tmp_path):
    entry = benchmark(tmp_path)
    change_cell(tmp_path, "Quiz_cn.tsv", "answer", 1, "B")
    assert problem(tmp_path, benchmarks=[entry]).startswith("Quiz: row 11: answer: ")


def test_one_file_for_two_languages_is_a_problem(tmp_path):
    twice = benchmark(tmp_path).model_copy(update={"files": {"en": "Quiz_en.tsv", "zh": "Quiz_en.tsv"}})
    said = problem(tmp_path, benchmarks=[twice])
    assert "(en: Quiz_en.tsv, control none) and " in said
    assert "would overwrite each other's predictions, Quiz_en.tsv" in said


def test_a_corrupt_benchmark_image_and_a_wrong_count_are_problems(tmp_path):
    entry = benchmark(tmp_path, rows=4)
    broken = base64.b64encode(base64.b64decode(image("green"))[:40] + bytes(20)).decode()
    for file in ("Quiz_en.tsv", "Quiz_cn.tsv"):
        change_cell(tmp_path, file, "image", 1, broken)
    problem(tmp_path, benchmarks=[entry])
    lines = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert [line.split(": ")[1] for line in lines] == ["rows", "rows", "row 11"]


@pytest.mark.parametrize(
    ("control", "column", "value"),
    [("text", "image_text", None), ("text", "image_text", ""), ("shuffled", "shuffled", "99")],
)
def test_a_row_that_a_control_cannot_ask_is_a_problem_unless_such_rows_are_listed(control, column, value, tmp_path):
    entry = benchmark(tmp_path, controls=("none", control))
    if value is not None:
        for file in entry.files.values():
            table = read_tsv(tmp_path / file)
            write_tsv(table.assign(**{column: ["10", "11", value]}), tmp_path / file)
    row = "10" if value is None else "12"
    assert problem(tmp_path, benchmarks=[entry]).startswith(f"{tmp_path}/Quiz_en.tsv: row {row}: {column}: expected ")
    fetch({}, {"quiz": entry.model_copy(update={"rejected_rows": "list"})}, check=True, report=None)


# --- getting the data ------------------------------------------------------------------------------------------------


def test_equal_composed_data_is_left_untouched(tmp_path, monkeypatch):
    contents = ["one", "one", "two"]

    def compose(resources, output, instruction):
        output.mkdir(parents=True)
        (output / "file").write_text(contents.pop(0))

    monkeypatch.setattr("parrot.mini.compose.write.compose", compose)
    monkeypatch.setattr(fetching, "COMPOSED", tmp_path / "data/mini")
    places = []
    for _ in range(3):
        fetching.compose_mini({"en": "Answer."})
        places.append((tmp_path / "data/mini/file").stat().st_ino)
    assert places[0] == places[1] != places[2]
    assert (tmp_path / "data/mini/file").read_text() == "two"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mini"]


def test_a_users_file_in_the_composed_folder_is_kept(tmp_path, monkeypatch):
    def compose(resources, output, instruction):
        output.mkdir(parents=True)
        (output / "file").write_text("new")

    monkeypatch.setattr("parrot.mini.compose.write.compose", compose)
    monkeypatch.setattr(fetching, "COMPOSED", tmp_path / "mini")
    (tmp_path / "mini").mkdir()
    for name in ("file", "more", "stale"):
        (tmp_path / "mini" / name).write_text("old")
    fetching.compose_mini({"en": "Answer."}, [tmp_path / "mini" / name for name in ("file", "more")])
    found = {path.name: path.read_text() for path in (tmp_path / "mini").iterdir()}
    assert found == {"file": "new", "more": "old"}


def test_a_benchmark_file_with_another_md5_is_named(tmp_path):
    entry = benchmark(tmp_path, md5={"zh": "d41d8cd98f00b204e9800998ecf8427e"})
    line = problem(tmp_path, benchmarks=[entry])
    assert line.startswith(f"{tmp_path}/Quiz_cn.tsv: md5: expected d41d8cd98f00b204e9800998ecf8427e, found ")
