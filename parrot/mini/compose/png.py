"""PNG files whose bytes depend on the pixels only."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

_LONGEST_BLOCK = 65535


def encode(picture: Image.Image) -> bytes:
    """An RGB picture as PNG in stored (uncompressed) deflate blocks.

    Compressors differ between zlib builds; without compression the same pixels give the same bytes on every machine.
    """
    assert picture.mode == "RGB"
    header = struct.pack(">IIBBBBB", *picture.size, 8, 2, 0, 0, 0)
    pixels, stride = picture.tobytes(), 3 * picture.width
    lines = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, len(pixels), stride))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(lines)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _stored(data: bytes) -> bytes:
    blocks = [data[start : start + _LONGEST_BLOCK] for start in range(0, len(data), _LONGEST_BLOCK)]
    stream = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks
    )
    return b"\x78\x01" + stream + struct.pack(">I", zlib.adler32(data))
