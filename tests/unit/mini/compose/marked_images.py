"""Resources whose sprites say who drew what, and reading that back from composed images.

The lower half of every sprite has one near-white colour that encodes emoji set and concept; the upper half has the
concept's main colour. So the truth about an image is read from its pixels, not from the code that composed it.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHIPPED = Path(__file__).parents[4] / "workflow" / "resources" / "mini"
EMOJI_SETS = ("noto", "noto-v1", "fluent", "fluent-flat", "fxemoji", "emojione", "twemoji", "openmoji")
MAIN = {
    "red": (220, 20, 20),
    "orange": (235, 120, 10),
    "yellow": (240, 225, 30),
    "green": (30, 150, 50),
    "blue": (30, 90, 220),
    "purple": (130, 30, 200),
    "pink": (250, 90, 180),
    "brown": (110, 60, 20),
    "gray": (130, 130, 130),
    "black": (10, 10, 10),
}
COLOURS = tuple(MAIN)
NEAR_WHITE = 235


@dataclass(frozen=True)
class Shown:
    """One concept in an image: whose drawing, and where the middle of its marks lies."""

    emoji_set: str
    concept: str
    x: float
    y: float


@cache
def concept_ids() -> list[str]:
    return [concept["id"] for concept in json.loads((SHIPPED / "concepts.json").read_text(encoding="utf-8"))]


def main_colour(concept: str) -> str:
    return COLOURS[concept_ids().index(concept) % len(COLOURS)]


def _mark(emoji_set: int, concept: int) -> tuple[int, int, int]:
    return 254 - emoji_set, 255 - concept // 16, 255 - concept % 16


def make_resources(folder: Path) -> Path:
    """The shipped names and phrases with marked sprites."""
    (folder / "images").mkdir(parents=True)
    for name in ("concepts.json", "categories.json", "phrases.json"):
        shutil.copy(SHIPPED / name, folder / name)
    for emoji_set, name in enumerate(EMOJI_SETS):
        with zipfile.ZipFile(folder / "images" / f"{name}.zip", "w") as archive:
            for number, concept in enumerate(concept_ids()):
                sprite = Image.new("RGBA", (64, 64), (*MAIN[COLOURS[number % len(COLOURS)]], 255))
                ImageDraw.Draw(sprite).rectangle((0, 32, 63, 63), fill=(*_mark(emoji_set, number), 255))
                buffer = io.BytesIO()
                sprite.save(buffer, "PNG")
                archive.writestr(f"{concept}.png", buffer.getvalue())
    return folder


def read_marks(image: Image.Image) -> list[Shown]:
    """What an image of marked sprites shows, cell by cell of a 2 x 2 grid (a large sprite counts once)."""
    pixels = np.asarray(image, dtype=np.int32)
    code = pixels @ (1 << 16, 1 << 8, 1)
    code[(pixels.min(axis=2) < NEAR_WHITE) | (pixels[:, :, 0] == 255)] = 0
    half, ids, found = image.width // 2, concept_ids(), []
    for top, left in ((0, 0), (0, half), (half, 0), (half, half)):
        cell = code[top : top + half, left : left + half]
        for value in set(cell[cell > 0].tolist()):
            rows, columns = np.nonzero(cell == value)
            red, green, blue = value >> 16, value >> 8 & 255, value & 255
            concept = ids[(255 - green) * 16 + 255 - blue]
            found.append(Shown(EMOJI_SETS[254 - red], concept, left + columns.mean(), top + rows.mean()))
    return found
