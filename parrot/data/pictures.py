"""Reading picture files; what cannot be read is one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from parrot.config import ConfigError

# What data sets and benchmarks hold. Decoders of rarer formats run other programs, or fail in ways of their own.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")


def open_picture(source: str | Path | BytesIO, where: str) -> Image.Image:
    """A picture file as RGB; ConfigError starting with `where` when it is missing, corrupt or too large to be safe."""
    with _refused(where), Image.open(source, formats=FORMATS) as picture:
        return picture.convert("RGB")


def fault(path: str | Path, where: str) -> str | None:
    """What is wrong with a picture file, as `open_picture` words it; none when every pixel can be read."""
    try:
        with _refused(where), Image.open(path, formats=FORMATS) as picture:
            picture.draft("RGB", (1, 1))  # a JPEG is then read whole but decoded at an eighth of its size
            picture.load()
    except ConfigError as error:
        return str(error)
    return None


@contextmanager
def _refused(where: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(f"{where} is missing") from None
    except MemoryError:
        raise  # says nothing about the picture
    # Decoders parse what anybody may have written, and Pillow names no end of what they raise on it: OSError and
    # ValueError, but also struct.error, zlib.error, KeyError and others.
    except Exception as error:
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise ConfigError(f"{where} cannot be decoded: {why}") from None
