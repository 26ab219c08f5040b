"""What is shipped: concepts and categories as JSON, one archive of PNG pictures a house, counts and checksums.

Same concepts and pictures, same bytes: members of an archive are stored, sorted by name, with a fixed time.
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
from parrot.mini.sources.houses import HOUSES

EPOCH = (1980, 1, 1, 0, 0, 0)
PICTURES = "pictures"
CHECKSUMS = "checksums.sha256"


@dataclass(frozen=True)
class Entry:
    """A concept that is shipped, its category, and its pictures by house (64 x 64, RGBA)."""

    concept: Concept
    category: str
    pictures: Mapping[str, Image.Image]

    def record(self) -> dict[str, Any]:
        """The entry of `concepts.json`."""
        concept = self.concept
        return {
            "id": concept.slug,
            "codepoint": concept.codepoint,
            "group": concept.group,
            "subgroup": concept.subgroup,
            "category": self.category,
            "names": concept.names,
            "houses": sorted(self.pictures),
        }


def ship(entries: Sequence[Entry], categories: Mapping[str, Any], filters: Mapping[str, Any], output: Path) -> None:
    """Write everything that is made, then the checksums of just that, under `output`."""
    made = ["concepts.json", "categories.json", "filters.json"]
    write_json(output / "concepts.json", [entry.record() for entry in entries])
    write_json(output / "categories.json", categories)
    write_json(output / "filters.json", filters)
    for house in HOUSES:
        pictures = {f"{e.concept.slug}.png": e.pictures[house.name] for e in entries if house.name in e.pictures}
        made.append(f"{PICTURES}/{house.name}.zip")
        atomic_write(output / made[-1], archive(pictures))
    lines = [f"{file_sha256(output / name)}  {name}\n" for name in sorted(made)]
    atomic_write(output / CHECKSUMS, "".join(lines))


def archive(pictures: Mapping[str, Image.Image]) -> bytes:
    """A zip of PNG files, whose bytes depend on the pictures only."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(pictures):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3
            member.external_attr = 0o644 << 16
            file.writestr(member, _png(pictures[name]))
    return buffer.getvalue()


def _png(picture: Image.Image) -> bytes:
    # Colours under full transparency are invisible but cost bytes.
    clean = Image.new("RGBA", picture.size)
    clean.paste(picture, mask=picture.getchannel("A").point(lambda alpha: 255 if alpha else 0))
    buffer = io.BytesIO()
    clean.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
