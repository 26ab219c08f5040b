"""Fingerprints of images, by which copies of one another are found; kept from one start to the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from parrot.config.staleness import code_digest, key
from parrot.data.rgb import to_rgb
from parrot.io.digests import is_complete, seal
from parrot.io.files import atomic_path

SIDE = 32  # pixels of a thumbnail
# Grey levels by which a neighbour is brighter: JPEG's noise on white is below, which else sets bits at random.
BRIGHTER = 2
IMAGES_PER_BLOCK = 4096  # 12 MiB of thumbnails, and what a killed start loses at most
SCHEMA = pa.schema(
    {
        "where": pa.string(),  # path of a file, or the benchmark file and its row
        "state": pa.string(),  # of what is there: another one is another image
        "digest": pa.string(),  # SHA-256 of the image file's bytes
        "hash": pa.uint64(),
        "thumbnail": pa.binary(3 * SIDE * SIDE),
    }
)


class Fingerprint(NamedTuple):
    """A difference hash of 64 bits, and a thumbnail: 32 x 32 pixels of RGB, 3072 bytes row by row."""

    hash64: int
    thumbnail: bytes


def fingerprint(image: Image.Image) -> Fingerprint:
    """Return the fingerprint of a decoded image of any mode; a JPEG may be decoded at a reduced size (`draft`)."""
    rgb = to_rgb(image)
    grey = np.asarray(rgb.convert("L").resize((9, 8), Image.Resampling.BICUBIC), dtype=np.int16)
    brighter = grey[:, 1:] - grey[:, :-1] > BRIGHTER
    small = rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return Fingerprint(int.from_bytes(np.packbits(brighter).tobytes(), "big"), small.tobytes())


class Source(NamedTuple):
    """An image to take a fingerprint of: `where` and `state` as in `SCHEMA`, and how its digest and pixels are read."""

    where: str
    state: str
    read: Callable[[], tuple[str, Image.Image]]


class Fingerprints(NamedTuple):
    """Fingerprints of N images: a memory-mapped table of `SCHEMA`, and the row of each image in it, (N,)."""

    table: pa.Table
    rows: np.ndarray

    @property
    def hashes(self) -> np.ndarray:
        """(N,) of uint64."""
        return self.table["hash"].to_numpy()[self.rows]

    def digests(self, places: np.ndarray) -> np.ndarray:
        """Return the digests of the images at `places`: (n,) of text."""
        return np.array(self.table["digest"].take(pa.array(self.rows[places])).to_pylist(), dtype=str)

    def thumbnails(self, places: np.ndarray) -> np.ndarray:
        """Return the thumbnails of the images at `places`: (n, 32, 32, 3) of uint8."""
        found = self.table["thumbnail"].take(pa.array(self.rows[places])).to_pylist()
        return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, SIDE, SIDE, 3)


def fingerprints(sources: Sequence[Source], folder: Path) -> Fingerprints:
    """Return the fingerprints of `sources`, in order; those that `folder` keeps are not taken again.

    Raises:
        UserError: an image that cannot be read.
    """
    folder = folder / code_digest("fingerprints")
    tables = [SCHEMA.empty_table(), *_kept(folder)]
    known = {place for table in tables for place in _places(table)}
    missing = iter([source for source in sources if (source.where, source.state) not in known])
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        while block := list(islice(missing, IMAGES_PER_BLOCK)):
            tables.append(_write(block, list(pool.map(_row, block)), folder))
    table = pa.concat_tables(tables)
    row_of = {place: row for row, place in enumerate(_places(table))}
    rows = [row_of[source.where, source.state] for source in sources]
    return Fingerprints(table, np.array(rows, dtype=np.int64))


def _row(source: Source) -> dict[str, object]:
    digest, image = source.read()
    hash64, thumbnail = fingerprint(image)
    return dict(zip(SCHEMA.names, (source.where, source.state, digest, hash64, thumbnail), strict=True))


def _write(block: Sequence[Source], rows: list[dict[str, object]], folder: Path) -> pa.Table:
    path = folder / f"{key([[source.where, source.state] for source in block])}.arrow"
    with atomic_path(path) as partial:
        with pa.ipc.new_file(partial, SCHEMA) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        seal(partial, path)
    return _mapped(path)


def _kept(folder: Path) -> Iterator[pa.Table]:
    """Map the blocks of `folder`; remove damaged ones, whose fingerprints are taken again."""
    for path in sorted(folder.glob("[!.]*.arrow")):
        if is_complete(path):
            yield _mapped(path)
        else:
            path.unlink(missing_ok=True)


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _places(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["where"].to_pylist(), table["state"].to_pylist(), strict=True)
