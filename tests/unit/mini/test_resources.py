"""The shipped raw material of the mini scale is whole, unambiguous and licensed."""

import hashlib
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml
from PIL import Image

from parrot.constants import PAPER_LANGUAGES
from parrot.mini.sources.emoji_sets import EMOJI_SETS
from parrot.mini.sources.packages import GROUPS, NAMES

MINI = Path(__file__).parents[3] / "workflow" / "resources" / "mini"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def concepts():
    return json.loads((MINI / "concepts.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def categories():
    return json.loads((MINI / "categories.json").read_text(encoding="utf-8"))


def archive(emoji_set):
    return zipfile.ZipFile(MINI / "images" / f"{emoji_set}.zip")


def test_checksums_cover_everything_made_and_match():
    lines = (MINI / "checksums.sha256").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    images = {f"images/{path.name}" for path in (MINI / "images").iterdir()}
    assert set(listed) == {"concepts.json", "categories.json", "filters.json"} | images
    for name, digest in listed.items():
        assert hashlib.sha256((MINI / name).read_bytes()).hexdigest() == digest, name


def test_images_stay_under_four_megabytes():
    assert sum(path.stat().st_size for path in (MINI / "images").iterdir()) < 4 * MEGABYTE


@pytest.mark.parametrize("emoji_set", [emoji_set.name for emoji_set in EMOJI_SETS])
def test_archive_holds_exactly_the_concepts_that_the_emoji_set_draws(concepts, emoji_set):
    with archive(emoji_set) as file:
        assert file.namelist() == sorted(f"{c['id']}.png" for c in concepts if emoji_set in c["houses"])
        assert {(member.compress_type, member.date_time) for member in file.infolist()} == {
            (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
        }


def test_only_the_two_oldest_emoji_sets_may_lack_a_concept(concepts):
    everywhere = {"noto", "fluent", "fluent-flat", "emojione", "twemoji", "openmoji"}
    assert all(everywhere <= set(concept["houses"]) for concept in concepts)


@pytest.mark.parametrize("emoji_set", [emoji_set.name for emoji_set in EMOJI_SETS])
def test_images_decode_and_show_something_on_a_transparent_ground(emoji_set):
    with archive(emoji_set) as file:
        for name in file.namelist():
            with Image.open(io.BytesIO(file.read(name))) as image:
                assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (64, 64)), name
                seen = sum(count for alpha, count in enumerate(image.getchannel("A").histogram()) if alpha > 127)
                assert 64 * 64 * 0.03 < seen < 64 * 64, name


@pytest.mark.parametrize("language", PAPER_LANGUAGES)
def test_names_are_unique_and_not_empty(concepts, language):
    names = [concept["names"][language] for concept in concepts]
    assert all(name == name.strip() and name for name in names)
    assert [name for name, count in Counter(map(str.casefold, names)).items() if count > 1] == []


def test_names_are_written_in_their_own_script(concepts):
    letters = {"zh": ("\u4e00", "\u9fff"), "ar": ("\u0600", "\u06ff"), "ru": ("\u0400", "\u04ff")}
    for concept in concepts:
        for language, (first, last) in letters.items():
            assert any(first <= letter <= last for letter in concept["names"][language]), (concept["id"], language)


def test_russian_names_keep_their_short_i(concepts):
    """Names that went through a decomposition lose the breve of this letter."""
    names = {concept["id"]: concept["names"]["ru"] for concept in concepts}
    assert names["french-fries"] == "картофель фри"
    assert names["hot-beverage"] == "горячий напиток"


@pytest.mark.parametrize("language", PAPER_LANGUAGES)
def test_no_category_name_holds_another_or_a_concepts_name(concepts, categories, language):
    names = {category: of[language].casefold() for category, of in categories.items()}
    held = [(one, other) for one in names for other in names if one != other and names[one] in names[other]]
    held += [
        (concept["id"], category)
        for concept in concepts
        for category, name in names.items()
        if concept["names"][language].casefold() in name
    ]
    assert held == []


@pytest.mark.parametrize("count", [80, 120, 160])
def test_first_concepts_are_balanced_over_categories(concepts, categories, count):
    sizes = Counter(concept["category"] for concept in concepts[:count])
    assert sum(sizes.values()) == count
    assert set(sizes) == set(categories)
    assert min(sizes.values()) >= 5


def test_every_package_is_attributed():
    text = (MINI / "LICENCES.md").read_text(encoding="utf-8")
    for package in [*(emoji_set.package for emoji_set in EMOJI_SETS), GROUPS, NAMES]:
        assert f"`{package.name}` {package.version} |" in text
    for file in (MINI / "licences").iterdir():
        assert f"licences/{file.name}" in text


def test_ruled_out_concepts_are_not_shipped(concepts):
    selection = Path(__file__).parents[3] / "parrot" / "mini" / "sources" / "selection.yaml"
    dropped = yaml.safe_load(selection.read_text(encoding="utf-8"))["dropped"]
    assert all(dropped.values())
    assert not dropped.keys() & {concept["id"] for concept in concepts}
