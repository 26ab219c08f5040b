"""Reading composed data the way a user would: JSON, TSV and image files."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

LANGUAGES = ("en", "zh", "pt", "ar", "tr", "ru")
SUFFIX = {"en": "en", "zh": "cn", "pt": "pt", "ar": "ar", "tr": "tr", "ru": "ru"}
BENCHMARKS = ("MMMB", "MMBench_dev", "MMMB_val")


@dataclass(frozen=True)
class Asked:
    """A question as it stands in a file: its line, the options' texts and the right one's."""

    question: str
    options: tuple[str, ...]
    answer: str
    image: Path | None


def conversations(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))


def questions(path: Path) -> Iterator[Asked]:
    """The questions of a conversation file beside its images."""
    for sample in conversations(path):
        human, gpt = sample["conversations"]
        lines = human["value"].split("\n")
        options = tuple(line[3:] for line in lines if line[:1] in "ABCD" and line[1:3] == ". ")
        image = path.parent / "images" / sample["image"] if "image" in sample else None
        yield Asked(lines[1], options, gpt["value"], image)


def table(data: Path, benchmark: str, language: str) -> pd.DataFrame:
    path = data / "benchmarks" / f"{benchmark}_{SUFFIX[language]}.tsv"
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).set_index("index", drop=False)


def options_of(row: pd.Series) -> list[str]:
    return [row[letter] for letter in "ABCD" if row[letter]]


def right_text(row: pd.Series) -> str:
    return row[row["answer"]]


def image_of(row: pd.Series, rows: pd.DataFrame) -> Image.Image:
    image = row["image"] if len(row["image"]) > 64 else rows.loc[row["image"], "image"]
    return Image.open(io.BytesIO(base64.b64decode(image)))
