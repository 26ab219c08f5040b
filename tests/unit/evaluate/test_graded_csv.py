"""graded.csv holds a row for each prediction, is read back as it was written, and is refused where it is not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parrot.errors import UserError
from parrot.evaluate.graded_csv import (
    COLUMNS,
    described,
    of_predictions,
    prediction_sha256,
    read_graded,
    select,
    write_graded,
)
from parrot.io.csv_tables import to_csv
from parrot.report.comparisons import of_kind

NUMBERS = dict.fromkeys(("item", "rotation", "options"), "0") | dict.fromkeys(("score", "hit"), "1")
WHOLE = {"run": "parrot", "benchmark": "MMMB", "language": "en", "control": "none", "index": "0", "unmatched": "0"}


def line(**changes: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | NUMBERS | WHOLE | changes


def write(path: Path, *lines: dict[str, str]) -> Path:
    path.write_text(to_csv([COLUMNS, *(each.values() for each in lines)]), encoding="utf-8", newline="")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    predictions = pd.DataFrame(
        {
            "index": ["3", "1000003"],
            "image_sha256": ["abc", ""],
            "image_source": ["=twemoji", "two\nlines"],
            "l2-category": ["seeing", ""],
            "prediction": ["A", "B"],
        }
    )
    rows = described(predictions, "zh").assign(
        run="parrot", benchmark="b", control="text", item=3, rotation=[0, 1], options=4
    )
    rows = rows.assign(score=[0.1 + 0.2, -12.345678], reference_score=[np.nan, 9.5], hit=[1.0, np.nan])
    rows = rows.assign(unmatched=0.0, other_language=[1.0, 0.0])
    write_graded([rows], tmp_path / "graded.csv")
    found = read_graded(tmp_path / "graded.csv", "parrot")
    assert list(found.columns) == list(COLUMNS)
    assert found["image_source"].tolist() == ["=twemoji", "two\nlines"]
    assert found["l2_category"].tolist() == ["seeing", ""]
    assert found["category"].tolist() == ["", ""]
    assert found[["index", "item", "rotation", "options"]].to_numpy().tolist() == [[3, 3, 0, 4], [1000003, 3, 1, 4]]
    assert found["score"].tolist() == [0.3, -12.345678]
    assert found["hit"].tolist()[0] == 1
    assert found[["hit", "reference_score"]].isna().to_numpy().tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": "-1"}, "index: expected a whole number, found '-1'"),
        ({"options": ""}, "options: expected a whole number, found ''"),
        ({"score": "x"}, "score: expected a number or nothing, found 'x'"),
        ({"reference_score": "inf"}, "reference_score: expected a number or nothing, found 'inf'"),
        ({"hit": "0.5"}, "hit: expected 0, 1 or nothing, found '0.5'"),
        ({"unmatched": "2"}, "unmatched: expected 0, 1 or nothing, found '2'"),
        ({"language": "xx"}, "language: expected a language's code, found 'xx'"),
        ({"control": "xx"}, "control: expected one of none, shuffled, text, found 'xx'"),
        ({"index": "0"}, "index: expected every prediction once, found 0"),
    ],
)
def test_what_a_row_cannot_be_is_named_by_line_and_column(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    path = write(tmp_path / "graded.csv", line(), line(index="1") | changes)
    with pytest.raises(UserError) as caught:
        read_graded(path, "parrot")
    assert str(caught.value) == f"{path}: line 3: {message}; remove {path} and run again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-1], "expected complete lines below the header, found it cut off"),
        (lambda text: b"", "no column run"),
        (lambda text: text.replace(b",hit", b",hits"), "no column hit"),
        (lambda text: text.replace(b"MMMB", b"MM\xff"), "line 2: expected UTF-8"),
        (lambda text: text.replace(b"parrot", b"english"), "run: expected rows of parrot, found english"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_with_its_cure(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path / "graded.csv", line())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=re.escape(f"graded.csv: {message}")) as caught:
        read_graded(path, "parrot")
    assert str(caught.value).endswith(f"; remove {path} and run again")


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"graded\.csv: cannot be read"):
        read_graded(tmp_path / "graded.csv", "parrot")


def test_grades_of_other_predictions_are_refused(tmp_path: Path) -> None:
    digests = prediction_sha256(["A", "B"])
    lines = (line(index=str(n), prediction_sha256=digest) for n, digest in enumerate(digests))
    graded = read_graded(write(tmp_path / "graded.csv", *lines), "parrot")
    predictions = pd.DataFrame({"index": ["0", "1"], "prediction": ["A", "B"]})
    path = tmp_path / "graded.csv"
    assert len(of_predictions(graded, predictions, path, run="parrot", language="en")) == 2
    for other in (predictions.assign(prediction=["A", "C"]), predictions[:1], predictions.assign(index=["0", "2"])):
        with pytest.raises(UserError, match=r"graded\.csv: parrot, en: grades other predictions than there are now"):
            of_predictions(graded, other, path, run="parrot", language="en")


def test_rows_are_selected_by_what_their_columns_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "graded.csv", line(), line(run="align/0123", control="text"), line(index="1"))
    graded = read_graded(path, "parrot")
    assert select(graded, run="parrot", control="none")["index"].tolist() == [0, 1]


def test_items_of_a_kind_are_those_that_scores_name_so() -> None:
    table = pd.DataFrame({"options": [4, 2, 4], "category": ["naming", "yes_no", "naming"], "l2_category": "seeing"})
    table = table.assign(difficulty=["easy", "", "hard"], unseen_in_language=["1", "0", "0"])
    for kind, members in {
        "all": [True, True, True],
        "four_option": [True, False, True],
        "yes_no": [False, True, False],
        "l2-category/seeing": [True, True, True],
        "hard": [False, False, True],
        "counting": [False, False, False],
    }.items():
        assert list(of_kind(table, kind)) == members
