"""What is shipped: concepts and categories as JSON, one archive of PNG images an emoji set, counts and checksums.

Same concepts and images, same bytes: members of an archive are stored, sorted by name, with a fixed time.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from parrot.io.digests import file_sha256
from parrot.io.files import atomic_write, write_json
from parrot.mini.sources.concepts import Concept
from parrot.mini.sources.emoji_sets import EMOJI_SETS

EPOCH = (1980, 1, 1, 0, 0, 0)
IMAGES = "images"
CHECKSUMS = "checksums.sha256"


@dataclass(frozen=True)
class Entry:
    """A concept that is shipped, its category, and its images by emoji set (64 x 64, RGBA)."""

    concept: Concept
    category: str
    images: Mapping[str, Image.Image]

    def record(self) -> dict[str, Any]:
        """Return the entry of `concepts.json`."""
        concept = self.concept
        return {
            "id": concept.slug,
            "codepoint": concept.codepoint,
            "group": concept.group,
            "subgroup": concept.subgroup,
            "category": self.category,
            "names": concept.names,
            "houses": sorted(self.images),
        }


def ship(entries: Sequence[Entry], categories: Mapping[str, Any], filters: Mapping[str, Any], output: Path) -> None:
    """Write everything that is made, then the checksums of just that, under `output`."""
    made = ["concepts.json", "categories.json", "filters.json"]
    write_json(output / "concepts.json", [entry.record() for entry in entries])
    write_json(output / "categories.json", categories)
    write_json(output / "filters.json", filters)
    for emoji_set in EMOJI_SETS:
        images = {f"{e.concept.slug}.png": e.images[emoji_set.name] for e in entries if emoji_set.name in e.images}
        made.append(f"{IMAGES}/{emoji_set.name}.zip")
        atomic_write(output / made[-1], archive(images))
    lines = [f"{file_sha256(output / name)}  {name}\n" for name in sorted(made)]
    atomic_write(output / CHECKSUMS, "".join(lines))


def archive(images: Mapping[str, Image.Image]) -> bytes:
    """Return a zip of PNG files, whose bytes depend on the images only."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(images):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3
            member.external_attr = 0o644 << 16
            file.writestr(member, _png(images[name]))
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    # Colours under full transparency are invisible but cost bytes.
    clean = Image.new("RGBA", image.size)
    clean.paste(image, mask=image.getchannel("A").point(lambda alpha: 255 if alpha else 0))
    buffer = io.BytesIO()
    clean.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
