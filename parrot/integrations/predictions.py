"""`parrot export-predictions`: a run's predictions as files that VLMEvalKit's `run.py --mode eval` scores."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pandas as pd

from parrot.config.benchmarks import prediction_file
from parrot.config.stages import ScoreSettings
from parrot.constants import LANGUAGES, PAPER_LANGUAGES
from parrot.data.tsv import write_tsv
from parrot.errors import UserError
from parrot.evaluate.grading import stored_predictions
from parrot.evaluate.predictions import read_predictions
from parrot.evaluate.prompts import instructions, settings_for
from parrot.io.files import atomic_write

FileFormat = Literal["xlsx", "tsv"]
REQUIRED = ("question", "prediction")
# Columns of a prediction file that are not the benchmark's.
OURS = ("image_sha256", "prediction", "prompt_sha256", "stop_reason", "router_weights")
# VLMEvalKit's names of Parrot's two benchmarks, whose published files are called the same in lower case.
SUFFIXES = [LANGUAGES[code].file_suffix for code in PAPER_LANGUAGES]
NAMES = [f"{name}_{suffix}" for name in ("MMMB", "MMBench_dev") for suffix in SUFFIXES]
DATASETS = {name.lower(): name for name in NAMES}
LONGEST_CELL = 32_767


def export_predictions(
    settings: ScoreSettings, predictions: Path, output: Path, model: str, file_format: FileFormat, prefix: str = ""
) -> list[Path]:
    """Write ``{model}_{data set}.{file_format}`` for every benchmark file that was predicted, and return the paths.

    The data set is called as the published benchmark file, with `prefix` in front. A table has the benchmark's columns
    without the image, in their order, and the prediction, shortened as the run's conventions say. `output` becomes a
    work directory of VLMEvalKit: it looks for predictions in ``{model}/T{date}-{time}``, the time being when the newest
    prediction was made (UTC).

    Raises:
        UserError: a prediction file is missing or malformed, or a cell is too long for a spreadsheet.
    """
    for option, name in (("--model", model), ("--prefix", prefix)):
        if (
            re.search(r"[/\\\x00-\x1f]", name)
            or name.strip() in (".", "..")
            or (option == "--model" and not name.strip())
        ):
            raise UserError(f"{option}: expected a name, without folders, found {name!r}")
    tables, times = {}, []
    for benchmark in settings.benchmarks:
        sentences = instructions(benchmark, settings)
        for language, file in benchmark.files.items():
            table = read_predictions(benchmark, language, predictions, required=REQUIRED)
            answers = stored_predictions(table, language, settings_for(benchmark, settings), sentences)
            stem = Path(benchmark.published_as.get(language, file)).stem
            dataset = DATASETS.get(stem, stem)
            kept = [column for column in table if column not in OURS]
            tables[f"{prefix}{dataset}"] = table[kept].assign(index=table["index"].astype(int), prediction=answers)
            times.append(prediction_file(predictions, file, "none").stat().st_mtime)
    folder = output / model / f"T{datetime.fromtimestamp(max(times), UTC):%Y%m%d-%H%M%S}"
    write = _write_xlsx if file_format == "xlsx" else write_tsv
    paths = {folder / f"{model}_{dataset}.{file_format}": table for dataset, table in tables.items()}
    for path, table in paths.items():
        write(table, path)
    return list(paths)


def _write_xlsx(table: pd.DataFrame, path: Path) -> None:
    """By VLMEvalKit's own engine, so that odd characters come back to it as those of its own files do."""
    for column in table.columns.drop("index"):
        longest = table[column].str.len().max()
        if longest > LONGEST_CELL:
            raise UserError(
                f"{path}: {column}: expected at most {LONGEST_CELL} characters, found {longest}; use --format tsv"
            )
    # A text that begins with = is a text.
    options = {"strings_to_formulas": False, "strings_to_urls": False}
    content = io.BytesIO()  # a workbook that its disk has no room for complains once more as it is freed
    with pd.ExcelWriter(content, engine="xlsxwriter", engine_kwargs={"options": options}) as writer:
        table.to_excel(writer, index=False)
    atomic_write(path, content.getvalue())
