"""The main colour of a sprite, decided from its pixels."""

from __future__ import annotations

import colorsys
from collections import Counter

from PIL import Image

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "gray", "black")

# More of the opaque pixels than this have the main colour; less than that have any colour offered as a wrong option.
MAIN = 0.45
ABSENT = 0.05

# Two colours between which a viewer may hesitate are never offered together.
_NEIGHBOURS = frozenset(
    frozenset(pair)
    for pair in (
        ("red", "orange"),
        ("red", "pink"),
        ("red", "brown"),
        ("red", "purple"),
        ("orange", "yellow"),
        ("orange", "brown"),
        ("yellow", "brown"),
        ("yellow", "green"),
        ("green", "blue"),
        ("blue", "purple"),
        ("purple", "pink"),
        ("blue", "gray"),
        ("brown", "gray"),
        ("gray", "black"),
    )
)

# Upper ends of the hue ranges, in degrees.
_HUES = ((14, "red"), (40, "orange"), (66, "yellow"), (165, "green"), (255, "blue"), (292, "purple"), (340, "pink"))


def neighbours(first: str, second: str) -> bool:
    """Whether two colours are too close to be offered in one question."""
    return frozenset((first, second)) in _NEIGHBOURS


def colour_of(red: int, green: int, blue: int) -> str:
    """The name of one pixel's colour, by hue, saturation and value; ``white`` too, which is never asked about."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.22:
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


def shares(sprite: Image.Image) -> dict[str, float]:
    """Each colour's share of the opaque pixels of an RGBA sprite."""
    raw = sprite.tobytes()
    pixels = Counter((raw[i], raw[i + 1], raw[i + 2]) for i in range(0, len(raw), 4) if raw[i + 3] >= 128)
    counts: Counter[str] = Counter()
    for pixel, count in pixels.items():
        counts[colour_of(*pixel)] += count
    total = max(1, sum(counts.values()))
    return {colour: counts[colour] / total for colour in (*COLOURS, "white")}


def main_colour(share: dict[str, float]) -> str | None:
    """The colour of more than 45 % of the opaque pixels; None where there is none, or where it is white."""
    best = max(COLOURS, key=lambda colour: share[colour])
    return best if share[best] > MAIN else None
