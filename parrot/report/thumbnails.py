"""A benchmark's pictures, small and once each, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from parrot.config.catalog import Benchmark
from parrot.data.benchmarks import read_language
from parrot.data.tsv import decode_picture, picture_id
from parrot.errors import ConfigError

PIXELS_A_SIDE = 192
QUALITY = 85


def thumbnails(benchmark: Benchmark, wanted: Iterable[str]) -> dict[str, str]:
    """Data URIs (WebP, at most 192 pixels a side) of the pictures whose ids are `wanted`.

    Languages share their pictures, so that mostly one file is read. ConfigError for a picture that cannot be decoded
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
            if (name := picture_id(image)) in missing:
                missing.remove(name)
                found[name] = _small(decode_picture(image, f"{path}: row {index}"))
    if missing:
        raise ConfigError(
            f"{benchmark.folder}: picture {min(missing)}: expected in a file of {benchmark.name}, whose predictions "
            "name it; the files are not those that were asked"
        )
    return found


def _small(picture: Image.Image) -> str:
    picture.thumbnail((PIXELS_A_SIDE, PIXELS_A_SIDE))
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
