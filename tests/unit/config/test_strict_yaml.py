"""YAML files: plain words are what they look like, and what may be taken in two ways is refused by line and column."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from parrot.config.strict_yaml import read_yaml
from parrot.config.suite import Suite
from parrot.errors import UserError


def read(folder: Path, content: str | bytes) -> dict:
    path = folder / "my.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_yaml(path)


WORDS = ["no", "yes", "on", "off", "y", "n", "No", "017", "0o17", "0x1f", "1:30", "1_000", "2024-01-01", ".inf", ".nan"]


@pytest.mark.parametrize("word", [*WORDS, "1e", "1.2.3"])
def test_what_is_no_decimal_number_and_neither_true_nor_false_is_a_text(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f"word: {word}\nlist: [{word}]\n{word}: name\n") == {
        "word": word,
        "list": [word],
        word: "name",
    }


@pytest.mark.parametrize(
    ("word", "value"),
    [("12", 12), ("-2", -2), ("+4", 4), ("0", 0), ("2e-5", 0.00002), ("1E3", 1000.0), ("3.0e-3", 0.003)]
    + [(".5", 0.5), ("1.", 1.0), ("true", True), ("False", False), ("~", None), ("null", None), ("'12'", "12")]
    + [("!!str 12", "12")],
)
def test_numbers_truths_and_nothing(tmp_path: Path, word: str, value: object) -> None:
    found = read(tmp_path, f"a: {word}\n")["a"]
    assert (type(found), found) == (type(value), value)


def test_a_number_that_is_too_large_for_a_float_is_infinite(tmp_path: Path) -> None:
    assert math.isinf(read(tmp_path, "a: 1e999\n")["a"])


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_anchors_and_merge_keys(tmp_path: Path, start: bytes, end: str) -> None:
    lines = ("one: &one {x: 1, y: é}", "two: *one", "three: {<<: *one, x: 3}", "")
    assert read(tmp_path, start + end.join(lines).encode()) == {
        "one": {"x": 1, "y": "é"}, "two": {"x": 1, "y": "é"}, "three": {"x": 3, "y": "é"}
    }  # fmt: skip


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: français\n".encode("latin-1"), r"line 1, byte 8: expected text in UTF-8, found 0xe7"),
        (b"a: 1\nb: \xff\n", r"line 2, byte 4: expected text in UTF-8, found 0xff"),
        ("a: 1\n".encode("utf-16"), r"line 1, byte 1: expected text in UTF-8, found 0xff"),
        ("parrot: {}\nother: {}\nparrot: {seed: 7}\n", r"line 3, column 1: parrot is there twice"),
        ("a:\n  b: {c: 1, d: 2, c: 3}\n", r"line 2, column 19: c is there twice"),
        ("1: {}\n", r"line 1, column 1: expected a name before the colon, found 1; quote it"),
        ("a: {true: 1}\n", r"line 1, column 5: expected a name before the colon, found true; quote it"),
        ("? [a]\n: 1\n", r"line 1, column 3: expected a name before the colon"),
        ("'  ': 1\n", r"line 1, column 1: expected a name before the colon"),
        ("a:\n\tb: 1\n", r"line 2, column 1: .*found character '\\t' that cannot start any token"),
        ("a: [1, 2\n", r"line 2, column 1: .*expected ',' or '\]'"),
        ("a: 1\n---\nb: 2\n", r"line 2, column 1: expected a single document"),
        ("- a\n", r"expected a mapping of names, found a list"),
        ("", r"expected a mapping of names, found nothing"),
        ("# a comment\n", r"expected a mapping of names, found nothing"),
        ("parrot\n", r"expected a mapping of names, found a text"),
        ("a: !!python/object/apply:os.system [id]\n", r"line 1, column 4: expected no tag, found \S*os\.system"),
        ("a: !!int '017'\n", r"line 1, column 4: expected no tag"),
        ("a: *b\n", r"line 1, column 4: found undefined alias 'b'"),
        ("a: &a [*a]\n", r"line 1, column 8: expected no alias of a value that it is a part of, found \*a"),
        ("a: x\x00y\n", r"line 1: expected text, found a zero byte"),
        ('a: "\\ud800"\n', r"line 1, column 4: expected text, found half of a surrogate pair"),
        ("a: " + "[" * 5000 + "]" * 5000, r"line 1, column 104: expected at most 100000 values, 100 deep"),
        (BOMB, r"line 5, column 5: expected at most 100000 values, 100 deep"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(UserError, match=rf"^\S+my\.yaml: {said}[^\n]*$"):
        read(tmp_path, content)


def test_config_files_are_read_so(tmp_path: Path) -> None:
    path = tmp_path / "over.yaml"
    path.write_text("tune: {learning_rate: 2e-5}\n")
    assert Suite.load(("config/config.yaml", str(path))).config.tune.learning_rate == 0.00002
