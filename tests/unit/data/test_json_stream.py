"""A JSON list is read element by element; where it is none, line and column say where."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import pytest

from parrot.config import limits
from parrot.config.limits import Limits
from parrot.data import json_stream
from parrot.data.json_stream import elements
from parrot.errors import UserError

SMALL = Limits(sample_bytes=64, nesting=3)


@pytest.fixture(params=[1, 4, 7, 1 << 20], ids="{} characters a read".format)
def size(request, monkeypatch):
    monkeypatch.setattr(json_stream, "CHARACTERS_PER_READ", request.param)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "list.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", []),
        (" [ ] ", []),
        ('[ {"a": "x]["},\n {"b": [1, {"c": 2}]} ]\n', [{"a": "x]["}, {"b": [1, {"c": 2}]}]),
        ('[{"a": "\\u00e9"}]', [{"a": "é"}]),
        ("\ufeff[12, -3.5e2, true, null]", [12, -350.0, True, None]),
        ('["\\ud83d\\ude00", "\\ud83d", "\\\\"]\r\n', ["😀", "\ud83d", "\\"]),
    ],
)
def test_a_json_list_is_read_element_by_element(text, expected, tmp_path):
    assert list(elements(written(tmp_path, text))) == expected


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(
    ("text", "step_fault"),
    [
        ("", "expected a JSON list of samples, found nothing"),
        ('{"a": []}', "expected a JSON list of samples, found one object"),
        ('{"a": 1}\n{"a": 2}\n', "expected a JSON list of samples, found JSON Lines, one object after another"),
        ("7", "expected a JSON list of samples, found another value"),
        ('[{"a": 1}', "line 1, column 10: expected , or ] after sample number 0"),
        ('[{"a": 1},', "line 1, column 11: the file ends within sample number 1"),
        ('[\n{"a": "b', "line 2, column 9: the file ends within sample number 0"),
        ('[\n{"a": 1} {"b": 2}]', "line 2, column 10: expected , or ] after sample number 0"),
        ('[{"a": 1},\n ]', "line 2, column 2: expected a sample after the comma, found ]"),
        (
            "[{]",
            "line 1, column 3: sample number 0 is not valid JSON: Expecting property name enclosed in double quotes",
        ),
        ('[1,\n{"é": tru}]', "line 2, column 7: sample number 1 is not valid JSON: Expecting value"),
        ('[{"a": "\n"}]', "line 1, column 9: sample number 0 is not valid JSON: Invalid control character at"),
        ("[1] [2]", "line 1, column 5: expected nothing after the list"),
        ('[{"a": NaN}]', "line 1, column 2: sample number 0: NaN is no JSON value"),
        ('[1, {"a": {"b": 1, "b": 1}}]', "line 1, column 5: sample number 1: expected each key once, found 'b' twice"),
        (
            f'[{{"a": "{"x" * 57}"}}]',
            "line 1, column 2: sample number 0: expected at most 64 bytes (limits.sample_bytes), found 66",
        ),
        (
            "[[[[[]]]]]",
            "line 1, column 2: sample number 0: expected at most 3 levels of lists and objects (limits.nesting)",
        ),
    ],
)
def test_what_is_no_json_list_is_one_line_with_its_place(text, step_fault, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_of_config", SMALL)
    path = written(tmp_path, text)
    with pytest.raises(UserError) as raised:
        list(elements(path))
    assert str(raised.value) == f"{path}: {step_fault}"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '[{"a":' * 100_000, f"[{'9' * 5000}]"], ids=["lists", "both", "digits"]
)
def test_what_the_decoder_gives_up_is_one_line_too(text, tmp_path):
    with pytest.raises(UserError, match="line 1, column 2: sample number 0: "):
        list(elements(written(tmp_path, text)))


def test_an_element_that_does_not_end_is_not_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_of_config", SMALL)
    monkeypatch.setattr(json_stream, "CHARACTERS_PER_READ", 16)
    with pytest.raises(UserError, match=r"sample number 0: expected at most 64 bytes .*, found more than \d\d+$"):
        list(elements(written(tmp_path, '["' + "x" * 4096)))


def test_one_large_element_is_decoded_a_few_times_only(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHARACTERS_PER_READ", 64)
    tried = []

    class Counting(json.JSONDecoder):
        def raw_decode(self, text, place=0):
            tried.append(len(text) - place)
            return super().raw_decode(text, place)

    monkeypatch.setattr(json_stream.json, "JSONDecoder", Counting)
    text = json.dumps([{"a": ["x" * 10] * 10_000}])
    assert len(next(elements(written(tmp_path, text)))["a"]) == 10_000
    assert sum(tried) < 3 * len(text)


def test_elements_are_yielded_before_the_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHARACTERS_PER_READ", 16)
    path = written(tmp_path, '[{"a": 1}, {"b": 2}, broken')
    assert list(islice(elements(path), 2)) == [{"a": 1}, {"b": 2}]


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for name, step_fault in (
        ("pipe.json", "expected a regular file, found a named pipe"),
        (".", "expected a regular file, found a folder"),
        ("absent.json", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(UserError, match=step_fault):
            list(elements(tmp_path / name))


def test_another_encoding_is_named(tmp_path):
    with pytest.raises(UserError, match="list.json: line 2, byte 2: expected text in UTF-8, found 0xe9$"):
        list(elements(written(tmp_path, '[\n"é"]'.encode("latin-1"))))
