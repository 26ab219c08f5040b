"""The elements of a JSON list in a file of any size, decoded one at a time, in time linear in the file's size.

Ours, since fast streaming parsers replace lone surrogates and keep the last of doubled keys without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from parrot.config.limits import limits
from parrot.errors import UserError
from parrot.io.files import check_regular, read_text

CHARACTERS_PER_READ = 1 << 20
NO_BLANK = re.compile(r"[^ \t\n\r]")
LONGEST_PART = len("-Infinity") + len(r"\ud83d\ude00")  # what an error at the end of what is read may be the start of
OPENINGS = {"{": "an object", '"': "a text", "": "nothing"}


def elements(path: str | Path) -> Iterator[Any]:
    """Yield the elements of a JSON file that holds a list; a byte-order mark is no part of it.

    Raises:
        UserError: the file stops being a list of JSON values without doubled keys, NaN or infinities, or an element
            is larger or more deeply nested than `limits` say. Names line and column (from 1, in characters).
    """
    check_regular(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            yield from _Reader(path, file).elements()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        read_text(path)  # says where
        raise


class _Refused(ValueError):
    """What the decoder takes and we do not."""


class _Reader:
    """A window over a file's text that knows the place of each character in it."""

    def __init__(self, path: str | Path, file: TextIO):
        self.path = path
        self.file = file
        self.decoder = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_refuse_constant)
        self.text = ""  # what is read and not dropped
        self.place = 0  # in `text`, of the next character
        self.lines = 0  # line ends that are dropped
        self.before = 0  # characters that are dropped of the first line in `text`
        self.ended = False
        self.number = 0  # of the element

    def elements(self) -> Iterator[Any]:
        if self._next() != "[":
            self._refuse_no_list()
        self.place += 1
        if self._next() == "]":
            self.place += 1
        else:
            while True:
                yield self._element()
                self.number += 1
                after = self._next()
                if after not in (",", "]"):
                    self._refuse(self.place, f"expected , or ] after sample number {self.number - 1}")
                self.place += 1
                if after == "]":
                    break
                if self._next() == "]":
                    self._refuse(self.place, "expected a sample after the comma, found ]")
        if self._next():
            self._refuse(self.place, "expected nothing after the list")

    def _next(self) -> str:
        """Return the next character that is no blank; empty at the end of the file."""
        while (found := NO_BLANK.search(self.text, self.place)) is None and not self.ended:
            self.place = len(self.text)
            self._read(0)
        self.place = found.start() if found else len(self.text)
        return found[0] if found else ""

    def _read(self, least: int) -> None:
        """Read on, at least so many characters, and drop what is before `place`."""
        dropped = self.text[: self.place]
        if ends := dropped.count("\n"):
            self.lines, self.before = self.lines + ends, 0
        self.before += len(dropped) - dropped.rfind("\n") - 1
        new = self.file.read(max(least, CHARACTERS_PER_READ))
        self.text, self.place, self.ended = self.text[self.place :] + new, 0, not new

    def _element(self) -> Any:
        """Return the value that starts at `place`; try an incomplete one again with twice as much text."""
        largest = limits().sample_bytes
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.place)
                longer = LONGEST_PART if isinstance(value, int | float) else 0  # 3 may be read of 3.5e2
                if self.ended or end + longer < len(self.text):
                    break
            except json.JSONDecodeError as error:
                unterminated = error.msg.startswith("Unterminated")
                if self.ended and (unterminated or error.pos == len(self.text)):
                    self._refuse(len(self.text), f"the file ends within sample number {self.number}")
                if self.ended or not (unterminated or error.pos > len(self.text) - LONGEST_PART):
                    self._refuse(error.pos, f"sample number {self.number} is not valid JSON: {error.msg}")
            except RecursionError:
                self._refuse_nesting()
            except ValueError as error:  # ours, or a number of too many digits
                self._refuse(self.place, f"sample number {self.number}: {error}")
            if (pending := len(self.text) - self.place) > largest:
                self._refuse_size(f"more than {pending}")
            self._read(pending)
        self._check_size(value, end)
        self.place = end
        return value

    def _check_size(self, value: Any, end: int) -> None:
        allowed = limits()
        if 4 * (end - self.place) > allowed.sample_bytes:
            size = len(self.text[self.place : end].encode())
            if size > allowed.sample_bytes:
                self._refuse_size(str(size))
        # Cheaper than a look at every value, and enough for nearly all.
        openings = self.text.count("[", self.place, end) + self.text.count("{", self.place, end)
        if openings > allowed.nesting and _depth(value) > allowed.nesting:
            self._refuse_nesting()

    def _refuse_size(self, found: str) -> NoReturn:
        largest = f"expected at most {limits().sample_bytes} bytes (limits.sample_bytes), found {found}"
        self._refuse(self.place, f"sample number {self.number}: {largest}")

    def _refuse_nesting(self) -> NoReturn:
        deepest = f"expected at most {limits().nesting} levels of lists and objects (limits.nesting)"
        self._refuse(self.place, f"sample number {self.number}: {deepest}")

    def _refuse_no_list(self) -> NoReturn:
        found = OPENINGS.get(self._next(), "another value")
        if found == "an object":
            with suppress(UserError):  # whatever it is, it is no list
                self._element()
                found = "JSON Lines, one object after another" if self._next() == "{" else "one object"
        raise UserError(f"{self.path}: expected a JSON list of samples, found {found}")

    def _refuse(self, place: int, why: str) -> NoReturn:
        before = self.text[:place]
        line = self.lines + before.count("\n") + 1
        column = place - before.rfind("\n") + (0 if "\n" in before else self.before)
        raise UserError(f"{self.path}: line {line}, column {column}: {why}")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"expected each key once, found {next(name for name in names if names.count(name) > 1)!a} twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is no JSON value")


def _depth(value: Any) -> int:
    """How many lists and objects are within one another."""
    depth, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, list | dict)]:
        depth += 1
        layer = [inner for each in layer for inner in (each.values() if isinstance(each, dict) else each)]
    return depth
