"""From predictions to what is counted: one unit a question (vanilla) or a group of rotations (circular)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from parrot.config import Benchmark, Control, Language
from parrot.evaluate.matching import Matcher, infer
from parrot.evaluate.tsv import options, prediction_file, read_tsv, records

# Rotation k of question i has the index i + k * ROTATION.
ROTATION = 1_000_000
REQUIRED = ("index", "answer", "prediction", "prompt_sha256")
# Describes a question; absent columns count as empty.
DESCRIPTION = ("category", "l2-category", "split", "house", "difficulty", "unseen_in_language")
WORDS = re.compile(r"\w+")


def load_units(
    benchmark: Benchmark, folder: Path, control: Control = "none", matcher: Matcher = "current"
) -> pd.DataFrame:
    """All languages' units of one benchmark as predicted in `folder`, columns as `units` plus `language`.

    ConfigError when a prediction file is missing or lacks a column.
    """
    tables = []
    for language, file in benchmark.files.items():
        predictions = read_tsv(prediction_file(folder, Path(file).stem, control), REQUIRED)
        tables.append(units(predictions, benchmark.scoring, language, matcher).assign(language=language))
    return pd.concat(tables, ignore_index=True)


def units(
    predictions: pd.DataFrame,
    scoring: Literal["vanilla", "circular"],
    language: Language = "en",
    matcher: Matcher = "current",
) -> pd.DataFrame:
    """One line a unit: index, picture, hit, unmatched, other_language, options, and the question's description.

    hit is 0 or 1; a circular group hits where all its rotations that were predicted do, and a group without its first
    rotation is not counted, both as in VLMEvalKit. unmatched and other_language are shares of the unit's rows.
    """
    rows = _judge(predictions, language, matcher)
    if scoring == "vanilla":
        return rows
    groups = rows.groupby(rows["index"] % ROTATION)
    shares = groups[["unmatched", "other_language"]].mean()
    shares["hit"] = groups["hit"].min()
    first = rows[rows["index"] < ROTATION].set_index("index", drop=False)
    first[shares.columns] = shares.loc[first.index]
    return first.reset_index(drop=True)


def _judge(predictions: pd.DataFrame, language: Language, matcher: Matcher) -> pd.DataFrame:
    answered = records(predictions)
    offered = [options(row) for row in answered]
    named = [infer(row["prediction"], choices, matcher) for row, choices in zip(answered, offered, strict=True)]
    hit = [letter == row["answer"] for letter, row in zip(named, answered, strict=True)]
    rows = pd.DataFrame(
        {
            "index": predictions["index"].astype(np.int64),
            "hit": np.array(hit, dtype=np.int64),
            "unmatched": np.array([letter is None for letter in named], dtype=np.float64),
            "other_language": np.array(
                [not right and names_other_language(row, language) for right, row in zip(hit, answered, strict=True)],
                dtype=np.float64,
            ),
            "options": np.array([len(choices) for choices in offered], dtype=np.int64),
        }
    )
    # Without pictures in the predictions (files made elsewhere) every question stands for itself.
    rows["picture"] = predictions.get("picture", predictions["index"])
    for column in DESCRIPTION:
        rows[column] = predictions.get(column, "")
    return rows


def names_other_language(row: Mapping[str, str], language: Language) -> bool:
    """Whether the prediction holds the right answer's text in a language other than the question's.

    Texts are compared as whole words, in Chinese as characters; a text that both languages share does not count.
    """
    texts: dict[str, str] = json.loads(row.get("answer_names") or "{}")
    own = _words(texts.get(language, ""))
    prediction = row["prediction"]
    spaced = _words(prediction)
    for other, text in texts.items():
        if other == language or not text or _words(text) == own:
            continue
        if (text in prediction) if other == "zh" else (_words(text) in spaced):
            return True
    return False


def _words(text: str) -> str:
    return f" {' '.join(WORDS.findall(text.lower()))} "
