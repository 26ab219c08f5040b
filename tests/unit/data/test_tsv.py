"""Tables of strings: what is read is what was written, and what is wrong is one clear line."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from parrot.data.images import open_rgb
from parrot.data.tsv import (
    as_vlmevalkit_reads,
    as_vlmevalkit_scores,
    decode_rgb,
    image_id,
    options,
    read_tsv,
    write_tsv,
)
from parrot.errors import UserError


def image(colour: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


RED, BLUE = image("red"), image("blue")


def test_strings_survive(tmp_path: Path) -> None:
    cells = [
        "None",
        "NA",
        "null",
        "",
        "1.0",
        "007",
        "a\tb",
        "line\nfeed",
        "line\r\nend",
        "\r",
        '"',
        '"x',
        "\u2028",
        "ё",
    ]
    table = pd.DataFrame({"text": cells, "other": cells[::-1]}, dtype=str)
    write_tsv(table, tmp_path / "t.tsv")
    assert read_tsv(tmp_path / "t.tsv").to_dict("list") == {"text": cells, "other": cells[::-1]}
    assert [path.name for path in tmp_path.iterdir()] == ["t.tsv"]


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfindex\tA\r\n1\tx\r\n")
    assert read_tsv(path, ["index"]).to_dict("records") == [{"index": "1", "A": "x"}]


def test_options_leave_out_empty_cells() -> None:
    assert options({"question": "?", "A": "None", "B": "", "C": "NA"}) == {"A": "None", "C": "NA"}


def test_cells_as_pandas_types_them() -> None:
    cells = {
        "index": ["007", "8", "9"],
        "A": ["None", "NA", "x"],
        "B": ["1", "", "2"],
        "C": ["03", "4", "5"],
        "hint": ["null", "see", "n/a"],
        "category": ["None", "b", "c"],
    }
    table = pd.DataFrame(cells, dtype=str)
    read = as_vlmevalkit_reads(table).to_dict("list")
    assert read == cells | {
        "A": ["", "", "x"],
        "B": ["1.0", "", "2.0"],
        "C": ["3", "4", "5"],
        "hint": ["", "see", ""],
    }
    assert table.to_dict("list") == cells


def test_cells_after_a_spreadsheet() -> None:
    cells = {
        "index": ["007", "8", "9"],
        "A": ["1.0", "2.0", "3.0"],
        "B": ["1.0", "", "2.0"],
        "C": ["a\x07b", "=1+1", "x" * 40_000],
        "hint": ["null", "see", "line\nfeed"],
        "prediction": ["None", "", "B\r\nçünkü gri"],
    }
    read = as_vlmevalkit_scores(pd.DataFrame(cells, dtype=str)).to_dict("list")
    assert read == cells | {
        "A": ["1", "2", "3"],
        "B": ["1.0", "", "2.0"],
        "C": ["a_x0007_b", "=1+1", "x" * 32_767],
        "hint": ["", "see", "line\nfeed"],
        "prediction": ["nan", "nan", "B_x000D_\nçünkü gri"],
    }


def test_other_encodings_and_missing_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_bytes("index\tпример".encode("cp1251"))
    for name, expected in (("b.tsv", "UTF-8"), ("absent.tsv", "cannot be read")):
        with pytest.raises(UserError, match=expected):
            read_tsv(tmp_path / name)


@pytest.mark.parametrize(
    "image",
    [RED[:64], "!" * 100, base64.b64encode(b"no image" * 9).decode()],
    ids=["cut", "not base64", "not an image"],
)
def test_unreadable_images_are_one_line(image: str) -> None:
    with pytest.raises(UserError, match=r"^t\.tsv: row 3: image.*(image|cannot be decoded)") as caught:
        decode_rgb(image, "t.tsv: row 3")
    assert "\n" not in str(caught.value)


def test_images_decode_as_rgb(tmp_path: Path) -> None:
    assert image_id(RED) != image_id(BLUE)
    assert decode_rgb(BLUE, "").getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(UserError, match="^absent.png is missing$"):
        open_rgb(tmp_path / "absent.png", "absent.png")


def test_whatever_a_decoder_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.png"
    Image.new("RGB", (3, 2)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: struct.unpack("<I", b""))
    with pytest.raises(UserError, match="^p cannot be decoded: unpack requires a buffer of 4 bytes$"):
        open_rgb(path, "p")
