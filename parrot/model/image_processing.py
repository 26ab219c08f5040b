"""Pictures to pixels, on PIL alone so that the same picture gives the same pixels whatever else is installed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil
from transformers.processing_utils import ImagesKwargs


class ParrotImagesKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Options of one call."""

    image_aspect_ratio: Literal["pad", "crop"]


class ParrotImageProcessor(CLIPImageProcessorPil):
    """CLIP's preprocessing; with `image_aspect_ratio` "pad" a picture is first squared, so that no side is cut off.

    The square has the picture's longer side and the mean colour, int(255 * image_mean), and holds the picture in its
    middle. "crop" is CLIP's own way: the shorter side is resized and the middle cut out.
    """

    valid_kwargs = ParrotImagesKwargs
    image_aspect_ratio = "pad"

    def convert_to_rgb(self, image: Any, input_data_format: Any = None) -> np.ndarray:
        """Drop an alpha channel without compositing, as the released code does."""
        if isinstance(image, Image.Image):
            return np.array(image.convert("RGB"))
        return super().convert_to_rgb(image, input_data_format=input_data_format)

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = None,
        input_data_format: Any = None,
        image_aspect_ratio: str = "pad",
        **kwargs: Any,
    ) -> np.ndarray:
        """One picture as channels x height x width."""
        array = super().process_image(image, do_convert_rgb, input_data_format, **kwargs)
        return self._square(array) if image_aspect_ratio == "pad" else array

    def _square(self, image: np.ndarray) -> np.ndarray:
        channels, height, width = image.shape
        side = max(height, width)
        colour = [int(255 * mean) for mean in self.image_mean]
        square = np.empty((channels, side, side), dtype=image.dtype)
        square[:] = np.array(colour, dtype=image.dtype)[:, None, None]
        top, left = (side - height) // 2, (side - width) // 2
        square[:, top : top + height, left : left + width] = image
        return square
