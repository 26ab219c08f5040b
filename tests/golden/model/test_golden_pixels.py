"""Images as pixels: squared by the mean colour or cropped, without an alpha channel, and as training reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.golden.model.reference import PIXELS, close, group, pixels, read_json, read_tensors, slot


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("--golden") / "model"
        metafunc.parametrize("name", read_tensors(folder / "pixels.safetensors"))


def test_pixels(folder, processor, name):
    expected = read_tensors(folder / "pixels.safetensors")[name]
    way, of = name.split(".", 1)
    if way == "dataset":
        (sample,) = (sample for sample in read_json(folder / "data.json") if sample["id"] == of)
        found = slot(folder, sample, processor)
    else:
        image = Image.open(folder / "images" / f"{of}.png")
        found = pixels(image, processor, image_aspect_ratio={"pad": "pad", "nopad": "crop"}[way])
    close(found, expected, PIXELS)


def test_images_of_every_shape_and_mode_are_there(folder):
    images = {path.stem: Image.open(path) for path in (folder / "images").iterdir()}
    shapes = {(image.width > image.height) - (image.width < image.height) for image in images.values()}
    assert shapes == {-1, 0, 1}
    assert {image.mode for image in images.values()} == {"RGB", "RGBA"}
    for way in ("pad", "nopad"):
        assert group(folder / "pixels.safetensors", way).keys() == images.keys()


def test_padding_is_what_images_need_by_default(folder, processor):
    for path in (folder / "images").iterdir():
        image = Image.open(path)
        assert torch.equal(pixels(image, processor), pixels(image, processor, image_aspect_ratio="pad"))
