"""Training images that are benchmark images too.

Pairs are looked for by difference hashes, each with each, and confirmed by thumbnails: drawings on white have similar
hashes by the thousand.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import ConversationSet
from parrot.config.settings import OverlapSettings
from parrot.config.staleness import canonical
from parrot.data.benchmarks import read_language
from parrot.data.conversations import samples
from parrot.data.fingerprints import SIDE, Fingerprints, Source, fingerprints
from parrot.data.images import open_image
from parrot.data.samples import Reading
from parrot.data.tsv import decode_image, image_id
from parrot.errors import UserError
from parrot.io.archives import sha256_of, state_of

COMPARED_AT_ONCE = 1 << 16  # pairs of hashes: a table that stays in a core's cache
CONFIRMED_AT_ONCE = 1 << 12  # pairs of thumbnails


class Pairs(NamedTuple):
    """Pairs of images by their places in what was compared, and the bits in which their hashes differ: (n,) each."""

    training: np.ndarray
    benchmark: np.ndarray
    distance: np.ndarray


def candidates(training: np.ndarray, benchmark: np.ndarray, distance: int = 8) -> Pairs:
    """Return all pairs of hashes, (N,) and (M,) of uint64, that differ in at most `distance` bits.

    Tables of N x M are never in memory.
    """
    step = max(1, COMPARED_AT_ONCE // max(1, len(benchmark)))
    found = [np.empty((3, 0), dtype=np.int64)]
    for start in range(0, len(training), step):
        bits = np.bitwise_count(training[start : start + step, None] ^ benchmark)
        first, second = np.nonzero(bits <= distance)
        found.append(np.stack([first + start, second, bits[first, second]]))
    return Pairs(*np.concatenate(found, axis=1))


def confirmed(
    pairs: Pairs, training: Fingerprints, benchmark: Fingerprints, threshold: float
) -> tuple[Pairs, np.ndarray]:
    """Return the pairs that are copies, and the correlation of each, (n,).

    They are where thumbnails have at least a correlation of `threshold`, and where the files have the same bytes.
    """
    correlations, same = [np.empty(0)], [np.empty(0, dtype=bool)]
    for start in range(0, len(pairs.distance), CONFIRMED_AT_ONCE):
        first, second, _ = (column[start : start + CONFIRMED_AT_ONCE] for column in pairs)
        correlations.append(correlation(training.thumbnails(first), benchmark.thumbnails(second)))
        same.append(training.digests(first) == benchmark.digests(second))
    found = np.concatenate(correlations)
    copies = (found >= threshold) | np.concatenate(same)
    return Pairs(*(column[copies] for column in pairs)), found[copies]


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of thumbnails, (n, 32, 32, 3) of uint8 each: (n,), from -1 to 1.

    Means of 2 x 2 pixels are compared: finer detail is what a reduced copy has lost. Where an image is of one colour,
    which correlates with nothing, it is 1 if the thumbnails are equal and 0 if not.
    """
    a, b = _centred(first), _centred(second)
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(spread > 0, (a * b).sum(axis=1) / spread, 0.0)
    return np.where((first == second).all(axis=(1, 2, 3)), 1.0, found)


def _centred(thumbnails: np.ndarray) -> np.ndarray:
    """(n, 768): means of 2 x 2 pixels, less the mean of their colour: 0 throughout for an image of one colour."""
    means = thumbnails.reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(2, 4))
    return (means - means.mean(axis=(1, 2), keepdims=True)).reshape(len(thumbnails), -1)


@dataclass(frozen=True)
class TrainingImage:
    """An image file, and the first sample that shows it with the file of its set."""

    path: str
    file: str
    sample: str

    def source(self) -> Source:
        """Say how its fingerprint is taken."""
        where = f"{self.file}: sample {self.sample}: image: {self.path}"
        return Source(self.path, canonical(state_of(self.path)), lambda: self._read(where))

    def _read(self, where: str) -> tuple[str, Image.Image]:
        image = open_image(self.path, where)
        return sha256_of(self.path), image


@dataclass(frozen=True)
class BenchmarkImage:
    """An image of a benchmark, the first file and row that shows it, and the languages whose files hold it."""

    benchmark: str
    image_sha256: str  # as in graded.csv
    where: str
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Copy:
    """A benchmark image that is also a training image: their hash distance (bits), correlation and thumbnails."""

    benchmark: BenchmarkImage
    training: TrainingImage
    distance: int
    correlation: float
    thumbnails: tuple[bytes, bytes]  # of the benchmark image and the training image


def training_images(sets: Iterable[ConversationSet]) -> list[TrainingImage]:
    """Return the different image files of `sets`.

    Samples with other faults than a lost image are left out, as training leaves them out or refuses them.

    Raises:
        UserError: a set's file cannot be read, or an image is missing.
    """
    found: dict[str, TrainingImage] = {}
    for entry in sets:
        reading = Reading(entry)
        for sample in samples(entry, reading):
            if "image" in sample:
                path = entry.image_path(sample["image"])
                found.setdefault(path, TrainingImage(path, entry.file, str(sample["id"])))
        if lost := reading.lines.get("image"):
            raise UserError(f"{entry.file}: {lost[0]}")
    return list(found.values())


def benchmark_images(benchmark: Benchmark) -> dict[str, BenchmarkImage]:
    """Return a benchmark's different images by their base64 cells.

    Raises:
        UserError: a file is not what `parrot.data.benchmarks.read_language` expects.
    """
    shown: dict[str, dict[str, str]] = {}
    for language, file in benchmark.files.items():
        table, _ = read_language(benchmark, language)
        for index, cell in zip(table["index"], table["image"], strict=True):
            shown.setdefault(cell, {}).setdefault(language, f"{Path(benchmark.folder, file)}: row {index}")
    return {
        cell: BenchmarkImage(benchmark.name, image_id(cell), next(iter(places.values())), tuple(places))
        for cell, places in shown.items()
    }


def _cell_source(cell: str, where: str) -> Source:
    def read() -> tuple[str, Image.Image]:
        image = decode_image(cell, where)
        return hashlib.sha256(base64.b64decode(cell)).hexdigest(), image

    return Source(where, hashlib.sha256(cell.encode()).hexdigest(), read)


def copies(
    sets: Iterable[ConversationSet], benchmarks: Iterable[Benchmark], settings: OverlapSettings, folder: Path
) -> tuple[list[Copy], dict[str, int]]:
    """Find the images of `benchmarks` that `sets` show, benchmark after benchmark; and count each one's images.

    Fingerprints are kept in `folder`.

    Raises:
        UserError: an image, a set or a benchmark cannot be read.
    """
    shown = training_images(sets)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # a network file system is slow to say a size
        trained_on = fingerprints(list(pool.map(TrainingImage.source, shown)), folder / "training")
    found: list[Copy] = []
    counts = {}
    for benchmark in benchmarks:
        cells = benchmark_images(benchmark)
        images = list(cells.values())
        sources = [_cell_source(cell, image.where) for cell, image in cells.items()]
        asked = fingerprints(sources, folder / "benchmarks")
        counts[benchmark.name] = len(images)
        pairs = candidates(trained_on.hashes, asked.hashes, settings.distance)
        pairs, correlations = confirmed(pairs, trained_on, asked, settings.correlation)
        both = zip(asked.thumbnails(pairs.benchmark), trained_on.thumbnails(pairs.training), strict=True)
        found += [
            Copy(images[second], shown[first], int(distance), float(near), (ours.tobytes(), theirs.tobytes()))
            for first, second, distance, near, (ours, theirs) in zip(*pairs, correlations, both, strict=True)
        ]
    return found, counts
