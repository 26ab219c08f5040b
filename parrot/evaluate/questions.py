"""What a run is asked: every row of every benchmark file, under every control, as text and picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from parrot.config.catalog import Benchmark, Control, Language, prediction_file
from parrot.config.stages import PredictSettings
from parrot.constants import IMAGE
from parrot.data.benchmarks import read_language, without_control
from parrot.data.tsv import Rejection, as_vlmevalkit_reads, picture_id, records, reject
from parrot.errors import ConfigError
from parrot.evaluate.english import Translate, translator
from parrot.evaluate.prompts import as_asked, instructions, word_row


@dataclass(frozen=True)
class Question:
    """The user's turn, and the base64 picture that its `<image>` stands for (None: there is no picture).

    `where` names the picture's file and row for messages.
    """

    query: str
    picture: str | None
    where: str
    max_new_tokens: int
    language: Language


@dataclass(frozen=True)
class Sheet:
    """The questions of one benchmark file under one control, and the prediction file that their answers go to.

    `source` is the benchmark's file, in `language`. `table` holds its columns without the image, and `picture`, the id
    of each row's own picture; `rejected` the rows of the file that are not asked.
    """

    file: Path
    source: Path
    language: Language
    control: Control
    table: pd.DataFrame
    questions: list[Question]
    rejected: list[Rejection]


def read_sheets(settings: PredictSettings, output: Path, work: Path = Path("work")) -> list[Sheet]:
    """All sheets of a run; a benchmark is asked under the controls that both the run and its entry list.

    Where the run has its questions put into English, a sheet holds them as they are asked. What a model makes of them
    is read from `work`, where `parrot.evaluate.machine_translation` wrote it.
    ConfigError for a benchmark file that is missing or malformed, or lacks what a control or a translator needs.
    """
    translate = translator(settings, work)
    sheets = []
    for benchmark in settings.benchmarks:
        controls = [control for control in settings.controls if control in benchmark.controls]
        for language in benchmark.files if controls else ():
            sheets += _read(benchmark, language, controls, settings, translate, output)
    return sheets


def _read(
    benchmark: Benchmark,
    language: Language,
    controls: list[Control],
    settings: PredictSettings,
    translate: Translate | None,
    output: Path,
) -> list[Sheet]:
    path = Path(benchmark.folder, benchmark.files[language])
    table, rejected = read_language(benchmark, language)
    lists = benchmark.rejected_rows == "list"
    sentences = instructions(benchmark, settings)
    if translate is not None:
        table = translate(table, benchmark, language, rejected if lists else None)
    asked_in: Language = language if translate is None else "en"
    rows = records(table)
    read = records(as_vlmevalkit_reads(table)) if settings.missing_values == "vlmevalkit" else rows
    prompt_language = as_asked(benchmark, settings).prompt_language
    prompts = [word_row(benchmark, row, sentences, asked_in, prompt_language) for row in read]
    kept = table.drop(columns="image").assign(picture=[picture_id(image) for image in table["image"]])
    by_index = {row["index"]: row for row in rows}
    sheets = []
    for control in controls:
        lacking = without_control(table, control)
        left_out = list(rejected)
        reject(lacking, path, left_out if lists else None)
        if len(lacking) == len(rows):
            raise ConfigError(f"{path}: all {len(left_out)} rows are rejected; the first: {left_out[0]}")
        is_asked = ~table.index.isin([row.place for row in lacking])
        questions = [
            _question(row, prompt, control, by_index, path, benchmark.max_new_tokens, asked_in)
            for row, prompt, one in zip(rows, prompts, is_asked, strict=True)
            if one
        ]
        asked = kept[is_asked]
        file = prediction_file(output, path.name, control)
        sheets.append(Sheet(file, path, language, control, asked, questions, left_out))
    return sheets


def _question(
    row: Mapping[str, str],
    prompt: str,
    control: Control,
    by_index: Mapping[str, Mapping[str, str]],
    path: Path,
    max_new_tokens: int,
    language: Language,
) -> Question:
    if control == "text":
        where = f"{path}: row {row['index']}"
        return Question(f"{row['picture_text']}\n{prompt}", None, where, max_new_tokens, language)
    shown = by_index[row["shuffled"]] if control == "shuffled" else row
    return Question(f"{IMAGE}\n{prompt}", shown["image"], f"{path}: row {shown['index']}", max_new_tokens, language)
