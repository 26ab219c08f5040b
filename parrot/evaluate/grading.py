"""Predictions graded row by row: which option one names, and whether that is the right one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.data.tsv import (
    as_vlmevalkit_reads,
    as_vlmevalkit_scores,
    options,
    records,
)
from parrot.evaluate.graded_csv import described
from parrot.evaluate.matching import infer, yes_or_no
from parrot.evaluate.postprocess import wrapper_answer
from parrot.evaluate.prompts import LETTER_INSTRUCTION, build_prompt

REQUIRED = ("question", "answer", "prediction", "prompt_sha256")
WORDS = re.compile(r"\w+")


def grade(
    predictions: pd.DataFrame,
    language: Language,
    conventions: Conventions,
    sentences: Mapping[Language, str] = LETTER_INSTRUCTION,
) -> pd.DataFrame:
    """Match each prediction: one naming an option where its row has options, else one saying Yes or No.

    hit, unmatched and other_language are 0 or 1; options counts those of the file. `sentences` are those that the
    prompts ended with, on which `conventions.postprocess` depends.
    """
    text_language = prompt_language_of(language, conventions)
    rows = records(predictions)
    stored = predictions.assign(prediction=stored_predictions(predictions, language, conventions, sentences))
    read = as_vlmevalkit_scores(stored) if conventions.missing_values == "vlmevalkit" else stored
    named = [
        infer(row["prediction"], choices, conventions.matcher) if choices else yes_or_no(row["prediction"])
        for row in records(read)
        for choices in [options(row)]
    ]
    hit = [letter == row["answer"] for letter, row in zip(named, rows, strict=True)]
    other = [not right and names_other_language(row, text_language) for right, row in zip(hit, rows, strict=True)]
    return described(predictions, language).assign(
        # As in the file, whatever was read of them: a question has so many rotations.
        options=np.array([len(options(row)) for row in rows], dtype=np.int64),
        score=np.array(hit, dtype=np.float64),
        reference_score=np.nan,
        hit=np.array(hit, dtype=np.float64),
        unmatched=np.array([letter is None for letter in named], dtype=np.float64),
        other_language=np.array(other, dtype=np.float64),
    )


def stored_predictions(
    predictions: pd.DataFrame, language: Language, conventions: Conventions, sentences: Mapping[Language, str]
) -> list[str]:
    """Return the predictions as VLMEvalKit's wrapper stores them, or raw, as `conventions.postprocess` says."""
    if conventions.postprocess == "none":
        return list(predictions["prediction"])
    reads = conventions.missing_values == "vlmevalkit"
    rows = records(as_vlmevalkit_reads(predictions) if reads else predictions)
    text_language = prompt_language_of(language, conventions)
    prompts = [build_prompt(row, sentences, text_language, conventions.prompt_language) for row in rows]
    return [wrapper_answer(raw, prompt) for raw, prompt in zip(predictions["prediction"], prompts, strict=True)]


def prompt_language_of(language: Language, conventions: Conventions) -> Language:
    """Return the language of the prompts of a file in `language`, which its predictions' texts have too."""
    return language if conventions.translator == "none" else "en"


def names_other_language(row: Mapping[str, str], language: Language) -> bool:
    """Tell whether the prediction holds the right answer's text in a language other than the question's.

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
