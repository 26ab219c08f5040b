"""Images of scenes with their captions, as the vision encoders are trained on them: training emoji sets only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from parrot.config.catalog import Language
from parrot.mini.compose.material import Material
from parrot.mini.compose.scenes import SIDE, Scene
from parrot.mini.compose.training_questions import Drawer

# Single objects teach what things are; pairs and counts teach where they are and how many.
_MIX = (("naming", 0.45), ("position", 0.25), ("counting", 0.12), ("same_different", 0.08), ("colour", 0.10))
# Pairs and counts of a batch are of so few concepts that telling one object is not enough to find the caption.
_FEW = 16


@dataclass(frozen=True)
class Captioned:
    """Images (B, S, S, 3) uint8 with a caption each, and the scenes that they show."""

    pixels: np.ndarray
    captions: list[str]
    scenes: list[Scene]


class Sampler:
    """Draws batches of augmented images of `emoji sets`, captioned in one language; seed and step decide them.

    Every second scene is of the `favoured` concepts, the others of all: variety makes features, practice makes names.
    """

    def __init__(
        self,
        material: Material,
        favoured: Sequence[str],
        emoji_sets: tuple[str, ...],
        language: Language,
        size: int,
        seed: int,
    ):
        self._material = material
        self._emoji_sets = emoji_sets
        self._language: Language = language
        self._size = size
        self._seed = seed
        self._pools = (tuple(favoured), material.concepts.ids)
        self._drawers = [Drawer(material, emoji_sets, pool) for pool in self._pools]

    def __call__(self, step: int) -> Captioned:
        """Draw the batch of a step."""
        rng = random.Random(f"{self._seed} {step}")
        few = [Drawer(self._material, self._emoji_sets, rng.sample(pool, _FEW)) for pool in self._pools]
        pixels, captions, scenes = [], [], []
        for kind, share in _MIX:
            drawers = self._drawers if kind in ("naming", "colour") else few
            for number in range(round(share * self._size)):
                emoji_set, scene = drawers[number % 2].scene(kind, rng)
                image = np.asarray(self._material.emoji_sets[emoji_set].draw(scene, rng))
                if rng.random() < 0.5:
                    image, scene = mirror(image, scene)
                colour = self._material.emoji_sets[emoji_set].colour(scene.concepts[0]) if kind == "colour" else None
                pixels.append(image)
                scenes.append(scene)
                captions.append(self._material.phrases.scene(scene, self._language, colour or ""))
        return Captioned(augment(np.stack(pixels), rng), captions, scenes)


def mirror(image: np.ndarray, scene: Scene) -> tuple[np.ndarray, Scene]:
    """Return the image (S, S, 3) mirrored from left to right."""
    concepts = scene.concepts[::-1] if scene.layout == "horizontal" else scene.concepts
    return image[:, ::-1], Scene(scene.layout, concepts)


def augment(pixels: np.ndarray, rng: random.Random) -> np.ndarray:
    """Turn, scale, shift and recolour images (B, S, S, 3) uint8 a little, each its own way; white stays white.

    An unseen artist differs in proportion, outline and palette; hue is left alone, since colours are asked about.
    """
    generator = torch.Generator().manual_seed(rng.getrandbits(32))

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(len(pixels), generator=generator) * (high - low) + low

    angle = uniform(-0.2, 0.2)
    wide, high = uniform(0.88, 1.15), uniform(0.88, 1.15)
    rows = (wide * angle.cos(), -wide * angle.sin(), uniform(-0.08, 0.08), high * angle.sin(), high * angle.cos())
    theta = torch.stack([*rows, uniform(-0.08, 0.08)], dim=1).view(-1, 2, 3)
    ink = 1 - torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    grid = affine_grid(theta, [len(pixels), 3, SIDE, SIDE], align_corners=False)
    ink = grid_sample(ink, grid, align_corners=False)
    grey = ink.mean(1, keepdim=True)
    saturation = torch.where(uniform(0, 1) < 0.1, 0.0, uniform(0.6, 1.3)).view(-1, 1, 1, 1)
    ink = (grey + (ink - grey) * saturation) * uniform(0.75, 1.2).view(-1, 1, 1, 1)
    return ((1 - ink.clamp(0, 1)) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
