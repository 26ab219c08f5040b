"""Images to pixels, on PIL alone so that the same image gives the same pixels whatever else is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessorPil
from transformers.processing_utils import ImagesKwargs

from parrot.data.rgb import Alpha, HighBitGrey, Orientation, to_rgb


class ParrotImagesKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Options of one call."""

    image_aspect_ratio: Literal["pad", "crop"]
    image_orientation: Orientation
    image_high_bit_grey: HighBitGrey
    image_alpha: Alpha


class ParrotImageProcessor(CLIPImageProcessorPil):
    """CLIP's preprocessing; with `image_aspect_ratio` "pad" an image is first squared, so that no side is cut off.

    The square has the image's longer side and the mean colour, int(255 * image_mean), and holds the image in its
    middle. "crop" is CLIP's own way: the shorter side is resized and the middle cut out.

    An image is made RGB by `parrot.data.rgb.to_rgb`, to which the other three options belong; the released code's way
    is "released".
    """

    valid_kwargs = ParrotImagesKwargs
    image_aspect_ratio = "pad"
    image_orientation = "exif"
    image_high_bit_grey = "scaled"
    image_alpha = "white"

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = None,
        input_data_format: Any = None,
        image_aspect_ratio: str = "pad",
        image_orientation: Orientation = "exif",
        image_high_bit_grey: HighBitGrey = "scaled",
        image_alpha: Alpha = "white",
        **kwargs: Any,
    ) -> np.ndarray:
        """One image as channels x height x width."""
        if isinstance(image, Image.Image):
            image = to_rgb(image, image_orientation, image_high_bit_grey, image_alpha)
        array = super().process_image(image, do_convert_rgb, input_data_format, **kwargs)
        return pad_to_square(array, self.image_mean) if image_aspect_ratio == "pad" else array


def pad_to_square(image: np.ndarray, mean: Sequence[float]) -> np.ndarray:
    """Put an image (channels, height, width) in the middle of a square of the colour int(255 * `mean`)."""
    channels, height, width = image.shape
    side = max(height, width)
    colour = [int(255 * value) for value in mean]
    square = np.empty((channels, side, side), dtype=image.dtype)
    square[:] = np.array(colour, dtype=image.dtype)[:, None, None]
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = image
    return square
