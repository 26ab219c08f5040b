"""A conversation set whose images stay in archives is checked and trained on like one with a folder of images."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from parrot.config.catalog import ConversationSet
from parrot.data.collate import Collator
from parrot.data.conversations import load
from parrot.data.feature_store import digests_of, remember
from parrot.data.images import inspect_image
from parrot.fetch.integrity import Reader, inspect_set
from parrot.io.archives import open_archive
from parrot.io.files import archive_or_self, split_path
from parrot.model.processing_parrot import ParrotProcessor, processor_of
from tests.helpers.tiny_training import write_backbones, write_set

MAX_LENGTH = 160


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> ParrotProcessor:
    folder = tmp_path_factory.mktemp("backbones")
    write_backbones(folder)
    return processor_of(folder / "clip", folder / "qwen", "cls_patch")


@pytest.fixture
def loose(tmp_path: Path) -> ConversationSet:
    """Ten samples, the fifth and the tenth of text alone."""
    return write_set(tmp_path, "my", count=10)


def zip_images(entry: ConversationSet, archive: Path, wrapper: str = "") -> None:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(Path(str(entry.images)).iterdir()):
            file.write(path, f"{wrapper}{path.name}")


@pytest.fixture
def archived(loose: ConversationSet, tmp_path: Path) -> ConversationSet:
    zip_images(loose, tmp_path / "images.zip")
    return loose.model_copy(update={"images": str(tmp_path / "images.zip")})


def pixels(entry: ConversationSet, processor: ParrotProcessor, folder: Path) -> torch.Tensor:
    rows = load((entry,), processor, folder, MAX_LENGTH)
    return Collator(processor, "text", MAX_LENGTH)([row for row in rows if row["image"]])["pixel_values"]


def test_the_same_pixels_are_trained_on(
    loose: ConversationSet, archived: ConversationSet, processor: ParrotProcessor, tmp_path: Path
) -> None:
    expected = pixels(loose, processor, tmp_path / "loose")
    shutil.rmtree(str(loose.images))
    assert pixels(archived, processor, tmp_path / "archived").equal(expected)
    assert len(expected) == 8


def test_the_check_reads_every_image(
    loose: ConversationSet, archived: ConversationSet, processor: ParrotProcessor
) -> None:
    expected = inspect_set(loose, [Reader(processor, MAX_LENGTH)])
    found = inspect_set(archived, [Reader(processor, MAX_LENGTH)])
    assert (found.counts, found.problems) == (expected.counts, [])
    assert len(found.images) == len(expected.images) == 8


def test_fields_that_begin_differently_lead_to_different_places(loose: ConversationSet, tmp_path: Path) -> None:
    """As in LLaVA's mix: one set, several archives, and a folder inside of one that the field does not name."""
    zip_images(loose, tmp_path / "coco.zip", "train2017/")
    samples = json.loads(Path(loose.file).read_text())
    for number, sample in enumerate(samples):
        if "image" in sample:
            sample["image"] = f"coco/{sample['image']}" if number % 2 else f"own/{sample['image']}"
    Path(loose.file).write_text(json.dumps(samples))
    places = {"coco/": f"{tmp_path}/coco.zip/train2017", "own/": loose.images}
    entry = loose.model_copy(update={"images": places})
    assert inspect_set(entry, []).problems == []
    assert list(map(archive_or_self, places.values())) == [f"{tmp_path}/coco.zip", loose.images]

    samples[0]["image"] = "sam/1.png"
    Path(loose.file).write_text(json.dumps(samples))
    (problem,) = inspect_set(entry, []).problems
    assert "image: expected a path that begins with coco/ or own/ (images), found sam/1.png" in problem


def test_what_an_archive_lacks_is_named(archived: ConversationSet, tmp_path: Path) -> None:
    samples = json.loads(Path(archived.file).read_text())
    with zipfile.ZipFile(tmp_path / "images.zip", "a") as file:
        file.writestr("empty.png", b"")
    samples[0]["image"], samples[1]["image"] = "none.png", "empty.png"
    Path(archived.file).write_text(json.dumps(samples))
    assert inspect_set(archived, []).problems == [
        f"{archived.file}: sample my-0: image: {tmp_path}/images.zip/none.png is missing",
        f"{archived.file}: sample my-1: image: {tmp_path}/images.zip/empty.png is empty",
    ]


def test_a_member_that_cannot_be_decoded_is_found_before_training(archived: ConversationSet, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "a") as file:
        file.writestr("text.png", b"no image")
    samples = json.loads(Path(archived.file).read_text())
    samples[0]["image"] = "text.png"
    Path(archived.file).write_text(json.dumps(samples))
    images = inspect_set(archived, []).images
    faults = [inspect_image(path, where).fault for path, where in images.items()]
    where = images[f"{tmp_path}/images.zip/text.png"]
    assert [fault for fault in faults if fault] == [f"{where} cannot be decoded: unknown format"]


def test_a_damaged_member_is_named_with_its_sample(archived: ConversationSet, tmp_path: Path) -> None:
    images = inspect_set(archived, []).images
    path, where = next(iter(images.items()))
    _, name = split_path(path) or pytest.fail(path)
    size, crc = (
        getattr(zipfile.ZipFile(tmp_path / "images.zip").getinfo(name), field) for field in ("file_size", "CRC")
    )
    content = bytearray((tmp_path / "images.zip").read_bytes())
    content[100] ^= 1  # within the first member
    (tmp_path / "images.zip").write_bytes(content)
    open_archive.cache_clear()
    fault = f"{where}: {path}: the archive is damaged there: expected {size} bytes with CRC {crc:08x}"
    assert inspect_image(path, where).fault == fault


def test_features_know_members_by_their_content(
    loose: ConversationSet, archived: ConversationSet, tmp_path: Path
) -> None:
    names = [path.name for path in sorted(Path(str(loose.images)).iterdir())]
    of_files = digests_of([f"{loose.images}/{name}" for name in names], tmp_path / "known.json")
    of_members = digests_of([f"{archived.images}/{name}" for name in names], tmp_path / "known.json")
    assert list(of_files.values()) == list(of_members.values())
    remember(of_members, tmp_path / "known.json")
    assert digests_of(of_members, tmp_path / "known.json") == of_members
