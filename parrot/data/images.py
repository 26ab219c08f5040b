"""Reading image files; what cannot be read is one clear line."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from parrot.config.limits import limits
from parrot.data.rgb import TRAITS, check, to_rgb
from parrot.errors import UserError
from parrot.io.archives import open_archive
from parrot.io.files import split_path

# What data sets and benchmarks hold. Decoders of rarer formats run other programs, or fail in ways of their own.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
# Without a file's name: damaged metadata, which no pixel depends on, and large images, which `limits` holds.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Inspection(NamedTuple):
    """What is wrong with an image file (None: every pixel can be read), and which `TRAITS` it has."""

    fault: str | None
    traits: tuple[str, ...] = ()


def open_rgb(source: str | Path | BytesIO, where: str) -> Image.Image:
    """Return an image file, which may lie in an archive, as 8-bit RGB, as the file means its pixels (`to_rgb`).

    Raises:
        UserError: it is missing, corrupt or larger than `limits.image_megapixels`. The line begins with `where`.
    """
    return to_rgb(open_image(source, where))


def open_image(source: str | Path | BytesIO, where: str) -> Image.Image:
    """Return an image file in its own mode, decoded, for a processor that converts it.

    Raises:
        UserError: as `open_rgb`.
    """
    with _opened(source, where) as image:
        image.load()
        check(image)
        return image


def inspect_image(source: str | Path | BytesIO, where: str) -> Inspection:
    """Tell whether `open_rgb` reads an image file, and what the file says that decides how."""
    try:
        with _opened(source, where) as image:
            image.draft("RGB", (1, 1))  # a JPEG is then read whole but decoded at an eighth of its size
            image.load()
            check(image)
            return Inspection(None, tuple(name for name, has in TRAITS.items() if has(image)))
    except UserError as error:
        return Inspection(str(error))


def fault(path: str | Path, where: str) -> str | None:
    """Say what is wrong with an image file, as `open_rgb` words it; none when every pixel can be read."""
    return inspect_image(path, where).fault


@contextmanager
def _opened(source: str | Path | BytesIO, where: str) -> Iterator[Image.Image]:
    with _refused(where):
        if not isinstance(source, BytesIO) and (through := split_path(str(source))):
            try:
                source = BytesIO(open_archive(through[0]).read(through[1]))
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        # A named pipe would be waited for.
        if not isinstance(source, BytesIO) and not stat.S_ISREG(os.stat(source).st_mode):
            raise UserError(f"{where}: expected a file, found a folder, pipe or device")
        with Image.open(source, formats=FORMATS) as image:
            pixels, most = image.width * image.height / 1e6, limits().image_megapixels
            if pixels > most:
                raise UserError(
                    f"{where}: expected at most {most:g} megapixels (limits.image_megapixels), found {pixels:.4g} "
                    f"({image.width} x {image.height})"
                )
            yield image


@contextmanager
def _refused(where: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{where} is missing") from None
    except MemoryError:
        raise  # says nothing about the image
    # Decoders parse what anybody may have written, and Pillow names no end of what they raise on it: OSError and
    # ValueError, but also struct.error, zlib.error, KeyError and others.
    except Exception as error:
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
        raise UserError(f"{where} cannot be decoded: {why}") from None
