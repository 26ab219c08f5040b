"""Benchmark files with something wrong: one clear line, or a counted and listed rejection, as the entry says."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from parrot.config.benchmarks import Benchmark
from parrot.config.stages import PredictSettings, ScoreSettings
from parrot.data.benchmarks import read_language
from parrot.data.tsv import read_tsv
from parrot.errors import UserError
from parrot.evaluate.items import read_tables
from parrot.evaluate.predict import predict
from parrot.evaluate.score import score
from parrot.fetch.fetch import fetch
from tests.helpers.tiny_questions import in_memory
from tests.helpers.tiny_training import talkative_model

COLUMNS = ("index", "question", "A", "B", "answer", "image")
INDICES = ["1", "1000001", "2", "3", "4"]


def image(seed: int) -> str:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, size=(24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def huge() -> str:
    """A PNG of 40,000 x 40,000 pixels in 90 bytes, whose pixels would take 4.8 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def table() -> pd.DataFrame:
    """Two rotations of one question, and three others."""
    rows = [
        ("1", "Which animal?", "cat", "dog", "A", image(1)),
        ("1000001", "Which animal?", "dog", "cat", "B", image(1)),
        ("2", "Есть ли тут кот?", "yes", "no", "B", image(2)),
        ("3", "Which?", "None", "NA", "A", image(3)),
        ("4", "Which?", "x", "y", "A", image(4)),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)


def with_cell(place: int, column: str, change: Callable[[str], str]) -> str:
    changed = table()
    changed.loc[place, column] = change(changed.loc[place, column])
    return text(changed)


def text(rows: pd.DataFrame) -> str:
    return rows.to_csv(sep="\t", index=False, lineterminator="\n")


def in_two_encodings() -> bytes:
    lines = text(table()).splitlines(keepends=True)
    return b"".join(line.encode("cp1251" if number == 3 else "utf-8") for number, line in enumerate(lines))


@dataclass(frozen=True)
class Hostile:
    """A file, words of the one line about it, and the indices left where its faults are listed (None: refused too)."""

    content: str | bytes
    expected: str
    left: list[str] | None


# What starts as a DDS image, on which Pillow's decoder raises NotImplementedError.
DDS = b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 0, 0, 0) + bytes(44) + struct.pack("<2I", 32, 0) + bytes(44)
WITHOUT_4 = ["1", "1000001", "2", "3"]
CASES = {
    "no header": Hostile(text(table()).split("\n", 1)[1], "no column index; expected a header line with index", None),
    "duplicate index": Hostile(
        with_cell(4, "index", lambda _: "3"), "row 3: index: 3 occurs more than once", INDICES[:3]
    ),
    "duplicate index in other digits": Hostile(with_cell(4, "index", lambda _: "03"), "3 occurs more", INDICES[:3]),
    "answer outside the options": Hostile(
        with_cell(4, "answer", lambda _: "E"), "row 4: answer 'E' is not an offered option", WITHOUT_4
    ),
    "base64 cut within a group": Hostile(
        with_cell(4, "image", lambda image: image[:-3]), "row 4: image: expected a base64 image", WITHOUT_4
    ),
    "base64 cut between groups": Hostile(
        with_cell(4, "image", lambda image: image[: len(image) // 8 * 4]),
        "row 4: image cannot be decoded",
        WITHOUT_4,
    ),
    "base64 cut short": Hostile(
        with_cell(4, "image", lambda image: image[:40]), "row 4: image: expected a base64", WITHOUT_4
    ),
    "image of 40,000 x 40,000": Hostile(
        with_cell(4, "image", lambda _: huge()), "row 4: image cannot be decoded: Image size (1600000000", WITHOUT_4
    ),
    "image that is no ASCII": Hostile(
        with_cell(4, "image", lambda _: "картинка" * 20), "row 4: image: expected a base64 image", WITHOUT_4
    ),
    "broken image of a rare format": Hostile(
        with_cell(4, "image", lambda _: base64.b64encode(DDS).decode()),
        "row 4: image cannot be decoded: unknown format",
        WITHOUT_4,
    ),
    "index of 5,000 digits": Hostile(
        with_cell(4, "index", lambda _: "4" * 5_000), "index: expected a whole number, found '444", WITHOUT_4
    ),
    "rotations that disagree": Hostile(
        with_cell(1, "answer", lambda _: "A"),
        "row 1: answer: rotations permute the options, but 'cat' and 'dog'",
        INDICES[2:],
    ),
    "mixed encodings": Hostile(
        in_two_encodings(), "row number 3: question: expected UTF-8", ["1", "1000001", "3", "4"]
    ),
    "another encoding": Hostile(text(table()).encode("utf-16"), "byte 1: expected text in UTF-8, found 0xff", None),
    "row that is cut off": Hostile(
        text(table()).rsplit("\t", 2)[0] + "\n", "row number 5: expected 6 cells, found 4", WITHOUT_4
    ),
    "category called as all questions are": Hostile(
        text(table().assign(category="all")), "category: expected another name than all, by which scores", None
    ),
    "category called as easy ones are": Hostile(
        text(table().assign(category=["x"] * 4 + ["easy"])), "than easy,", None
    ),
    "a column by its former name": Hostile(
        text(table().assign(house="twemoji")), "column house: expected image_source, its name since version 0.2", None
    ),
    "split called as all of them": Hostile(text(table().assign(split="all")), "split: expected another name", None),
    "quotation marks that swallow rows": Hostile(
        text(table()).replace("\t".join(("2", "Есть")), '2\t"Есть').replace("4\tWhich?", '4\t5"'),
        "row 2: question: a quotation mark at its start is closed in another row",
        None,
    ),
    "quotation mark within a cell": Hostile(
        text(table()).replace("Есть", '"Есть"'),
        "line 4: a quotation mark at a cell's start",
        None,
    ),
    "quotation mark that is never closed": Hostile(
        text(table()).replace("Есть", '"Есть'), "line 4: a quotation mark at a cell's start", None
    ),
    "blank lines": Hostile(text(table()).replace("\n", "\n\n") + "\n", "", INDICES),
    "CRLF": Hostile(text(table()).replace("\n", "\r\n"), "", INDICES),
    "byte-order mark": Hostile("\ufeff" + text(table()), "", INDICES),
    "CRLF and byte-order mark": Hostile("\ufeff" + text(table()).replace("\n", "\r\n"), "", INDICES),
}


def benchmark(folder: Path, content: str | bytes, **changes: object) -> Benchmark:
    (folder / "b.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    entry = {"name": "B", "folder": str(folder), "files": {"en": "b.tsv"}, "instruction": {}, "scoring": "circular"}
    return Benchmark.model_validate(entry | {"generation": {"max_new_tokens": 2}} | changes)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_refused_with_one_line_before_anything_runs(case: Hostile, tmp_path: Path) -> None:
    entry = benchmark(tmp_path, case.content)
    if not case.expected:
        fetch({}, {"b": entry}, check=True, report=None)
        return
    with pytest.raises(UserError) as caught:
        fetch({}, {"b": entry}, check=True, report=None)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'b.tsv'}: ")
    assert case.expected in message
    assert "\n" not in message


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_listed_where_the_entry_says_so(case: Hostile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = benchmark(tmp_path, case.content, rejected_rows="list")
    report = tmp_path / "data.json"
    if case.left is None:
        with pytest.raises(UserError) as caught:
            fetch({}, {"b": entry}, check=True, report=report)
        assert case.expected in str(caught.value)
        return
    fetch({}, {"b": entry}, check=True, report=report)
    rows, rejected = read_language(entry, "en")
    assert list(rows["index"]) == case.left
    expected = table().set_index("index").loc[case.left]
    assert rows.set_index("index").to_dict() == expected.to_dict()
    # Every row that is not left is named once, with what is wrong.
    places = {row.place for row in rejected}
    assert len(rejected) == len(places) == len(INDICES) - len(case.left)
    assert places | set(rows.index) == set(range(len(INDICES)))
    (sheet,) = read_tables(settings(entry), tmp_path)
    assert (len(sheet.items), sheet.rejected) == (len(case.left), rejected)
    found = json.loads(report.read_text())
    assert found["checked"] == {"b": {"en": len(case.left)}}
    if rejected:
        assert any(case.expected in str(row) for row in rejected)
        assert found["rejected"] == {str(tmp_path / "b.tsv"): [str(row) for row in rejected]}
        assert f"b.tsv: {len(rejected)} rows rejected; the first: row" in capsys.readouterr().err
    else:
        assert found["rejected"] == {}


def settings(entry: Benchmark) -> PredictSettings:
    return PredictSettings(benchmarks=(entry,), controls=entry.controls, prompt_language="dataset", dtype="fp32")


def test_nothing_left_is_one_line(tmp_path: Path) -> None:
    entry = benchmark(tmp_path, text(table().assign(answer="E")), rejected_rows="list")
    with pytest.raises(UserError, match=r"b\.tsv: all 5 rows are rejected; the first: row 1: answer 'E'"):
        read_language(entry, "en")


def test_rotations_in_other_words_may_be_let_pass(tmp_path: Path) -> None:
    reworded = with_cell(1, "B", lambda _: "a cat")
    with pytest.raises(UserError, match="'cat' and 'a cat'"):
        read_language(benchmark(tmp_path, reworded), "en")
    rows, rejected = read_language(benchmark(tmp_path, reworded, rotations_agree=False), "en")
    assert (list(rows["index"]), rejected) == (INDICES, [])


def test_rotations_belong_to_circular_benchmarks(tmp_path: Path) -> None:
    entry = benchmark(tmp_path, with_cell(1, "answer", lambda _: "A"), scoring="vanilla")
    assert list(read_language(entry, "en")[0]["index"]) == INDICES


def test_an_image_is_shown_although_its_own_row_is_rejected(tmp_path: Path) -> None:
    rows = table()
    rows.loc[3, "answer"] = "Z"
    rows.loc[4, "image"] = "3"
    kept, rejected = read_language(benchmark(tmp_path, text(rows), rejected_rows="list"), "en")
    assert [row.index for row in rejected] == ["3"]
    assert kept["image"].iloc[-1] == image(3)


def test_languages_are_parallel_but_for_what_one_of_them_rejects(tmp_path: Path) -> None:
    entry = benchmark(tmp_path, with_cell(4, "answer", lambda _: "E"), rejected_rows="list")
    entry = entry.model_copy(update={"files": {"en": "b.tsv", "pt": "pt.tsv"}})
    (tmp_path / "pt.tsv").write_text(text(table()), encoding="utf-8")
    fetch({}, {"b": entry}, check=True, report=None)
    (tmp_path / "pt.tsv").write_text(with_cell(3, "index", lambda _: "5"), encoding="utf-8")
    with pytest.raises(UserError, match=r"B: index: pt and en should hold the same rows; differs: 3"):
        fetch({}, {"b": entry}, check=True, report=None)


def test_rejected_rows_are_listed_beside_predictions_and_counted_in_scores(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table().assign(shuffled=["2", "2", "1", "4", "3"])
    rows.loc[4, "answer"] = "E"
    entry = benchmark(tmp_path, text(rows), rejected_rows="list", controls=("none", "shuffled"))
    model = talkative_model(tmp_path_factory.mktemp("backbones"))
    out = tmp_path / "out"
    predict(settings(entry), in_memory(model), out, tmp_path / "work", 8)
    assert list(read_tsv(out / "b.tsv")["index"]) == WITHOUT_4
    assert read_tsv(out / "b.rejected.tsv").to_dict("records") == [
        {"row": "5", "index": "4", "why": "answer 'E' is not an offered option; expected one of A, B"}
    ]
    # Row 3 would show the image of row 4, which is not there.
    assert list(read_tsv(out / "b.shuffled.tsv")["index"]) == INDICES[:3]
    assert list(read_tsv(out / "b.shuffled.rejected.tsv")["index"]) == ["3", "4"]
    assert f"parrot: b.tsv: 1 of 5 rows rejected: {out / 'b.rejected.tsv'}" in capsys.readouterr().err
    scored = ScoreSettings(run="r", seed=0, benchmarks=(entry,), controls=("none", "shuffled"), resamples=20)
    score(scored, out, None, tmp_path / "scores.csv")
    scores = pd.read_csv(tmp_path / "scores.csv")
    whole = scores[(scores["kind"] == "all") & (scores["scoring"] == "circular")].set_index("control")
    assert whole[["questions", "rejected"]].to_dict("index") == {
        "none": {"questions": 3, "rejected": 1},
        "shuffled": {"questions": 2, "rejected": 2},
    }
    # Asked again without faults, the lists are gone.
    predict(settings(benchmark(tmp_path, text(table()))), in_memory(model), out, tmp_path / "work", 8)
    assert not (out / "b.rejected.tsv").exists()
