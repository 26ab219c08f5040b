"""Questions without options that are answered by Yes or No, such as MME's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from parrot.config.benchmarks import KINDS, Benchmark, Scoring
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.evaluate import grading
from parrot.evaluate.circular import items, scorings
from parrot.evaluate.graded_csv import images
from parrot.evaluate.judge import Rate
from parrot.evaluate.metrics import Subset, accuracies, non_english, sums
from parrot.evaluate.prompts import CHINESE, OPEN_INSTRUCTION, PromptLanguage, filled, instructions, settings_for

REQUIRED = grading.REQUIRED
YES_NO_INSTRUCTION: dict[Language, str] = {
    "en": f"Please strictly answer Yes or No. {OPEN_INSTRUCTION['en']}",
    "zh": f"请直接回答Yes或No。{OPEN_INSTRUCTION['zh']}",
}
# Closing sentences of yes/no benchmarks; one of them, the first that fits, makes way for the instruction.
YES_NO_ENDINGS = (" Please answer yes or no.", " Yes or No", " Answer in one sentence.")


def prompt(
    benchmark: Benchmark,
    row: Mapping[str, str],
    sentences: Mapping[Language, str],
    language: Language,
    prompt_language: PromptLanguage,
) -> str:
    """Word a row; there is a wording in English and Chinese alone, which the question decides."""
    return build_yes_no_prompt(row["question"], benchmark.template or KINDS["yes_no"].template, row.get("hint", ""))


def grade(
    benchmark: Benchmark, predictions: pd.DataFrame, language: Language, conventions: Conventions, rate: Rate | None
) -> pd.DataFrame:
    """Look for Yes or No in each prediction; questions of MME about one image, of one category, are a pair."""
    own = settings_for(benchmark, conventions)
    rows = grading.grade(predictions, language, own, instructions(benchmark, own))
    if benchmark.scoring == "mme":
        # The image is known by its path in MME, or else by its digest.
        rows["pair_id"] = rows["category"] + "/" + predictions.get("image_path", images(rows))
    return rows


def scores(rows: pd.DataFrame, benchmark: Benchmark, resamples: int, seed: int) -> Iterator[tuple[Scoring, Subset]]:
    """Every scoring's subsets, beginning with the scoring that tables show."""
    for scoring in scorings(rows, benchmark.scoring):
        if scoring == "mme":
            found = list(sums(rows, items(rows, "pairs", benchmark.scoring), benchmark, resamples, seed))
            found += non_english(found)
        else:
            found = list(accuracies(items(rows, scoring, benchmark.scoring), resamples, seed))
        yield from ((scoring, subset) for subset in found)


def build_yes_no_prompt(question: str, template: str = KINDS["yes_no"].template, hint: str = "") -> str:
    r"""``question\nPlease strictly answer Yes or No. ...``, in Chinese where the question has a Chinese character.

    For benchmarks of yes/no questions without options, such as MME; there is no wording in the other languages.
    """
    ending = next((ending for ending in YES_NO_ENDINGS if question.endswith(ending)), "")
    body = question.removesuffix(ending)
    instruction = YES_NO_INSTRUCTION["zh" if CHINESE.search(body) else "en"]
    return filled(template, {"hint": hint}, body, instruction)
