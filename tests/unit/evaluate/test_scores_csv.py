"""scores.csv is written so that it can be read back, and anything that is not what scoring writes is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parrot.errors import UserError
from parrot.evaluate.score import join
from parrot.evaluate.scores_csv import COLUMNS, COUNTS, read_lines, read_scores
from parrot.io.csv_tables import to_csv

NAMES = (
    "a\u2028b",
    "caf\x85",
    "a\x0bb",
    "a\x0cb",
    "a\x1cb\x1db\x1eb",
    "two\nlines",
    "a\rb",
    "a\r\nb",
    'a,"b"',
    " a ",
    "=1+1",
)


def line(**changes: str) -> dict[str, str]:
    whole = dict.fromkeys(COLUMNS, "none") | dict.fromkeys(COUNTS, "4")
    whole |= {"run": "parrot", "seed": "0", "language": "en", "scoring": "vanilla", "judge": ""}
    return whole | dict.fromkeys(("accuracy", "low", "high", "unmatched", "other_language"), "50.0000") | changes


def write(path: Path, *lines: dict[str, str]) -> Path:
    path.write_text(to_csv([COLUMNS, *(each.values() for each in lines)]), encoding="utf-8", newline="")
    return path


def test_names_that_hold_line_ends_of_any_kind_are_joined_and_read_back(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{run}.csv", *(line(run=run, kind=name) for name in NAMES)) for run in ("parrot", "english")
    ]
    join(files, tmp_path / "scores.csv")
    found = [(score.run, score.kind) for score in read_scores([tmp_path / "scores.csv"])]
    assert found == [(run, name) for run in ("parrot", "english") for name in NAMES]


def test_no_name_is_a_formula_of_a_spreadsheet_and_numbers_stay_numbers() -> None:
    cells = ["=1+1", "+1", "-2.5", "-1.5e-05", "@SUM(A1)", "-a", "'=1", "a=1", "'tis", "\t=1"]
    written = ["'=1+1", "+1", "-2.5", "-1.5e-05", "'@SUM(A1)", "'-a", "''=1", "a=1", "'tis", "'\t=1"]
    assert to_csv([cells]) == ",".join(written) + "\n"


def test_lines_are_joined_each_once_as_they_are(tmp_path: Path) -> None:
    stage1 = line(run="align/0123456789ab", control="text", accuracy="30.0000")
    files = [write(tmp_path / f"{run}.csv", line(run=run), stage1) for run in ("parrot", "english")]
    join(files, tmp_path / "scores.csv")
    first, second = (path.read_text().splitlines(keepends=True) for path in files)
    assert (tmp_path / "scores.csv").read_text() == "".join([*first, second[1]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": "x"}, "accuracy: expected a number, found 'x'"),
        ({"accuracy": "nan"}, "accuracy: expected a number, found 'nan'"),
        ({"low": "inf"}, "low: expected a number, found 'inf'"),
        ({"accuracy": ""}, "accuracy: expected a number, found none"),
        ({"questions": ""}, "questions: expected a number, found none"),
        ({"questions": "-1"}, "questions: expected a whole number, found -1"),
        ({"rejected": "0.5"}, "rejected: expected a whole number, found 0.5"),
        ({"high": "100.1"}, "high: expected a percentage between 0 and 100, found 100.1"),
        ({"scoring": "mme", "kind": "OCR", "accuracy": "201"}, "accuracy: expected a percentage between 0 and 200"),
        ({"scoring": "mme", "unmatched": "101"}, "unmatched: expected a percentage between 0 and 100"),
        ({"seed": "one"}, "seed: expected a whole number, found 'one'"),
        ({"language": "xx"}, "language: expected a language's code or non_english, found 'xx'"),
    ],
)
def test_what_a_line_cannot_be_is_named_by_line_and_column(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    path = write(tmp_path / "scores.csv", line(), line(kind="naming") | changes)
    with pytest.raises(UserError, match=re.escape(f"scores.csv: line 3: {message}")):
        read_lines(path)


@pytest.mark.parametrize(
    ("scoring", "kind", "accuracy", "questions"),
    [("mme", "all", "1900", "4"), ("mme", "OCR", "", "4"), ("relative", "all", "101", "4"), ("pairs", "all", "", "0")],
)
def test_numbers_of_other_units_and_subsets_without_any_are_read(
    tmp_path: Path, scoring: str, kind: str, accuracy: str, questions: str
) -> None:
    written = line(scoring=scoring, kind=kind, accuracy=accuracy, questions=questions)
    assert read_lines(write(tmp_path / "scores.csv", written)) == [written]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-40] + b"\n", "line 2: expected 24 cells"),
        (lambda text: text[:-1], "expected complete lines below the header, found it cut off"),
        (lambda text: text[: text.index(b"\n") + 1], "expected complete lines below the header"),
        (lambda text: b"", "no column run"),
        (lambda text: text.replace(b"seed,", b""), "no column seed"),
        (lambda text: text.replace(b"seed,", b"seed,more,"), "other columns"),
        (lambda text: text.replace(b"parrot", b"parr\xff"), "line 2: expected UTF-8"),
        (lambda text: text + text[text.index(b"\n") + 1 :], "line 3: the cell parrot, none,"),
    ],
)
def test_a_file_that_is_not_whole_is_named_with_its_cure(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path / "scores.csv", line())
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=re.escape(f"scores.csv: {message}")) as caught:
        join([path], tmp_path / "joined.csv")
    assert "; remove " in str(caught.value)
    assert not (tmp_path / "joined.csv").exists()


def test_runs_that_share_a_stage_1_all_carry_its_lines(tmp_path: Path) -> None:
    stage1 = line(run="align/0123456789ab", control="text")
    paths = [write(tmp_path / f"{run}.csv", line(run=run), stage1) for run in ("parrot", "english")]
    assert [score.run for score in read_scores(paths)] == ["parrot", stage1["run"], "english"]


def test_one_cell_in_two_files_and_a_file_that_is_absent_are_named(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, line(low=low)) for name, low in (("a.csv", "1.0"), ("b.csv", "2.0"))]
    with pytest.raises(UserError, match=r"b\.csv: the cell parrot, .* is another one in .*a\.csv"):
        read_scores(paths)
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        read_scores([tmp_path / "none.csv"])
