"""What a sample of a conversation set must be: one judgement, for the check of the data and for training alike."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from parrot.config.catalog import ConversationSet, Fault
from parrot.config.limits import limits
from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.io.archives import find
from parrot.io.files import check_regular, split_path

SPEAKERS = ("system", "human", "gpt")
NAMED = 3  # samples of one fault that an error names
LONGEST_PATH = 4096  # characters, Linux's

Kind = Fault | Literal["malformed", "image"]
"""What may be accepted, and what never is: a sample that is none, an image that is not there."""


class Found(NamedTuple):
    """A fault, and what is wrong in words that follow the sample's name."""

    kind: Kind
    why: str


class Reading:
    """What reading a set finds: its ids, and the samples that cannot be used beside those that its entry accepts."""

    def __init__(self, entry: ConversationSet):
        self.entry = entry
        self.samples = 0
        self.ids = Counter[str]()  # of all samples that have one
        self.lines: dict[Kind, list[str]] = {}  # of faulty samples
        self.names: dict[Kind, list[str]] = {}  # of the first ones

    def add(self, sample: str, found: Found) -> None:
        """Record a sample's fault."""
        self.lines.setdefault(found.kind, []).append(f"{sample}: {found.why}")
        names = self.names.setdefault(found.kind, [])
        if len(names) < NAMED:
            names.append(sample.removeprefix("sample "))

    def accepted(self) -> dict[Fault, list[str]]:
        """Return the samples that are left out, one line each, by their fault."""
        return {kind: self.lines[kind] for kind in self.entry.accept if kind in self.lines}

    def problems(self, kept: int) -> list[str]:
        """List each fault that is not accepted, or not found as often as it is, and each lost image.

        Where `kept`, the number of samples that can be used, is 0 and there is no other line, one says so.
        """
        lines = list(self.lines.get("image", ()))
        for kind, found in self.lines.items():
            if kind != "image" and kind not in self.entry.accept:
                lines.append(found[0] + self._others(kind, len(found)))
        for kind, accepted in self.entry.accept.items():
            found = self.lines.get(kind, [])
            if len(found) != accepted.count:
                first = f"; the first: {found[0]}" if found else ""
                lines.append(f"accept.{kind}: expected {accepted.count} such samples, found {len(found)}{first}")
        if not kept and not lines:
            left_out = f" but {self.samples} that are left out" if self.samples else ""
            lines.append(f"expected at least one sample, found none{left_out}")
        return [f"{self.entry.file}: {line}" for line in lines]

    def _others(self, kind: Kind, count: int) -> str:
        """Who else has the fault, and how the set's entry may leave all of them out."""
        names = ", ".join(self.names[kind][1:]) + (", ..." if count > NAMED else "")
        more = f"; {count - 1} more: {names}" if count > 1 else ""
        return more if kind == "malformed" else f"{more}; accept.{kind} of count {count} leaves out such samples"


def identifier(sample: Any) -> str | None:
    """Return a sample's id as text; None where it has none by which it could be named."""
    known = isinstance(sample, dict) and "id" in sample and next(_of_id(sample["id"]), None) is None
    return str(sample["id"]) if known else None


def fault(sample: Any) -> Found | None:
    """Say what is wrong with a sample by itself, first things first; None for a sound one."""
    return next(_faults(sample), None)


def image_fault(entry: ConversationSet, image: str) -> Found | None:
    """Say why a sample's `image` is no file within its folder or archive; its pixels are not looked at."""
    try:
        folder, name = entry.place_of(image)
    except ValueError:
        known = " or ".join(entry.image_places)
        return Found("image", f"image: expected a path that begins with {known} (images), found {image}")
    path = Path(folder, name)
    if split_path(str(path)):
        member = find(str(path))
        if member is not None and member.size:
            return None
        return Found("image", f"image: {path} is {'missing' if member is None else 'empty'}")
    try:
        check_regular(path)
    except UserError as error:
        missing = not os.path.lexists(path)
        return Found("image", f"image: {path} is missing" if missing else f"image: {error}")
    parent, name = os.path.split(path)
    real = Path(os.path.realpath(path) if os.path.islink(path) else os.path.join(_real(parent), name))
    if not real.is_relative_to(_real(folder)):
        return Found("image", f"image: expected a file within {folder}, found a link out of it, {path}")
    return None


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _faults(sample: Any) -> Iterator[Found]:
    if not isinstance(sample, dict):
        yield Found("malformed", f"expected an object with id and conversations, found {type(sample).__name__}")
        return
    if "id" not in sample:
        yield Found("malformed", "id is missing")
    else:
        yield from _of_id(sample["id"])
    if "image" in sample:
        yield from _of_image(sample["image"])
    turns = sample.get("conversations")
    if not isinstance(turns, list) or not turns:
        yield Found("malformed", f"conversations: expected a list of turns, found {_found(turns)}")
        return
    for number, turn in enumerate(turns, 1):
        yield from (Found(kind, f"turn {number}: {why}") for kind, why in _of_turn(turn))
    yield from _of_order([turn["from"] for turn in turns])
    yield from _of_marks(turns, "image" in sample)


def _of_id(value: Any) -> Iterator[Found]:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        yield Found("malformed", f"id: expected text or a whole number, found {_found(value)}")
        return
    most, found = limits().id_characters, len(str(value))
    if found > most:
        yield Found("over_limit", f"id: expected at most {most} characters (limits.id_characters), found {found}")
    yield from _of_text(str(value), "id")


def _of_image(value: Any) -> Iterator[Found]:
    if not isinstance(value, str) or not value or "\0" in value or len(value) > LONGEST_PATH:
        yield Found("malformed", f"image: expected a file name, found {_found(value)}")
        return
    yield from _of_text(value, "image")
    if os.path.isabs(value) or ".." in Path(value).parts:
        yield Found("malformed", f"image: expected a path within the set's image folder, found {value}")


def _of_turn(turn: Any) -> Iterator[Found]:
    if not isinstance(turn, dict):
        yield Found("malformed", f"expected an object with from and value, found {_found(turn)}")
        return
    if turn.get("from") not in SPEAKERS:
        yield Found("malformed", f"from: expected system, human or gpt, found {_found(turn.get('from'))}")
    if not isinstance(value := turn.get("value"), str):
        yield Found("malformed", f"value: expected text, found {_found(value)}")
        return
    yield from _of_text(value, "value")
    if turn["from"] != "system" and not value.strip():
        yield Found("blank_turn", "value: expected text, found none but blanks")


def _of_text(text: str, field: str) -> Iterator[Found]:
    try:
        limits().check_text(text, field)
    except UserError as error:
        yield Found("over_limit", str(error))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        yield Found("lone_surrogate", f"{field}: {half} is half of a character (character {error.start + 1})")


def _of_order(speakers: list[str]) -> Iterator[Found]:
    if "system" in speakers[1:]:
        yield Found("turn_order", f"turn {speakers.index('system', 1) + 1}: expected a system turn first or not at all")
    if "gpt" in speakers and "human" not in speakers[: speakers.index("gpt")]:
        yield Found("turn_order", f"turn {speakers.index('gpt') + 1}: expected a human turn before the first answer")


def _of_marks(turns: list[dict[str, str]], has_image: bool) -> Iterator[Found]:
    marked = [
        (number, turn["from"]) for number, turn in enumerate(turns, 1) for _ in range(turn["value"].count(IMAGE_TOKEN))
    ]
    outside = [(number, speaker) for number, speaker in marked if speaker != "human"]
    if outside:
        number, speaker = outside[0]
        yield Found(
            "image_mark_misplaced", f"turn {number}: expected {IMAGE_TOKEN} in human turns alone, found by {speaker}"
        )
    elif marked and not has_image:
        yield Found(
            "image_mark_misplaced", f"turn {marked[0][0]}: expected no {IMAGE_TOKEN}, as the sample has no image"
        )
    elif len(marked) > 1:
        yield Found(
            "image_mark_misplaced", f"turn {marked[1][0]}: expected 1 {IMAGE_TOKEN} in a sample, found {len(marked)}"
        )
    elif has_image and not marked:
        yield Found("image_mark_missing", f"conversations: expected 1 {IMAGE_TOKEN} for the sample's image, found none")


def _found(value: Any) -> str:
    if isinstance(value, str):
        return ascii(value[:40])
    return "nothing" if value is None else "an empty list" if value == [] else type(value).__name__
