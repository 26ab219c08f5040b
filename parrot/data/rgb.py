"""Pixels of an image as 8-bit RGB, as its file means them, or as the released code takes them.

Only Pillow and NumPy are needed, so that the model's image processor can share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image
from PIL.Image import Transpose

Orientation = Literal["exif", "released"]
HighBitGrey = Literal["scaled", "released"]
Alpha = Literal["white", "released"]
# EXIF 2.3, 4.6.4.A: where the stored first row and column belong; 1 is upright.
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
OPAQUE = 255


def to_rgb(
    image: Image.Image,
    orientation: Orientation = "exif",
    high_bit_grey: HighBitGrey = "scaled",
    alpha: Alpha = "white",
) -> Image.Image:
    """`image` as RGB; a photograph of 8 bits a channel, upright and opaque, is the same by every way.

    Args:
        orientation: exif: turned upright as EXIF says; released: as it is stored.
        high_bit_grey: scaled: greys of 16 or 32 bits and floats are scaled to 8 bits; released: clipped to 0..255.
        alpha: white: laid on white; released: the alpha channel is dropped, which shows whatever colour lies under it.
    """
    if orientation == "exif" and (turn := TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if high_bit_grey == "scaled" and is_high_bit_grey(image):
        image = _eight_bits(image)
    if alpha == "white" and image.has_transparency_data:
        drawing = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing)
    return image.convert("RGB")


def check(image: Image.Image) -> None:
    """ValueError where `image`, which is loaded, has pixels that are no numbers."""
    if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
        raise ValueError("expected finite values, found NaN or infinity")


def is_turned(image: Image.Image) -> bool:
    """Tell whether EXIF says that `image`, which is loaded, is not stored upright."""
    return _orientation(image) in TURNS


def is_high_bit_grey(image: Image.Image) -> bool:
    """Tell whether `image` is grey with more than 8 bits a pixel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def is_transparent(image: Image.Image) -> bool:
    """Tell whether any pixel of `image` is less than opaque."""
    if not image.has_transparency_data:
        return False
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return lowest < OPAQUE  # type: ignore[operator]  # a number, as of every channel alone


# What a file may say of its pixels that the released code does not look at, by the name of the switch.
TRAITS: dict[str, Callable[[Image.Image], bool]] = {
    "image_orientation": is_turned,
    "image_high_bit_grey": is_high_bit_grey,
    "image_alpha": is_transparent,
}


def _orientation(image: Image.Image) -> Any:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    # Cameras write broken EXIF, which says nothing, and Pillow names no end of what it raises on it.
    except Exception:
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = _range(image.mode, float(values.min()), float(values.max()))
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def _range(mode: str, least: float, most: float) -> tuple[float, float]:
    """Return the values of black and white: a 16-bit file says so; 32 bits and floats hold whatever was put in."""
    if mode.startswith("I;16"):
        return 0, 65535
    usual = (255, 65535) if mode == "I" else (1, 255, 65535)
    return next(((0.0, float(white)) for white in usual if least >= 0 and most <= white), (least, most))
