"""The composed folder: formats, balance, chance, disjointness, determinism."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import load_catalogue
from parrot.errors import UserError
from parrot.evaluate.matching import infer
from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import KINDS, is_reserved
from parrot.mini.compose.write import compose
from tests.helpers.prompt_reader import PromptReader
from tests.unit.mini.compose.composed_files import (
    BENCHMARKS,
    LANGUAGES,
    Asked,
    conversations,
    image_of,
    options_of,
    questions,
    right_text,
    table,
)
from tests.unit.mini.compose.marked_images import SHIPPED

pytestmark = pytest.mark.slow

COLUMNS = [
    *("index", "question", "hint", "A", "B", "C", "D", "answer", "category", "l2-category", "split", "image"),
    *("image_source", "difficulty", "concept", "image_text", "shuffled", "pair_id"),
    *("unseen_in_language", "answer_names"),
]
ROOT = SHIPPED.parents[2]
INSTRUCTION = load_catalogue(ROOT / "config" / "benchmarks.yaml", Benchmark)["mini_mmmb"].instruction
SAMPLES = {"en": 5000, "zh": 2200, "pt": 2200, "ar": 2200, "tr": 2200, "ru": 2200}


# --- formats ---------------------------------------------------------------------------------------------------------


def test_conversations_are_llava_samples_whose_images_exist(shipped: Path) -> None:
    files = {shipped / "align" / "captions.json": 3000}
    files |= {shipped / "sft" / f"sft_{language}.json": count for language, count in SAMPLES.items()}
    files |= {shipped / "validation" / f"val_{language}.json": 100 for language in LANGUAGES}
    for path, count in files.items():
        samples = conversations(path)
        assert len(samples) == len({sample["id"] for sample in samples}) == count
        for sample in samples:
            human, gpt = sample["conversations"]
            assert (human["from"], gpt["from"]) == ("human", "gpt")
            assert human["value"].startswith("<image>\n") == ("image" in sample)
            assert human["value"].count("<image>") == ("image" in sample)
            assert "image" not in sample or (path.parent / "images" / sample["image"]).is_file()


def test_images_are_forty_pixels_square_and_few_enough_for_dvc(shipped: Path) -> None:
    images = list(shipped.rglob("*.png"))
    assert len(images) < 16_000
    for path in images[::97]:
        with Image.open(path) as image:
            assert (image.size, image.mode) == ((40, 40), "RGB")
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) < 70e6


def test_questions_end_with_the_instruction_and_offer_their_answer(shipped: Path) -> None:
    for language in LANGUAGES:
        path = shipped / "sft" / f"sft_{language}.json"
        for sample, asked in zip(conversations(path), questions(path), strict=True):
            assert sample["conversations"][0]["value"].endswith(f"\n{INSTRUCTION[language]}")
            assert asked.answer in asked.options
            assert len(set(asked.options)) == len(asked.options) in (2, 4)


def test_stage_one_is_english_script_only(shipped: Path) -> None:
    for sample in conversations(shipped / "align" / "captions.json"):
        assert all(turn["value"].isascii() for turn in sample["conversations"]), sample


def test_one_sample_in_twenty_has_words_for_an_image(shipped: Path) -> None:
    for language, count in SAMPLES.items():
        samples = conversations(shipped / "sft" / f"sft_{language}.json")
        assert sum("image" not in sample for sample in samples) == count // 20


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_benchmarks_are_parallel_in_six_languages(shipped: Path, benchmark: str) -> None:
    reference = table(shipped, benchmark, "en")
    assert list(reference.columns) == COLUMNS
    for language in LANGUAGES[1:]:
        rows = table(shipped, benchmark, language)
        same = ["index", "answer", "category", "image", "image_source", "difficulty", "concept", "shuffled", "pair_id"]
        pd.testing.assert_frame_equal(rows[same], reference[same])
        for index, row in rows.iterrows():
            names = json.loads(row["answer_names"])
            assert tuple(names) == LANGUAGES
            assert names[language] == right_text(row)
            assert names["en"] == right_text(reference.loc[index])
    assert set(reference["unseen_in_language"]) == {"0"}
    assert {image_of(row, reference).size for _, row in reference.iterrows()} == {(40, 40)}


def test_circular_rows_turn_their_options(shipped: Path) -> None:
    for language in LANGUAGES:
        rows = table(shipped, "MMBench_dev", language)
        groups = rows.groupby(rows["index"].astype(int) % 1_000_000)
        assert len(groups) == 64
        for first, group in groups:
            base = rows.loc[str(first)]
            options = options_of(base)
            assert list(group["index"].astype(int)) == [first + turn * 1_000_000 for turn in range(len(options))]
            for turn, (_, row) in enumerate(group.iterrows()):
                assert options_of(row) == options[turn:] + options[:turn]
                assert right_text(row) == right_text(base)
                assert row["shuffled"] in rows["index"]
            assert Counter(group["answer"]) == Counter("ABCD"[: len(options)])


def test_yes_no_rows_come_in_pairs_about_one_image(shipped: Path) -> None:
    rows = table(shipped, "MMMB", "en")
    assert (
        set(rows["category"][rows["pair_id"] != ""])
        == {"yes_no"}
        == set(rows["category"][rows["D"] + rows["C"] == ""]) - {"same_different"}
    )
    for _, pair in rows[rows["pair_id"] != ""].groupby("pair_id"):
        assert sorted(right_text(row) for _, row in pair.iterrows()) == ["no", "yes"]
        assert pair["image"].nunique() == 1
        assert pair["question"].nunique() == 2


# --- what a benchmark can be answered from ---------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("matcher", ["current", "may2024"])
def test_the_matcher_maps_every_option_to_its_letter(
    shipped: Path, benchmark: str, language: str, matcher: str
) -> None:
    for _, row in table(shipped, benchmark, language).iterrows():
        choices = {letter: row[letter] for letter in "ABCD" if row[letter]}
        assert {letter: infer(text, choices, matcher) for letter, text in choices.items()} == {
            letter: letter for letter in choices
        }


def test_kinds_emoji_sets_and_difficulties_are_even(shipped: Path) -> None:
    rows = table(shipped, "MMMB", "en")
    assert len(rows) >= 300
    assert Counter(zip(rows["image_source"], rows["category"], strict=True)) == {
        (emoji_set, kind): count for emoji_set, count in (("twemoji", 28), ("openmoji", 12)) for kind in KINDS
    }
    assert len(KINDS) >= 8
    for kind in ("position", "same_different", "yes_no"):
        hard = Counter(rows["difficulty"][rows["category"] == kind])
        assert set(hard) == {"easy", "hard"}
        assert hard["easy"] == hard["hard"]
    letters = Counter(rows["answer"][rows["D"] != ""])
    assert letters == dict.fromkeys("ABCD", 60)
    assert Counter(rows["answer"][rows["D"] == ""]) == {"A": 40, "B": 40}


def _by_text(rows: pd.DataFrame) -> list[Counter[str]]:
    """For each question with its options in any order: how often each option is right."""
    right: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for _, row in rows.iterrows():
        key = (row["question"], *sorted(options_of(row)))
        right[key].update(dict.fromkeys(options_of(row), 0))
        right[key][right_text(row)] += 1
    return list(right.values())


@pytest.mark.parametrize("benchmark", ["MMMB", "MMMB_val"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_even_the_best_answerer_of_a_blank_image_is_at_chance(shipped: Path, benchmark: str, language: str) -> None:
    for counts in _by_text(table(shipped, benchmark, language)):
        assert len(set(counts.values())) == 1, counts


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_guesser_fitted_on_the_training_answers_is_within_three_points_of_chance(
    shipped: Path, language: str
) -> None:
    offered: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for asked in questions(shipped / "sft" / f"sft_{language}.json"):
        offered.update(asked.options)
        right[asked.answer] += 1
    rows = table(shipped, "MMMB", language)
    for _, of_emoji_set in rows.groupby("image_source"):
        hits = chance = 0.0
        for _, row in of_emoji_set.iterrows():
            options = options_of(row)
            guess = max(options, key=lambda text: right[text] / offered[text] if offered[text] else 0)
            hits += guess == right_text(row)
            chance += 1 / len(options)
        assert abs(hits - chance) / len(of_emoji_set) < 0.03


def test_training_answers_favour_no_option(shipped: Path) -> None:
    """Kinds with fixed options, and colours: right as often as offered, within sampling error."""
    for texts, floor, ceiling in ((("yes", "no", "same", "different"), 0.44, 0.56), (("1", "2", "3", "4"), 0.2, 0.3)):
        asked = [a for a in questions(shipped / "sft" / "sft_en.json") if set(a.options) <= set(texts)]
        for text in texts:
            of_text = [a for a in asked if text in a.options]
            assert floor < sum(a.answer == text for a in of_text) / len(of_text) < ceiling, text


# --- disjointness ----------------------------------------------------------------------------------------------------


def _key(asked: Asked, reader: PromptReader) -> object:
    lettered = [f"{letter}. {text}" for letter, text in zip("ABCD", asked.options, strict=False)]
    return reader.key("\n".join((asked.question, *lettered)))


def test_no_training_question_is_a_benchmark_question_in_any_language_or_order(
    shipped: Path, material: Material
) -> None:
    readers = {language: PromptReader(material.phrases, language) for language in LANGUAGES}
    training = {
        _key(asked, readers[language])
        for language in LANGUAGES
        for file in (shipped / "sft" / f"sft_{language}.json", shipped / "validation" / f"val_{language}.json")
        for asked in questions(file)
    }
    keys_by_language = defaultdict(set)
    for benchmark in BENCHMARKS:
        for language in LANGUAGES:
            for _, row in table(shipped, benchmark, language).iterrows():
                asked = Asked(row["question"], tuple(options_of(row)), right_text(row), None)
                keys_by_language[language].add(_key(asked, readers[language]))
    assert len(training) > 2000
    assert len(keys_by_language["en"]) > 90
    assert all(keys == keys_by_language["en"] for keys in keys_by_language.values())
    assert not training & keys_by_language["en"]
    assert all(is_reserved(key) for key in keys_by_language["en"])


# --- the folder as a whole -------------------------------------------------------------------------------------------


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_composing_again_in_another_process_gives_the_same_bytes(shipped: Path, tmp_path: Path) -> None:
    code = "import json, sys; from pathlib import Path; from parrot.mini.compose.write import compose; "
    code += "compose(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))"
    command = [sys.executable, "-c", code, str(SHIPPED), str(tmp_path / "again"), json.dumps(INSTRUCTION)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, cwd=ROOT)
    assert _digests(tmp_path / "again") == _digests(shipped)


def _pin(folder: Path, read: Callable[[Path], bytes] = Path.read_bytes) -> str:
    """By DVC's rule: the MD5 of the sorted listing of the files' MD5s."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    listing = [{"md5": hashlib.md5(read(folder / name)).hexdigest(), "relpath": name} for name in files]
    return hashlib.md5(json.dumps(listing).encode()).hexdigest() + ".dir"


def test_the_pin_is_that_of_the_composed_folder(shipped: Path) -> None:
    pinned = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"][0]
    assert pinned["path"] == "data/mini"
    assert pinned["md5"] == _pin(shipped), "data.dvc is stale: python -m parrot.mini.compose renews it"


def test_nothing_but_names_differs_from_the_data_of_version_0_1(shipped: Path) -> None:
    """Under that version's names of columns and counts every file has that version's bytes."""

    def under_former_names(path: Path) -> bytes:
        head, line_end, rest = path.read_bytes().partition(b"\n")
        if path.suffix == ".tsv":
            head = head.replace(b"image_source", b"house").replace(b"image_text", b"picture_text")
        if path.name == "filters.json":
            rest = rest.replace(b"images_by_emoji_set", b"pictures_by_house")
            rest = rest.replace(b'"images"', b'"pictures"').replace(b'"image_files"', b'"picture_files"')
        return head + line_end + rest

    assert _pin(shipped, under_former_names) == "a4a1e465c974653d7edf26e4c0bf498d.dir"


def test_incomplete_resources_leave_the_folder_as_it_was(tmp_path: Path) -> None:
    resources, output = tmp_path / "resources", tmp_path / "mini"
    resources.mkdir()
    for name in ("concepts.json", "categories.json", "phrases.json"):
        (resources / name).write_bytes((SHIPPED / name).read_bytes())
    output.mkdir()
    (output / "old").write_text("as it was")
    with pytest.raises(UserError, match=r"noto.*\.zip: expected an archive of images"):
        compose(resources, output, INSTRUCTION)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".mini", "mini"))] == ["mini"]
    assert (output / "old").read_text() == "as it was"


def test_the_filters_file_counts_what_is_there(shipped: Path) -> None:
    counts = json.loads((shipped / "filters.json").read_text(encoding="utf-8"))
    assert counts["image_files"] == len(list(shipped.rglob("*.png")))
    assert counts["instructions"] == SAMPLES
    assert counts["benchmarks"]["MMMB"]["questions"] == len(table(shipped, "MMMB", "en"))
    assert len(counts["concepts"]["unseen_in_language"]) == counts["concepts"]["used"] // 5
    assert sum(sum(b["draws_refused_by_the_matcher"].values()) for b in counts["benchmarks"].values()) > 0
