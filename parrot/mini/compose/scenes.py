"""Scenes of one or more concepts, and their images as one emoji set draws them."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from parrot.errors import UserError
from parrot.mini.compose.colours import absent_colours, main_colour

SIDE = 40
WHITE = (255, 255, 255)

Layout = Literal["single", "count", "horizontal", "vertical"]
# The cells of a layout: (left, top, width, height).
_HALF = SIDE // 2
_CELLS: dict[Layout, tuple[tuple[int, int, int, int], ...]] = {
    "single": ((0, 0, SIDE, SIDE),),
    "count": tuple((x, y, _HALF, _HALF) for y in (0, _HALF) for x in (0, _HALF)),
    "horizontal": ((0, 0, _HALF, SIDE), (_HALF, 0, _HALF, SIDE)),
    "vertical": ((0, 0, SIDE, _HALF), (0, _HALF, SIDE, _HALF)),
}
# How much smaller than its cell's shorter side a sprite may be.
_SLACK: dict[Layout, int] = {"single": 12, "count": 4, "horizontal": 3, "vertical": 3}


@dataclass(frozen=True)
class Scene:
    """What an image shows: ids of concepts, from left to right or from top to bottom; copies of one in ``count``."""

    layout: Layout
    concepts: tuple[str, ...]


class EmojiSet:
    """The sprites of one emoji set, read once from `resources`/images/{name}.zip.

    UserError when the archive is missing or not one.
    """

    def __init__(self, resources: Path, name: str):
        self.name = name
        path = resources / "images" / f"{name}.zip"
        try:
            with zipfile.ZipFile(path) as archive:
                self._files = {Path(file).stem: archive.read(file) for file in archive.namelist()}
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: expected an archive of images: {error}") from None
        self.sprite = cache(self._sprite)
        self._resized = cache(self._resize)
        self.colour = cache(lambda concept: main_colour(self._resized(concept, SIDE)))
        self.absent_colours = cache(lambda concept: absent_colours(self._resized(concept, SIDE)))

    def __contains__(self, concept: str) -> bool:
        return concept in self._files

    def _sprite(self, concept: str) -> Image.Image:
        return Image.open(io.BytesIO(self._files[concept])).convert("RGBA")

    def _resize(self, concept: str, size: int) -> Image.Image:
        return self.sprite(concept).resize((size, size), Image.Resampling.BOX)

    def draw(self, scene: Scene, rng: random.Random) -> Image.Image:
        """Draw a 40 x 40 RGB image of `scene` on white; sizes, places and free cells come from `rng`."""
        canvas = Image.new("RGB", (SIDE, SIDE), WHITE)
        cells = _CELLS[scene.layout]
        if scene.layout == "count":
            cells = tuple(rng.sample(cells, len(scene.concepts)))
        for concept, (left, top, width, height) in zip(scene.concepts, cells, strict=True):
            size = min(width, height) - rng.randint(0, _SLACK[scene.layout])
            place = (left + rng.randint(0, width - size), top + rng.randint(0, height - size))
            sprite = self._resized(concept, size)
            canvas.paste(sprite, place, sprite)
        return canvas


class EmojiSets:
    """The emoji sets, each read when it is first asked for."""

    def __init__(self, resources: Path):
        self._emoji_set = cache(lambda name: EmojiSet(resources, name))

    def __getitem__(self, name: str) -> EmojiSet:
        return self._emoji_set(name)


_LONGEST_BLOCK = 65535


def encode(image: Image.Image) -> bytes:
    """Encode an RGB image as PNG in stored (uncompressed) deflate blocks.

    Compressors differ between zlib builds; without compression the same pixels give the same bytes on every machine.
    """
    assert image.mode == "RGB"
    header = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 0)
    pixels, stride = image.tobytes(), 3 * image.width
    lines = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, len(pixels), stride))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _stored(data: bytes) -> bytes:
    blocks = [data[start : start + _LONGEST_BLOCK] for start in range(0, len(data), _LONGEST_BLOCK)]
    stream = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks
    )
    return b"\x78\x01" + stream + struct.pack(">I", zlib.adler32(data))
