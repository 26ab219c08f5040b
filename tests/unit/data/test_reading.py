"""Benchmark files as they should be, and those of which nothing can be asked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from parrot.data.benchmarks import check_parallel, read_benchmark
from parrot.errors import UserError

HEADER = "index\tquestion\tA\tB\tanswer\timage\n"
RED, BLUE = "r" * 80, "b" * 80


def test_references_to_images(tmp_path: Path) -> None:
    path = tmp_path / "b.tsv"
    path.write_text(HEADER + f"1\tq\tx\ty\tA\t{RED}\n1000001\tq\ty\tx\tB\t1\n2\tq\tx\ty\tA\t{BLUE}\n", encoding="utf-8")
    assert list(read_benchmark(path)["image"]) == [RED, RED, BLUE]


BAD = {
    "no answer column": ("index\tquestion\tA\tB\timage\n1\tq\tx\ty\tRED\n", "no column answer"),
    "empty option as answer": (HEADER + "7\tq\tx\t\tB\tRED\n", "row 7: answer 'B'"),
    "index no number": (HEADER + "one\tq\tx\ty\tA\tRED\n", "row one: index: expected a whole number, found 'one'"),
    "index too large": (HEADER + f"{10**19}\tq\tx\ty\tA\tRED\n", "index: expected a whole number"),
    "missing cells": (HEADER + "1\tq\tx\n", "row number 1: expected 6 cells, found 3"),
    "extra cells": (HEADER + "1\tq\tx\ty\tA\tRED\tz\n", "row number 1: expected 6 cells, found 7"),
    "no rows": (HEADER, "expected at least one row"),
    "empty file": ("", "no column index"),
    "column twice": ("index\tquestion\tA\tB\tanswer\timage\tA\n", "more than one column A"),
    "dangling reference": (HEADER + "1\tq\tx\ty\tA\t99\n", "row 1: image"),
    "reference to a reference": (HEADER + "1\tq\tx\ty\tA\t2\n2\tq\tx\ty\tA\t1\n", "row 1: image"),
    "unclosed quote": (
        HEADER + '1\t"q\tx\ty\tA\tRED\n',
        "line 2: a quotation mark at a cell's start must close at its end",
    ),
    "text beyond its limit": (
        HEADER + f"3\tq\tx\t{'y' * (2**20 + 1)}\tA\tRED\n",
        "row 3: B: expected at most 1048576 bytes (limits.text_bytes), found 1048577",
    ),
    "names that are no JSON": (
        "index\tquestion\tA\tB\tanswer\timage\tanswer_names\n3\tq\tx\ty\tA\tRED\t{ru\n",
        "row 3: answer_names: expected a JSON object of texts by language",
    ),
    "names nested without end": (
        f"index\tquestion\tA\tB\tanswer\timage\tanswer_names\n3\tq\tx\ty\tA\tRED\t{'[' * 100_000}\n",
        "row 3: answer_names: expected a JSON object of texts by language",
    ),
    "no question": (HEADER + "3\t \tx\ty\tA\tRED\n", "row 3: question: expected some text, found none"),
    "blank option": (HEADER + "3\tq\tx\t \tA\tRED\n", "row 3: B: expected some text, found none"),
    "zero byte": (HEADER + "3\tq\tx\ty\0\tA\tRED\n", "line 2: expected text, found a zero byte"),
    "placeholder in an option": (HEADER + "3\tq\tx\t<image>\tA\tRED\n", "row 3: expected no <image>"),
}


@pytest.mark.parametrize(("content", "expected"), BAD.values(), ids=BAD)
def test_bad_tables_are_one_line(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "b.tsv"
    path.write_text(content.replace("RED", RED), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_benchmark(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message


def test_parallel_languages() -> None:
    table = pd.DataFrame({"index": ["1", "2"], "answer": ["A", "B"], "image": [RED, BLUE]}, dtype=str)
    check_parallel({"en": table, "zh": table.copy()}, "MMMB")
    for column, value, expected in (
        ("index", "3", "same rows"),
        ("answer", "A", "row 2: answer"),
        ("image", RED, "row 2: im"),
    ):
        other = table.copy()
        other.loc[1, column] = value
        with pytest.raises(UserError, match=expected):
            check_parallel({"en": table, "zh": other}, "MMMB")
