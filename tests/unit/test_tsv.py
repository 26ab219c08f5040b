"""Tables of strings: what is read is what was written, and what is wrong is one clear line."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from parrot.config import ConfigError
from parrot.evaluate.tsv import (
    as_vlmevalkit_reads,
    check_parallel,
    decode_picture,
    open_picture,
    options,
    picture_id,
    read_benchmark,
    read_tsv,
    write_tsv,
)

HEADER = "index\tquestion\tA\tB\tanswer\timage\n"


def picture(colour: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


RED, BLUE = picture("red"), picture("blue")


def test_strings_survive(tmp_path: Path) -> None:
    cells = [
        "None",
        "NA",
        "null",
        "",
        "1.0",
        "007",
        "a\tb",
        "line\nfeed",
        "line\r\nend",
        "\r",
        '"',
        '"x',
        "\u2028",
        "ё",
    ]
    table = pd.DataFrame({"text": cells, "other": cells[::-1]}, dtype=str)
    write_tsv(table, tmp_path / "t.tsv")
    assert read_tsv(tmp_path / "t.tsv").to_dict("list") == {"text": cells, "other": cells[::-1]}
    assert [path.name for path in tmp_path.iterdir()] == ["t.tsv"]


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfindex\tA\r\n1\tx\r\n")
    assert read_tsv(path, ["index"]).to_dict("records") == [{"index": "1", "A": "x"}]


def test_options_leave_out_empty_cells() -> None:
    assert options({"question": "?", "A": "None", "B": "", "C": "NA"}) == {"A": "None", "C": "NA"}


def test_cells_as_pandas_types_them() -> None:
    cells = {
        "index": ["007", "8", "9"],
        "A": ["None", "NA", "x"],
        "B": ["1", "", "2"],
        "C": ["03", "4", "5"],
        "hint": ["null", "see", "n/a"],
        "category": ["None", "b", "c"],
        "prediction": ["None", "nan", "no\nbanana"],
    }
    table = pd.DataFrame(cells, dtype=str)
    read = as_vlmevalkit_reads(table).to_dict("list")
    assert read == cells | {
        "A": ["", "", "x"],
        "B": ["1.0", "", "2.0"],
        "C": ["3", "4", "5"],
        "hint": ["", "see", ""],
        "prediction": ["nan", "nan", "no\nbanana"],
    }
    assert table.to_dict("list") == cells


def test_references_to_pictures(tmp_path: Path) -> None:
    path = tmp_path / "b.tsv"
    path.write_text(HEADER + f"1\tq\tx\ty\tA\t{RED}\n1000001\tq\ty\tx\tB\t1\n", encoding="utf-8")
    table = read_benchmark(path)
    assert list(table["image"]) == [RED, RED]
    assert picture_id(RED) != picture_id(BLUE)


BAD = {
    "no answer column": ("index\tquestion\tA\tB\timage\n1\tq\tx\ty\tRED\n", "no column answer"),
    "letter not offered": (HEADER + "7\tq\tx\ty\tC\tRED\n", "row 7: answer 'C' is not an offered option"),
    "empty option as answer": (HEADER + "7\tq\tx\t\tB\tRED\n", "row 7: answer 'B'"),
    "repeated index": (HEADER + "1\tq\tx\ty\tA\tRED\n1\tq\tx\ty\tA\tRED\n", "index: 1 occurs more than once"),
    "index no number": (HEADER + "one\tq\tx\ty\tA\tRED\n", "index: expected a whole number, found 'one'"),
    "missing cells": (HEADER + "1\tq\tx\n", "row 1: expected 6 cells, found 3"),
    "extra cells": (HEADER + "1\tq\tx\ty\tA\tRED\tz\n", "row 1: expected 6 cells, found 7"),
    "no rows": (HEADER, "expected at least one row"),
    "empty file": ("", "no column index"),
    "column twice": ("index\tquestion\tA\tB\tanswer\timage\tA\n", "more than one column A"),
    "dangling reference": (HEADER + "1\tq\tx\ty\tA\t99\n", "row 1: image"),
    "unclosed quote": (HEADER + '1\t"q\tx\ty\tA\tRED\n', "expected a UTF-8 TSV"),
}


@pytest.mark.parametrize(("content", "expected"), BAD.values(), ids=BAD)
def test_bad_tables_are_one_line(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "b.tsv"
    path.write_text(content.replace("RED", RED), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_benchmark(path)
    message = str(caught.value)
    assert str(path) in message
    assert expected in message
    assert "\n" not in message


def test_other_encodings_and_missing_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_bytes("index\tпример".encode("cp1251"))
    for name, expected in (("b.tsv", "UTF-8"), ("absent.tsv", "cannot be read")):
        with pytest.raises(ConfigError, match=expected):
            read_tsv(tmp_path / name)


@pytest.mark.parametrize(
    "image",
    [RED[:64], "!" * 100, base64.b64encode(b"no picture" * 9).decode()],
    ids=["cut", "not base64", "not an image"],
)
def test_unreadable_pictures_are_one_line(image: str) -> None:
    with pytest.raises(ConfigError, match=r"^t\.tsv: row 3: .*picture") as caught:
        decode_picture(image, "t.tsv: row 3")
    assert "\n" not in str(caught.value)


def test_pictures_decode_as_rgb(tmp_path: Path) -> None:
    assert decode_picture(BLUE, "").getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(ConfigError, match="no such picture"):
        open_picture(tmp_path / "absent.png", "absent.png")


def test_parallel_languages(tmp_path: Path) -> None:
    table = pd.DataFrame({"index": ["1", "2"], "answer": ["A", "B"], "image": [RED, BLUE]}, dtype=str)
    check_parallel({"en": table, "zh": table.copy()}, "MMMB")
    for column, value, expected in (
        ("index", "3", "same rows"),
        ("answer", "A", "row 2: answer"),
        ("image", RED, "row 2: im"),
    ):
        other = table.copy()
        other.loc[1, column] = value
        with pytest.raises(ConfigError, match=expected):
            check_parallel({"en": table, "zh": other}, "MMMB")
