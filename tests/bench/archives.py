"""Images read from a ZIP archive beside the same images as loose files: `python -m tests.bench.archives`.

Prints images/s of both, in turn and with a warm page cache, by one process and by four workers of torch's loader, with
the private memory of a worker; and what an index of 1.2 million names takes. Peers: loose files through the same
decoder, and Python's zipfile for the index.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from parrot.data.images import open_rgb
from parrot.io.archives import open_archive

IMAGES, SIDES, ROUNDS, WORKERS = 5000, (640, 480), 5, 4
NAMES = 1_200_000


class Images(torch.utils.data.Dataset[int]):
    """Decodes an image and keeps its width, so that workers send no pixels."""

    def __init__(self, paths: Sequence[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> int:
        return open_rgb(self.paths[place], self.paths[place]).width


def write_jpegs(folder: Path) -> list[str]:
    """Write images of COCO's sides, with noise that makes them about as large."""
    random, names = np.random.default_rng(0), [f"{number:012d}.jpg" for number in range(IMAGES)]
    noise = random.integers(-22, 23, (64, SIDES[1], SIDES[0], 3))
    for number, name in enumerate(names):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize(SIDES)
        pixels = (np.array(coarse, int) + noise[number % 64]).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=90)
    return names


def private_memory() -> float:
    """MB that this process shares with no other one and no file."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Private_Dirty"].split()[0]) / 1e3


def rate(paths: Sequence[str], workers: int) -> float:
    """Images per second."""
    started = time.perf_counter()
    for _ in DataLoader(Images(paths), batch_size=64, num_workers=workers):
        pass
    return len(paths) / (time.perf_counter() - started)


def memory(paths: Sequence[str]) -> float:
    """MB of private memory of a new process that has read `paths`."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_memory, (paths,))


def _memory(paths: Sequence[str]) -> float:
    for path in paths:
        open_rgb(path, path)
    return private_memory()


def compare_reading(folder: Path) -> None:
    """Print the rates of both ways, in turn."""
    (folder / "loose").mkdir()
    names = write_jpegs(folder / "loose")
    with zipfile.ZipFile(folder / "images.zip", "w") as file:
        for name in names:
            file.write(folder / "loose" / name, f"train2017/{name}")
    size = sum((folder / "loose" / name).stat().st_size for name in names) / len(names) / 1e3
    print(f"{IMAGES} JPEGs of {SIDES[0]} x {SIDES[1]}, {size:.0f} kB each; page cache warm")
    ways = {
        "loose": [f"{folder}/loose/{name}" for name in names],
        "archive": [f"{folder}/images.zip/train2017/{name}" for name in names],
    }
    for workers in (0, WORKERS):
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, paths in ways.items():
                found[way].append(rate(paths, workers))
        medians = {way: statistics.median(rates) for way, rates in found.items()}
        print(
            f"{workers or 1} {'workers' if workers else 'process'}: archive {medians['archive']:.0f} images/s, loose "
            f"{medians['loose']:.0f}, ratio {medians['archive'] / medians['loose']:.3f} (goal 0.95)"
        )


def compare_index(folder: Path) -> None:
    """Print time and memory of an index of many names, beside zipfile's reading of the same list."""
    archive = folder / "names.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(NAMES):
            file.writestr(zipfile.ZipInfo(f"train2017/{number * 7919 % NAMES:012d}.jpg"), b"x")
    (folder / "image.jpg").write_bytes((folder / "loose" / f"{0:012d}.jpg").read_bytes())
    with zipfile.ZipFile(archive, "a") as file:
        file.write(folder / "image.jpg", "image.jpg")
    started = time.perf_counter()
    zipfile.ZipFile(archive).close()
    peer, started = time.perf_counter() - started, time.perf_counter()
    open_archive(str(archive))
    took = time.perf_counter() - started
    print(f"index of {NAMES} names: built in {took:.1f} s (goal 60); zipfile lists them in {peer:.1f} s")
    loose, member = (memory([str(path)]) for path in (folder / "image.jpg", archive / "image.jpg"))
    print(f"private memory: archive {member:.0f} MB, loose {loose:.0f} MB, {member - loose:.0f} more (goal 50)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as place:
        compare_reading(Path(place))
        compare_index(Path(place))
