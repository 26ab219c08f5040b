"""A benchmark's images, small and once each, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from parrot.config.catalog import Benchmark
from parrot.data.benchmarks import read_language
from parrot.data.tsv import decode_rgb, image_id
from parrot.errors import UserError

PIXELS_PER_SIDE = 192
QUALITY = 85


def thumbnails(benchmark: Benchmark, wanted: Iterable[str]) -> dict[str, str]:
    """Return data URIs (WebP, at most 192 pixels a side) of the images whose ids are `wanted`.

    Languages share their images, so that mostly one file is read. UserError for an image that cannot be decoded
    or is in none of the benchmark's files.
    """
    missing = set(wanted)
    found = {}
    for language, file in benchmark.files.items():
        if not missing:
            break
        path = Path(benchmark.folder, file)
        table, _ = read_language(benchmark, language)
        for index, image in zip(table["index"], table["image"], strict=True):
            if (name := image_id(image)) in missing:
                missing.remove(name)
                found[name] = _small(decode_rgb(image, f"{path}: row {index}"))
    if missing:
        raise UserError(
            f"{benchmark.folder}: image {min(missing)}: expected in a file of {benchmark.name}, whose predictions "
            "name it; the files are not those that were asked"
        )
    return found


def _small(image: Image.Image) -> str:
    image.thumbnail((PIXELS_PER_SIDE, PIXELS_PER_SIDE))
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
