"""Wordings, keys, colours and image files, one by one."""

from __future__ import annotations

import io
import json
import random
import string
import zlib

import pytest
from PIL import Image, ImageDraw

from parrot.constants import PAPER_LANGUAGES
from parrot.errors import UserError
from parrot.mini.compose.colours import absent_colours, colour_of, main_colour
from parrot.mini.compose.concepts import Concepts, load_concepts
from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import KINDS, Key, Question, is_reserved, make_key, word
from parrot.mini.compose.scenes import Scene, encode
from parrot.mini.compose.training_questions import Drawer
from tests.helpers.prompt_reader import PromptReader
from tests.unit.mini.compose.marked_images import SHIPPED


def test_a_question_is_worded_in_every_language(material: Material) -> None:
    question = Question(
        "counting", "counting", "noto", Scene("count", ("dog", "dog")), ("1", "2", "3", "4"), 1, "dog", "dog"
    )
    english = word(question, "en", material.phrases)
    assert english.prompt("Say it.") == "How many of this: dog?\nA. 1\nB. 2\nC. 3\nD. 4\nSay it."
    assert (english.answer, english.image_text) == ("2", "dog, dog")
    russian = word(question, "ru", material.phrases)
    assert (russian.question, russian.image_text) == ("Сколько раз это изображено: собака?", "собака, собака")


@pytest.mark.parametrize(
    ("scene", "colour", "text"),
    [
        (Scene("horizontal", ("dog", "rose")), "", "dog | rose"),
        (Scene("vertical", ("dog", "rose")), "", "dog / rose"),
        (Scene("single", ("rose",)), "red", "rose: red"),
        (Scene("count", ("rose",) * 3), "", "rose, rose, rose"),
    ],
)
def test_a_scene_in_words(material: Material, scene: Scene, colour: str, text: str) -> None:
    assert material.phrases.scene(scene, "en", colour) == text


def test_a_key_ignores_language_wording_and_order(material: Material) -> None:
    english = PromptReader(material.phrases, "en")
    expected = Key("position", "", frozenset({"dog", "rose", "bus", "sun"}))
    assert english.key("<image>\nWhat is on the left?\nA. dog\nB. rose\nC. bus\nD. sun\nSay it.") == expected
    russian = PromptReader(material.phrases, "ru").key(
        "Что находится справа?\nA. солнце\nB. роза\nC. автобус\nD. собака"
    )
    assert russian == expected == make_key("left", "", ["sun", "bus", "rose", "dog"])
    yes_no = english.key("dog\nDoes the picture show this: rose?\nA. yes\nB. no\nSay it.")
    assert yes_no == Key("yes_no", "rose", frozenset({"yes", "no"}))
    assert english.key("Describe the picture.") is None
    with pytest.raises(ValueError, match="unknown wording"):
        english.key("Which of these is blue?\nA. dog\nB. rose")


def test_about_a_quarter_of_the_keys_is_reserved() -> None:
    rng = random.Random(0)
    keys = [make_key("naming", "", rng.sample(string.ascii_letters, 4)) for _ in range(4000)]
    assert 0.22 < sum(map(is_reserved, keys)) / len(keys) < 0.28


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_questions_are_never_reserved_and_always_decidable(material: Material, kind: str) -> None:
    drawer, rng = Drawer(material, ("noto", "fxemoji")), random.Random(kind)
    for _ in range(200):
        question = drawer.draw(kind, rng)
        assert question.kind == kind
        assert not is_reserved(question.key)
        assert material.tell_apart(question.subject, question.options)
        for language in PAPER_LANGUAGES:
            worded = word(question, language, material.phrases, rng.randrange(6))
            assert PromptReader(material.phrases, language).key(worded.prompt("?")) == question.key


@pytest.mark.parametrize("language", PAPER_LANGUAGES)
def test_wordings_are_distinct_complete_and_name_after_a_colon(language: str) -> None:
    """A name that stands after a colon and before punctuation needs no inflection."""
    phrases = json.loads((SHIPPED / "phrases.json").read_text(encoding="utf-8"))
    all_wordings = [w for wordings in phrases["question"].values() for w in wordings[language]]
    assert len(set(all_wordings)) == len(all_wordings)
    assert all(len(wordings[language]) >= 2 for wordings in phrases["question"].values())
    for wording in [*all_wordings, *phrases["caption"][language]]:
        before, brace, after = wording.partition("{")
        if brace:
            assert before.rstrip().endswith((":", "：")), wording
            assert after.partition("}")[2][0] in ".?。？؟", wording
    named = {s for s, wordings in phrases["question"].items() if any("{" in w for w in wordings[language])}
    assert named == {"counting", "same_different", "yes_no"}


@pytest.mark.parametrize("language", ["zh", "ar", "ru"])
def test_wordings_have_no_letters_of_another_script(language: str) -> None:
    phrases = json.loads((SHIPPED / "phrases.json").read_text(encoding="utf-8"))
    wordings = [w for group in phrases["question"].values() for w in group[language]]
    wordings += [option[language] for option in phrases["option"].values()]
    for wording in wordings:
        assert not set(wording.replace("{name}", "")) & set(string.ascii_letters), wording


def _sprite(*bands: tuple[tuple[int, int, int], int]) -> Image.Image:
    """Horizontal bands of colour and height on a transparent ground."""
    sprite, top = Image.new("RGBA", (40, 40), (0, 0, 0, 0)), 0
    for colour, height in bands:
        ImageDraw.Draw(sprite).rectangle((0, top, 39, top + height - 1), fill=(*colour, 255))
        top += height
    return sprite


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((221, 46, 68), "red"),
        ((244, 144, 12), "orange"),
        ((255, 220, 60), "yellow"),
        ((119, 178, 85), "green"),
        ((85, 172, 238), "blue"),
        ((146, 102, 204), "purple"),
        ((244, 171, 186), "pink"),
        ((138, 75, 56), "brown"),
        ((153, 153, 153), "gray"),
        ((41, 47, 51), "black"),
        ((250, 250, 250), "white"),
    ],
)
def test_colours_have_their_names(rgb: tuple[int, int, int], name: str) -> None:
    assert colour_of(*rgb) == name


def test_the_main_colour_covers_more_than_45_per_cent_of_what_is_opaque() -> None:
    red, blue, green = (220, 20, 20), (20, 60, 220), (20, 160, 40)
    assert main_colour(_sprite((red, 6), (blue, 4))) == "red"
    assert main_colour(_sprite((red, 4), (blue, 4), (green, 4))) is None
    assert main_colour(_sprite(((255, 255, 255), 30), (red, 5))) is None


def test_a_colour_that_some_would_see_is_not_absent() -> None:
    absent = absent_colours(_sprite(((255, 165, 40), 30), ((20, 60, 220), 1)))
    assert {"green", "purple", "pink", "black", "blue"} <= absent
    assert not {"orange", "yellow"} & absent


def test_png_files_hold_the_pixels_uncompressed() -> None:
    image = Image.frombytes("RGB", (40, 40), random.Random(0).randbytes(40 * 40 * 3))
    data = encode(image)
    with Image.open(io.BytesIO(data)) as decoded:
        assert decoded.tobytes() == image.tobytes()
    assert len(data) == len(encode(Image.new("RGB", (40, 40)))) == 8 + 25 + 12 + (2 + 5 + 40 * 121 + 4) + 12
    start = data.index(b"IDAT") + 4
    assert zlib.decompress(data[start : start + 2 + 5 + 40 * 121 + 4])[1:121] == image.tobytes()[:120]


def test_large_images_take_several_stored_blocks() -> None:
    image = Image.frombytes("RGB", (200, 200), random.Random(1).randbytes(200 * 200 * 3))
    with Image.open(io.BytesIO(encode(image))) as decoded:
        assert decoded.tobytes() == image.tobytes()


def test_the_unseen_fifth_is_spread_over_the_categories(material: Material) -> None:
    hidden = material.concepts.unseen_in_language()
    assert len(hidden) == len(material.concepts.ids) // 5
    assert all(len(hidden & set(members)) <= len(members) / 2 for members in material.categories.values())


def test_names_must_be_unique_and_there(tmp_path, material: Material) -> None:
    entries = json.loads((SHIPPED / "concepts.json").read_text(encoding="utf-8"))[:3]
    (tmp_path / "categories.json").write_text(
        (SHIPPED / "categories.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    path = tmp_path / "concepts.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    assert isinstance(load_concepts(tmp_path, 3, None), Concepts)
    with pytest.raises(UserError, match=r"concepts\.json: expected at least 4 concepts, found 3"):
        load_concepts(tmp_path, 4, None)
    entries[2]["names"]["tr"] = entries[0]["names"]["tr"]
    path.write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(UserError, match=r"names\.tr: .* is also the name of"):
        load_concepts(tmp_path, 3, None)
