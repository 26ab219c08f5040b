"""Making the raw material: finding drawings, telling images apart, ordering, reproducible archives."""

import io
import zipfile

import pytest
from PIL import Image, ImageDraw

from parrot.errors import UserError
from parrot.mini.sources import check
from parrot.mini.sources.concepts import Concept
from parrot.mini.sources.emoji_sets import EMOJI_SETS, Drawings, drawing_of
from parrot.mini.sources.packages import Package, fetch
from parrot.mini.sources.selection import FILE, interleave, read_selection
from parrot.mini.sources.ship import archive

EMOJI_SET = {emoji_set.name: emoji_set for emoji_set in EMOJI_SETS}
CRAB = Concept("crab", "1f980", "", "", {}, ("crab",))
CAKE = Concept("moon-cake", "1f96e", "", "", {}, ("moon-cake", "moon_cake"))


def drawings(emoji_set, icons, by_codepoint=None, aliases=None):
    return Drawings(
        EMOJI_SET[emoji_set], {name: {"body": ""} for name in icons}, aliases or {}, (1, 1), by_codepoint or {}
    )


def disc(colour, box=(8, 8, 56, 56)):
    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).ellipse(box, fill=colour)
    return image


def test_own_code_point_wins_over_a_drawing_of_that_name():
    emoji_sets = {"noto": drawings("noto", ["crab", "cancer"], {"1f980": "cancer"})}
    assert drawing_of(emoji_sets, EMOJI_SET["noto"], CRAB, None) == "cancer"


def test_emoji_set_without_code_points_follows_its_sibling():
    emoji_sets = {
        "noto": drawings("noto", ["shellfish"], {"1f980": "shellfish"}),
        "noto-v1": drawings("noto-v1", ["crab", "shellfish"]),
    }
    assert drawing_of(emoji_sets, EMOJI_SET["noto-v1"], CRAB, None) == "shellfish"


def test_old_names_without_hyphens_are_found_and_names_by_hand_come_first():
    emoji_sets = {"fxemoji": drawings("fxemoji", ["mooncake", "pastry"])}
    assert drawing_of(emoji_sets, EMOJI_SET["fxemoji"], CAKE, None) == "mooncake"
    assert drawing_of(emoji_sets, EMOJI_SET["fxemoji"], CAKE, "pastry") == "pastry"
    assert drawing_of(emoji_sets, EMOJI_SET["fxemoji"], CRAB, None) is None


def test_mirrored_alias_is_not_a_drawing_of_its_own():
    aliases = {"left": {"parent": "right", "hFlip": True}, "same": {"parent": "right"}}
    emoji_set = drawings("noto", ["right"], aliases=aliases)
    assert emoji_set.find(["left"]) is None
    assert emoji_set.find(["left", "same"]) == "same"


def test_image_that_looks_like_other_things_is_doubtful():
    colours = {"tomato": "red", "lake": "blue", "sea": "navy", "sky": "royalblue"}
    images = {name: {"noto": disc(colour), "emojione": disc(colour)} for name, colour in colours.items()}
    assert check.doubtful(images, "emojione", ["noto"]) == []
    images["tomato"]["emojione"] = disc("mediumblue")
    assert check.doubtful(images, "emojione", ["noto"]) == ["tomato"]


def test_almost_identical_images_of_two_concepts_are_found_once_in_their_emoji_set():
    images = {
        "sun": {"noto": disc("orange"), "fluent": disc("orange")},
        "moon": {"noto": disc("orange", (9, 8, 56, 56)), "fluent": disc("white", (20, 8, 40, 56))},
    }
    assert check.alike(images, ["noto", "fluent"]) == [("noto", "sun", "moon")]


def test_interleaving_takes_one_of_each_category_in_turn():
    assert interleave({"a": ["a1", "a2", "a3"], "b": ["b1"], "c": ["c1", "c2"]}) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_archive_depends_on_images_only_and_drops_unseen_colour():
    hidden = disc("red")
    ground = Image.new("RGBA", (64, 64), (9, 9, 9, 0))
    ground.paste(hidden, mask=hidden.getchannel("A"))
    one = archive({"b.png": disc("blue"), "a.png": hidden})
    assert one == archive({"a.png": ground, "b.png": disc("blue")})
    with zipfile.ZipFile(io.BytesIO(one)) as file, Image.open(io.BytesIO(file.read("a.png"))) as image:
        assert image.tobytes() == hidden.tobytes()


def test_package_with_other_bytes_is_refused(tmp_path):
    package = Package("@scope/thing", "1.0.0", "0" * 64)
    (tmp_path / "scope-thing-1.0.0.tgz").write_bytes(b"other")
    with pytest.raises(UserError, match="scope-thing-1.0.0.tgz: expected sha256 0000"):
        fetch(package, tmp_path)


def test_unknown_concept_in_the_selection_is_named():
    with pytest.raises(UserError, match=r"selection.yaml: dog: expected a concept that passes the filters"):
        read_selection([], FILE)
