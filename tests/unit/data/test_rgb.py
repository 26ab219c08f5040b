"""Pixels as 8-bit RGB where a file says more of them: upright, scaled, laid on white, or as the released code reads."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from parrot.config.limits import Limits, use
from parrot.data.images import fault, inspect_image, open_image, open_rgb
from parrot.data.rgb import TRAITS, to_rgb
from parrot.data.tsv import decode_rgb
from parrot.errors import UserError
from parrot.fetch.fetch import fetch
from tests.helpers.tiny_model import tiny_processor
from tests.helpers.tiny_training import write_set

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)
RAMP = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
GREYS = {
    "png 16": ("g.png", RAMP, (0, 128, 255)),
    "tiff 16": ("g.tif", RAMP, (0, 128, 255)),
    "tiff 16, big-endian": ("g.tif", RAMP.astype(">u2"), (0, 128, 255)),
    "tiff 32": ("g.tif", RAMP.astype(np.int32), (0, 128, 255)),
    "tiff 32, of 8 bits": ("g.tif", (RAMP // 257).astype(np.int32), (0, 128, 255)),
    "tiff 32, signed": ("g.tif", RAMP.astype(np.int32) - 32768, (0, 128, 255)),
    "floats to 1": ("g.tif", (RAMP / 65535).astype(np.float32), (0, 128, 255)),
    "floats to 255": ("g.tif", (RAMP / 257).astype(np.float32), (0, 128, 255)),
    "floats below 0": ("g.tif", (RAMP / 65535 - 0.5).astype(np.float32), (0, 128, 255)),
    "floats, all 0": ("g.tif", np.zeros((8, 64), np.float32), (0, 0, 0)),
}


def shown(path: Path, *places: tuple[int, int]) -> list[tuple[int, int, int]]:
    image = open_rgb(path, "here")
    assert image.mode == "RGB"
    return [image.getpixel(place) for place in places]


@pytest.mark.parametrize(("name", "values", "expected"), GREYS.values(), ids=GREYS)
def test_greys_of_more_than_8_bits_keep_their_range(tmp_path, name, values, expected):
    Image.fromarray(values).save(tmp_path / name)
    found = shown(tmp_path / name, (0, 0), (32, 0), (63, 0))
    np.testing.assert_allclose(np.array(found), np.array(expected)[:, None].repeat(3, 1), atol=2)
    assert inspect_image(tmp_path / name, "").traits == ("image_high_bit_grey",)


def test_greys_as_released_are_clipped(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "g.png")
    image = to_rgb(open_image(tmp_path / "g.png", ""), high_bit_grey="released")
    assert set(np.unique(np.array(image))) == {0, 255}


def test_floats_that_are_no_numbers_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(UserError, match="^here cannot be decoded: expected finite values, found NaN or infinity$"):
        open_rgb(tmp_path / "nan.tif", "here")
    assert (
        fault(tmp_path / "nan.tif", "here") == "here cannot be decoded: expected finite values, found NaN or infinity"
    )


# Where the red corner of an upright image, its top left, is stored under each EXIF orientation (of a 4 x 2 image).
STORED = {1: (0, 0), 2: (3, 0), 3: (3, 1), 4: (0, 1), 5: (0, 0), 6: (0, 3), 7: (1, 3), 8: (1, 0)}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_exif_turns_an_image_upright(tmp_path, orientation, suffix):
    image = Image.new("RGB", (4, 2) if orientation < 5 else (2, 4))
    image.putpixel(STORED[orientation], RED)
    exif = Image.Exif()
    exif[274] = orientation
    image.save(tmp_path / f"turned.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    upright = open_rgb(tmp_path / f"turned.{suffix}", "")
    assert upright.size == (4, 2)
    assert upright.getpixel((0, 0)) == RED
    if suffix != "tif":  # Pillow itself turns a TIFF, for the released code too
        stored = to_rgb(open_image(tmp_path / f"turned.{suffix}", ""), orientation="released")
        assert stored.getpixel(STORED[orientation]) == RED
        traits = inspect_image(tmp_path / f"turned.{suffix}", "").traits
        assert traits == (() if orientation == 1 else ("image_orientation",))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_says_nothing(tmp_path):
    Image.new("RGB", (4, 2), RED).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert shown(tmp_path / "a.png", (0, 0)) == [RED]


def drawing(mode: str) -> Image.Image:
    """Black everywhere, of which only the left half is drawn."""
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    if mode == "RGB":  # one colour of it is transparent
        image = image.convert("RGB")
        image.paste(GREEN, (2, 0, 4, 4))
        image.info["transparency"] = GREEN
        return image
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_a_transparent_drawing_is_laid_on_white(tmp_path, mode):
    drawing(mode).save(tmp_path / "drawing.png")
    assert shown(tmp_path / "drawing.png", (0, 0), (3, 3)) == [BLACK, WHITE]
    assert inspect_image(tmp_path / "drawing.png", "").traits == ("image_alpha",)


def test_what_lies_under_alpha_shows_as_released(tmp_path):
    drawing("RGBA").save(tmp_path / "drawing.png")
    image = to_rgb(open_image(tmp_path / "drawing.png", ""), alpha="released")
    assert image.getcolors() == [(16, BLACK)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "RGBA"])
def test_opaque_images_of_8_bits_are_the_same_by_every_way(mode):
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(noise).convert(mode)
    assert to_rgb(image).tobytes() == to_rgb(image, *["released"] * 3).tobytes() == image.convert("RGB").tobytes()


def test_the_processor_reads_as_its_options_say_and_keeps_them(tmp_path):
    images = tiny_processor().image_processor
    images.save_pretrained(tmp_path)
    assert {name: json.loads((tmp_path / "preprocessor_config.json").read_text())[name] for name in TRAITS} == {
        "image_orientation": "exif",
        "image_high_bit_grey": "scaled",
        "image_alpha": "white",
    }
    side = images.crop_size["height"]
    clear, white = Image.new("RGBA", (side, side), (0, 0, 0, 0)), Image.new("RGB", (side, side), WHITE)
    on_white, expected = (images(each, return_tensors="pt")["pixel_values"] for each in (clear, white))
    assert on_white.equal(expected)
    released = type(images).from_pretrained(tmp_path, image_alpha="released")
    assert not released(clear, return_tensors="pt")["pixel_values"].equal(expected)


def test_a_benchmark_image_is_read_the_same_way():
    file = io.BytesIO()
    drawing("RGBA").save(file, "PNG")
    assert decode_rgb(base64.b64encode(file.getvalue()).decode(), "").getpixel((3, 3)) == WHITE


def test_the_report_counts_them(tmp_path, capsys):
    entry = write_set(tmp_path, "captions", count=3)
    first, second, third = sorted(Path(entry.images).glob("*.png"))[:3]
    drawing("RGBA").save(first)
    Image.fromarray(RAMP).save(second)
    fetch({"captions": entry}, {}, check=True, report=tmp_path / "report.json")
    images = json.loads((tmp_path / "report.json").read_text())["images"]
    assert (images["image_alpha"], images["image_high_bit_grey"]) == (1, 1)
    assert f"1 of {images['inspected']} images: read by model.image_alpha" in capsys.readouterr().err


def test_an_image_beyond_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (1500, 1000)).save(tmp_path / "large.png")
    monkeypatch.setattr("parrot.config.limits._of_config", None)
    use(Limits(image_megapixels=1.4))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    expected = r"^x: expected at most 1.4 megapixels \(limits.image_megapixels\), found 1.5 \(1500 x 1000\)$"
    with pytest.raises(UserError, match=expected):
        open_rgb(tmp_path / "large.png", "x")


def test_a_pipe_in_place_of_an_image_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert fault(tmp_path / "pipe.png", "x: image") == "x: image: expected a file, found a folder, pipe or device"


def test_a_damaged_image_is_told_without_warnings_of_the_decoder(tmp_path: Path):
    path = tmp_path / "a.tif"
    Image.new("RGB", (40, 40)).save(path)
    path.write_bytes(path.read_bytes()[:16])
    check = f"from parrot.data.images import fault; print(fault({str(path)!r}, 'here'))"
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("here cannot be decoded: unknown format\n", "")
