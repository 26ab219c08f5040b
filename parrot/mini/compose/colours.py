"""The main colour of a sprite, decided from its pixels, and the colours that nobody could take for it."""

from __future__ import annotations

import colorsys
from collections import Counter
from functools import cache
from itertools import product
from typing import cast

from PIL import Image

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black")

# More of the opaque pixels than this have the main colour; less than that could be called any colour that is offered
# beside it.
MAIN = 0.45
ABSENT = 0.05

# Upper ends of the hue ranges, in degrees.
_HUES = ((14, "red"), (40, "orange"), (66, "yellow"), (165, "green"), (255, "blue"), (292, "purple"), (340, "pink"))
# How far two viewers' names for a colour may be apart: hue in turns, saturation, value as a factor.
_HUE_DOUBT = (-0.025, 0.0, 0.025)
_SATURATION_DOUBT = (-0.06, 0.0, 0.06)
_VALUE_DOUBT = (0.87, 1.0, 1.15)


@cache
def colour_of(red: int, green: int, blue: int) -> str:
    """Name an RGB colour; ``white`` too, which no question is about."""
    return _name(*colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255))


@cache
def possible_colours(red: int, green: int, blue: int) -> frozenset[str]:
    """Every name that an RGB colour could be given."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    return frozenset(
        _name((hue + turn) % 1.0, saturation + more, value * factor)
        for turn, more, factor in product(_HUE_DOUBT, _SATURATION_DOUBT, _VALUE_DOUBT)
    )


def _name(hue: float, saturation: float, value: float) -> str:
    if value < 0.28:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.85 else "gray"
    degrees = hue * 360
    name = next((name for end, name in _HUES if degrees < end), "red")
    if name in ("red", "orange", "yellow") and degrees >= 5 and value < 0.72:
        return "brown"
    if name == "red" and saturation < 0.55 and value > 0.8:
        return "pink"
    return name


def main_colour(sprite: Image.Image) -> str | None:
    """Return the colour of more than 45 % of an RGBA sprite's opaque pixels, if there is one and it is not white."""
    pixels = _pixels(sprite)
    counts: Counter[str] = Counter()
    for pixel, count in pixels.items():
        counts[colour_of(*pixel)] += count
    best = max(COLOURS, key=lambda colour: counts[colour])
    return best if counts[best] > MAIN * pixels.total() else None


def absent_colours(sprite: Image.Image) -> frozenset[str]:
    """Return the colours that less than 5 % of an RGBA sprite's opaque pixels could be called."""
    pixels = _pixels(sprite)
    counts: Counter[str] = Counter()
    for pixel, count in pixels.items():
        counts.update(dict.fromkeys(possible_colours(*pixel), count))
    return frozenset(colour for colour in COLOURS if counts[colour] < ABSENT * pixels.total())


def _pixels(sprite: Image.Image) -> Counter[tuple[int, int, int]]:
    """Return the opaque pixels' colours, in steps of eight."""
    counts: Counter[tuple[int, int, int]] = Counter()
    # Pillow's annotation covers all modes; RGBA gives tuples, and none are left out up to as many as there are pixels.
    colours = cast(list[tuple[int, tuple[int, int, int, int]]], sprite.getcolors(sprite.width * sprite.height))
    for count, (red, green, blue, opacity) in colours:
        if opacity >= 128:
            counts[red & 0xF8 | 4, green & 0xF8 | 4, blue & 0xF8 | 4] += count
    return counts
