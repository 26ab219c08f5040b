"""Answers kept as they are given, a line a batch, so that prediction that was killed goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from parrot.evaluate.generate import Answer
from parrot.io.digests import append_line, read_lines
from parrot.io.files import make_folder


class Journal:
    """The answers under one folder, written by one process each into `{name}.jsonl`, read by all.

    A line is one batch: the questions' places and their answers. Whoever is killed loses at most the batch at hand.
    """

    def __init__(self, folder: Path, name: str = "0"):
        make_folder(folder)
        self.folder = folder
        self.path = folder / f"{name}.jsonl"
        self.answers = self._read()

    def add(self, places: Sequence[int], answers: Sequence[Answer]) -> None:
        """Append a batch's answers, on disk when this returns."""
        self.answers |= dict(zip(places, answers, strict=True))
        append_line(self.path, {"places": list(places), "answers": [asdict(answer) for answer in answers]})

    def _read(self) -> dict[int, Answer]:
        found: dict[int, Answer] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for batch in read_lines(path, mine=path == self.path):
                found |= {
                    place: Answer(**answer) for place, answer in zip(batch["places"], batch["answers"], strict=True)
                }
        return found
