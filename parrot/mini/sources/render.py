"""Drawings to images: SVG to small RGBA PNG files."""

from __future__ import annotations

import io

import resvg
from PIL import Image

SIDE = 64
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def render(svg: str) -> Image.Image:
    """Rasterise an SVG document, at its own size, on a transparent ground (RGBA)."""
    tree = resvg.usvg.Tree.from_str(svg, resvg.usvg.Options.default())
    return Image.open(io.BytesIO(resvg.render(tree, IDENTITY))).convert("RGBA")
