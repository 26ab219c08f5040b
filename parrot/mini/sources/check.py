"""Checks of the images themselves: does a drawing show what its name says, and do two concepts look the same?

An emoji set whose package maps no code points is matched by drawing names, which can go wrong ("cricket" is a game
too). Its images are compared with the drawings of all concepts in training emoji sets matched by code point, to say
which of them a person must look at. Test emoji sets take part in neither check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from PIL import Image

COARSE, FINE = 8, 32
COLOUR_BINS = 4
DOUBTFUL = 0.5
SAME = 0.1

Images = Mapping[str, Mapping[str, Image.Image]]


def thumbnail(image: Image.Image, side: int) -> np.ndarray:
    """Cell means of a square RGBA image in 0..1, colours premultiplied by alpha: (side * side * 4,)."""
    pixels = _pixels(image)
    pixels = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=-1)
    cell = pixels.shape[0] // side
    return pixels.reshape(side, cell, side, cell, 4).mean(axis=(1, 3)).ravel()


def signature(image: Image.Image) -> np.ndarray:
    """Shape and colours of an image: a coarse thumbnail beside the square root of its colour histogram."""
    pixels = _pixels(image)
    bins = np.minimum((pixels[..., :3] * COLOUR_BINS).astype(int), COLOUR_BINS - 1)
    index = (bins * [COLOUR_BINS**2, COLOUR_BINS, 1]).sum(axis=-1)
    histogram = np.bincount(index.ravel(), weights=pixels[..., 3].ravel(), minlength=COLOUR_BINS**3)
    return np.concatenate([thumbnail(image, COARSE) / COARSE, np.sqrt(histogram / max(histogram.sum(), 1e-6))])


def doubtful(images: Images, suspect: str, references: Sequence[str]) -> list[str]:
    """Concepts whose image in the emoji set `suspect` looks more like other things.

    An image's rank is the share of concepts that have a drawing in the `references` nearer to it than the nearest
    of its own concept's; it is doubtful where the rank is above DOUBTFUL.
    """
    concepts = list(images)
    drawn = np.stack([[signature(images[concept][emoji_set]) for emoji_set in references] for concept in concepts])
    found = []
    for place, concept in enumerate(concepts):
        if suspect in images[concept]:
            nearest = np.linalg.norm(drawn - signature(images[concept][suspect]), axis=-1).min(axis=1)
            if (nearest < nearest[place]).mean() > DOUBTFUL:
                found.append(concept)
    return found


def alike(images: Images, emoji_sets: Sequence[str]) -> list[tuple[str, str, str]]:
    """Pairs of concepts that an emoji set draws almost alike, as (emoji set, earlier concept, later concept).

    Almost alike: the root mean square difference of their 32 x 32 thumbnails is below SAME.
    """
    found = []
    for emoji_set in emoji_sets:
        drawn = [(concept, thumbnail(of[emoji_set], FINE)) for concept, of in images.items() if emoji_set in of]
        for (first, one), (second, other) in combinations(drawn, 2):
            if np.sqrt(np.mean((one - other) ** 2)) < SAME:
                found.append((emoji_set, first, second))
    return found


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
