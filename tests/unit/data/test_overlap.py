"""Training images that are benchmark images too: copies are found, and nothing else; a second start decodes nothing."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.catalog import ConversationSet
from parrot.config.settings import OverlapSettings
from parrot.data import fingerprints, overlap
from parrot.data.fingerprints import fingerprint
from parrot.data.overlap import candidates, copies, correlation
from parrot.data.tsv import image_id, write_tsv
from parrot.errors import UserError

SIDE = 96
ASKED = 12


def drawing(seed: int) -> Image.Image:
    """Soft patches of 6 x 6 colours, as different from another one as photographs are."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def write_benchmark(folder: Path, images: list[bytes], name: str = "quiz") -> Benchmark:
    rows = [
        {"index": str(n), "question": "What?", "A": "a", "B": "b", "answer": "A", "image": base64.b64encode(i).decode()}
        for n, i in enumerate(images)
    ]
    for language in ("en", "tr"):
        write_tsv(pd.DataFrame(rows), folder / f"{name}_{language}.tsv")
    return Benchmark(
        name=name,
        folder=str(folder),
        files={language: f"{name}_{language}.tsv" for language in ("en", "tr")},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=4),
    )


def write_set(folder: Path, images: dict[str, bytes]) -> ConversationSet:
    (folder / "images").mkdir()
    for name, content in images.items():
        (folder / "images" / name).write_bytes(content)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    samples = [{"id": f"of {name}", "image": name, "conversations": turns} for name in images]
    (folder / "set.json").write_text(json.dumps(samples))
    file = str(folder / "set.json")
    return ConversationSet(
        kind="conversations", file=file, images=str(folder / "images"), licence="none", source="local"
    )


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    return write_benchmark(tmp_path, [encoded(drawing(seed)) for seed in range(ASKED)])


def found(sets: list[ConversationSet], benchmark: Benchmark, folder: Path) -> dict[str, tuple[str, int]]:
    """Each training image that is a copy: of which benchmark image, and at which distance."""
    pairs, counts = copies(sets, [benchmark], OverlapSettings(), folder)
    assert counts == {benchmark.name: ASKED}
    return {Path(pair.training.path).name: (pair.benchmark.where, pair.distance) for pair in pairs}


def test_planted_copies_are_found_and_other_images_are_not(benchmark: Benchmark, tmp_path: Path) -> None:
    planted = {
        "exact.png": encoded(drawing(0)),
        "again.png": encoded(drawing(1), optimize=True),
        "encoded.jpg": encoded(drawing(2), "JPEG", quality=60),
        "half.png": encoded(drawing(3).resize((SIDE // 2, SIDE // 2))),
        "both.jpg": encoded(drawing(4).resize((SIDE // 2, SIDE // 2)), "JPEG", quality=60),
        "transparent.webp": encoded(drawing(5).convert("RGBA"), "WEBP", lossless=True),
    }
    others = {f"{seed}.png": encoded(drawing(seed)) for seed in range(100, 140)}
    entry = write_set(tmp_path, planted | others)
    pairs = found([entry], benchmark, tmp_path / "work")
    assert {name: where for name, (where, _) in pairs.items()} == {
        name: f"{tmp_path}/quiz_en.tsv: row {row}" for row, name in enumerate(planted)
    }
    assert pairs["exact.png"][1] == 0


def test_a_copy_says_where_both_images_are(benchmark: Benchmark, tmp_path: Path) -> None:
    entry = write_set(tmp_path, {"mine.png": encoded(drawing(7))})
    (pair,), _ = copies([entry, entry], [benchmark], OverlapSettings(), tmp_path / "work")
    assert pair.benchmark.languages == ("en", "tr")
    assert pair.benchmark.image_sha256 == image_id(base64.b64encode(encoded(drawing(7))).decode())
    assert (pair.training.file, pair.training.sample) == (entry.file, "of mine.png")
    assert pair.correlation == 1
    assert pair.thumbnails[0] == pair.thumbnails[1] == fingerprint(drawing(7)).thumbnail


def test_training_images_may_lie_in_an_archive(benchmark: Benchmark, tmp_path: Path) -> None:
    entry = write_set(tmp_path, {"a.jpg": encoded(drawing(3), "JPEG", quality=60), "b.png": encoded(drawing(60))})
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        for path in (tmp_path / "images").iterdir():
            file.write(path, path.name)
    archived = entry.model_copy(update={"images": str(tmp_path / "images.zip")})
    expected = found([entry], benchmark, tmp_path / "work")
    assert expected.keys() == {"a.jpg"}
    assert found([archived], benchmark, tmp_path / "work") == expected


def test_a_second_start_decodes_what_changed_alone(
    benchmark: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write_set(tmp_path, {"a.png": encoded(drawing(0)), "b.png": encoded(drawing(50))})
    first = found([entry], benchmark, tmp_path / "work")
    decoded = []
    monkeypatch.setattr(fingerprints, "fingerprint", lambda image: decoded.append(image.size) or fingerprint(image))
    assert found([entry], benchmark, tmp_path / "work") == first
    assert not decoded
    (tmp_path / "images/b.png").write_bytes(encoded(drawing(1), optimize=True))
    assert found([entry], benchmark, tmp_path / "work").keys() == {"a.png", "b.png"}
    assert len(decoded) == 1


def test_damaged_fingerprints_are_taken_again(
    benchmark: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = write_set(tmp_path, {"a.png": encoded(drawing(0))})
    first = found([entry], benchmark, tmp_path / "work")
    for path in (tmp_path / "work").rglob("*.arrow"):
        path.write_bytes(path.read_bytes()[:-100])
    assert found([entry], benchmark, tmp_path / "work") == first
    assert capsys.readouterr().err.count(": damaged; ") == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no image", "set.json: sample of a.png: image: {path} cannot be decoded: unknown format"),
        (encoded(drawing(0))[:400], "set.json: sample of a.png: image: {path} cannot be decoded: "),
        (b"", "set.json: sample of a.png: image: {path} cannot be decoded: "),
    ],
)
def test_a_damaged_image_is_one_line(benchmark: Benchmark, tmp_path: Path, content: bytes, said: str) -> None:
    entry = write_set(tmp_path, {"a.png": content})
    with pytest.raises(UserError) as error:
        copies([entry], [benchmark], OverlapSettings(), tmp_path / "work")
    assert str(error.value).startswith(f"{tmp_path}/{said.format(path=tmp_path / 'images/a.png')}")
    assert "\n" not in str(error.value)


def test_a_missing_image_is_one_line(benchmark: Benchmark, tmp_path: Path) -> None:
    entry = write_set(tmp_path, {"a.png": encoded(drawing(0))})
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(UserError, match=r"set\.json: sample of a\.png: image: .*a\.png is missing$"):
        copies([entry], [benchmark], OverlapSettings(), tmp_path / "work")


@pytest.mark.parametrize("distance", [0, 8, 24, 64])
@pytest.mark.parametrize("at_once", [1, 50, 1 << 16])
def test_candidates_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch, distance: int, at_once: int) -> None:
    monkeypatch.setattr(overlap, "COMPARED_AT_ONCE", at_once)
    random = np.random.default_rng(3)
    training = random.integers(0, 2**64, 61, dtype=np.uint64)
    benchmark = np.concatenate([random.integers(0, 2**64, 17, dtype=np.uint64), training[:3], ~training[:2]])
    expected = {
        (i, j, bits)
        for i, first in enumerate(training.tolist())
        for j, second in enumerate(benchmark.tolist())
        if (bits := (first ^ second).bit_count()) <= distance
    }
    pairs = candidates(training, benchmark, distance)
    assert len(pairs.distance) == len(expected)
    assert {tuple(map(int, pair)) for pair in zip(*pairs, strict=True)} == expected


def test_there_may_be_nothing_to_compare() -> None:
    none, some = np.empty(0, dtype=np.uint64), np.arange(3, dtype=np.uint64)
    for pair in ((none, some), (some, none), (none, none)):
        assert [len(column) for column in candidates(*pair)] == [0, 0, 0]


def test_images_of_one_colour_are_copies_where_they_are_equal() -> None:
    colours = [(255, 0, 0), (255, 0, 0), (250, 10, 0), (255, 255, 255)]
    plain = np.array([np.full((32, 32, 3), colour) for colour in colours], dtype=np.uint8)
    drawn = np.frombuffer(fingerprint(drawing(1)).thumbnail, dtype=np.uint8).reshape(1, 32, 32, 3)
    assert correlation(plain[:1].repeat(4, axis=0), plain).tolist() == [1, 1, 0, 0]
    assert correlation(plain[:1], drawn).tolist() == [0]
    assert correlation(drawn, drawn).tolist() == [1]
    assert correlation(drawn, 255 - drawn) == pytest.approx([-1])


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_any_mode_have_fingerprints(mode: str) -> None:
    image = drawing(2).convert("L").convert("I").convert("I;16") if mode == "I;16" else drawing(2).convert(mode)
    hash64, thumbnail = fingerprint(image)
    assert 0 <= hash64 < 2**64
    assert len(thumbnail) == 3072


def test_a_jpeg_decoded_at_a_reduced_size_is_a_copy_of_itself() -> None:
    content = encoded(drawing(3).resize((512, 512)), "JPEG", quality=90)
    whole, reduced = Image.open(io.BytesIO(content)), Image.open(io.BytesIO(content))
    reduced.draft("RGB", (1, 1))
    assert reduced.size == (64, 64)
    (first, a), (second, b) = fingerprint(whole), fingerprint(reduced)
    both = [np.frombuffer(each, dtype=np.uint8).reshape(1, 32, 32, 3) for each in (a, b)]
    assert (first ^ second).bit_count() <= 2
    assert correlation(*both)[0] > 0.99
