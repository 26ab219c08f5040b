"""The benchmarks: parallel VLMEvalKit-style tables in six languages over emoji sets that training never saw."""

from __future__ import annotations

import base64
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from parrot.config.catalog import Language
from parrot.constants import LANGUAGES, PAPER_LANGUAGES
from parrot.data.tsv import ROTATION, write_tsv
from parrot.mini.compose.benchmark_questions import Block, BlockMaker
from parrot.mini.compose.concepts import FAR_EMOJI_SET, NEAR_EMOJI_SET, VALIDATION_EMOJI_SET
from parrot.mini.compose.material import Material
from parrot.mini.compose.questions import FIXED_OPTIONS, KINDS, Question, word
from parrot.mini.compose.scenes import encode

LETTERS = "ABCD"

# Rows of each kind, by benchmark and emoji set.
ROWS = {
    "MMMB": {NEAR_EMOJI_SET: 28, FAR_EMOJI_SET: 12},
    "MMBench_dev": {NEAR_EMOJI_SET: 4, FAR_EMOJI_SET: 4},
    "MMMB_val": {VALIDATION_EMOJI_SET: 20},
}
CIRCULAR = frozenset({"MMBench_dev"})

_ABILITY = {
    "naming": "recognition",
    "fine_naming": "recognition",
    "category": "recognition",
    "yes_no": "recognition",
    "colour": "attribute",
    "counting": "quantity",
    "position": "relation",
    "same_different": "relation",
}
Row = dict[str, str]


def write_benchmarks(material: Material, folder: Path) -> dict[str, dict[str, object]]:
    """Write all benchmarks in all languages to `folder`; returns rows, images and resampled draws by benchmark."""
    return {name: _write(name, material, folder) for name in ROWS}


def _write(name: str, material: Material, folder: Path) -> dict[str, object]:
    rng = random.Random(name)
    questions: list[Question] = []
    shuffled: list[int] = []
    rejected: Counter[str] = Counter()
    for place, (emoji_set, rows) in enumerate(ROWS[name].items()):
        maker = BlockMaker(material, emoji_set, rng)
        for kind in KINDS:
            blocks = maker.blocks(kind, rows, easy_first=place % 2 == 1)
            shuffled += [len(questions) + other for other in _other_images(blocks, material, rng)]
            questions += [question for block in blocks for question in block]
        rejected += maker.rejected
    images, pairs = _images(questions, material, rng), _pairs(questions)
    hidden = material.concepts.unseen_in_language()
    rows_by_language = {}
    for language in PAPER_LANGUAGES:
        rows_by_language[language] = [
            {
                **_row(question, language, material),
                "index": str(index),
                "image": images[index],
                "shuffled": str(shuffled[index]),
                "pair_id": pairs[index],
                "unseen_in_language": str(int(language != "en" and question.about in hidden)),
            }
            for index, question in enumerate(questions)
        ]
        table = rows_by_language[language]
        if name in CIRCULAR:
            table = [turned for row in table for turned in _rotations(row)]
            table.sort(key=lambda row: int(row["index"]))
        split = "dev" if name in CIRCULAR else "test"
        write_tsv(pd.DataFrame([{column: row.get(column, split) for column in COLUMNS} for row in table]),
                  folder / f"{name}_{LANGUAGES[language].file_suffix}.tsv")  # fmt: skip
    return {
        "questions": len(questions),
        "rows": len(table),
        "images": len(set(images)),
        "unseen_in_language": sum(question.about in hidden for question in questions),
        "draws_refused_by_the_matcher": dict(sorted(rejected.items())),
    }


COLUMNS = (
    "index", "question", "hint", *LETTERS, "answer", "category", "l2-category", "split", "image",
    "image_source", "difficulty", "concept", "image_text", "shuffled", "pair_id", "unseen_in_language", "answer_names",
)  # fmt: skip


def _row(question: Question, language: Language, material: Material) -> Row:
    worded = word(question, language, material.phrases)
    answers = {other: word(question, other, material.phrases).answer for other in PAPER_LANGUAGES}
    return {
        "question": worded.question,
        "hint": "",
        **dict.fromkeys(LETTERS, ""),
        **dict(zip(LETTERS, worded.options, strict=False)),
        "answer": LETTERS[question.answer],
        "category": question.kind,
        "l2-category": _ABILITY[question.kind],
        "image_source": question.emoji_set,
        "difficulty": question.difficulty,
        "concept": question.about,
        "image_text": worded.image_text,
        "answer_names": json.dumps(answers, ensure_ascii=False),
    }


def _images(questions: Sequence[Question], material: Material, rng: random.Random) -> list[str]:
    """Return a base64 image for each question; the two questions of a yes/no pair share one."""
    images: list[str] = []
    for index, question in enumerate(questions):
        if question.kind == "yes_no" and index and _is_pair(questions[index - 1], question):
            images.append(images[-1])
        else:
            image = material.emoji_sets[question.emoji_set].draw(question.scene, rng)
            images.append(base64.b64encode(encode(image)).decode())
    return images


def _is_pair(first: Question, second: Question) -> bool:
    """Tell whether two neighbouring questions are the yes and the no about one image."""
    return first.kind == second.kind == "yes_no" and first.concept == first.about == second.about != second.concept


def _pairs(questions: Sequence[Question]) -> list[str]:
    ids = [""] * len(questions)
    for index in range(1, len(questions)):
        if _is_pair(questions[index - 1], questions[index]):
            ids[index - 1] = ids[index] = str(index - 1)
    return ids


def _rotations(row: Row) -> list[Row]:
    """Return the row with its options turned by 0, 1, ...; the turned ones refer to the first one's image."""
    letters = [letter for letter in LETTERS if row[letter]]
    turned = []
    for turn in range(len(letters)):
        places = letters[turn:] + letters[:turn]
        turned.append(
            row
            | {letter: row[place] for letter, place in zip(letters, places, strict=True)}
            | {
                "index": str(int(row["index"]) + turn * ROTATION),
                "shuffled": str(int(row["shuffled"]) + turn * ROTATION),
                "answer": letters[places.index(row["answer"])],
                "image": row["index"] if turn else row["image"],
            }
        )
    return turned


# --- the `shuffled` control ------------------------------------------------------------------------------------------


def _other_images(blocks: Sequence[Block], material: Material, rng: random.Random) -> list[int]:
    """For each question, the place of another whose image has a different right answer to it.

    Where the options allow it that answer is not among them, so that the image neither helps nor misleads; counts,
    same/different and yes/no exhaust the answers, and there the image speaks for another option.
    """
    questions = [(number, question) for number, block in enumerate(blocks) for question in block]
    places = []
    for number, question in questions:
        suitable = [
            place
            for place, (other, candidate) in enumerate(questions)
            if question.kind not in FIXED_OPTIONS and other != number and _silent(question, candidate, material)
        ] or [
            place
            for place, (other, candidate) in enumerate(questions)
            if other == number and _contradicts(question, candidate)
        ]
        places.append(rng.choice(suitable))
    return places


def _silent(question: Question, other: Question, material: Material) -> bool:
    """Tell whether the image of `other` shows none of the options of `question`."""
    if question.scene.layout != other.scene.layout:
        return False
    if question.kind == "category":
        return material.category(other.about) not in question.options
    if question.kind == "colour":
        return material.emoji_sets[other.emoji_set].absent_colours(other.about).issuperset(question.options)
    return not set(other.scene.concepts) & set(question.options)


def _contradicts(question: Question, other: Question) -> bool:
    """Tell whether the image of `other`, of the same block, makes another option of `question` right."""
    if question.kind == "yes_no":
        # A yes needs an image without the concept, a no one with it; a block shows two concepts.
        return other.about != question.about and other.answer == question.answer
    if question.kind == "position":
        return not set(other.scene.concepts) & set(question.scene.concepts)
    return other.options[other.answer] != question.options[question.answer]
