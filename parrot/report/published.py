"""The paper's own values for the contrast that the runs repeat: English instructions only against six languages."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from parrot.constants import PAPER_LANGUAGES
from parrot.errors import ConfigError
from parrot.io.files import read_text
from parrot.report.grid import Grid
from parrot.report.scores import Cell
from parrot.report.tables import NON_ENGLISH, mean
from parrot.report.words import WORDS

PAPER = "arXiv:2406.02539v3 (ICML 2025)"
# Benchmark as the values name it, and the table of the paper that ablates the languages on it.
TABLES = {"MMMB": "Table 14", "MTL-MMBench": "Table 6"}
SYSTEMS = ("Parrot, SFT on LLaVA-1.5-finetune only", "Parrot, + zh pt ar tr ru")


def language_contrast(path: Path) -> Grid:
    """The paper's Tables 6 and 14, first and last row, from a CSV of published values.

    Raises ConfigError when the file cannot be read or lacks one of these values.
    """
    values = _read(path)
    rows = []
    for system in SYSTEMS:
        cells: list[Cell] = []
        for benchmark, table in TABLES.items():
            wanted = [(system, benchmark, language, f"{PAPER} {table}") for language in PAPER_LANGUAGES]
            absent = [identity for identity in wanted if identity not in values]
            if absent:
                raise ConfigError(f"{path}: no value for {', '.join(absent[0])}")
            found = [Cell(values[identity]) for identity in wanted]
            cells += [*found, mean(found[1:])]
        rows.append(((PAPER, system), tuple(cells)))
    note = (
        "Per cent, as printed, for models of 7 billion parameters on the benchmarks' own photographs and questions. "
        "The mean over the five other languages is ours. Comparable only with runs of those models on those benchmarks."
    )
    groups = tuple((benchmark, (*PAPER_LANGUAGES, NON_ENGLISH)) for benchmark in TABLES)
    named = {benchmark: f"{benchmark} ({table})" for benchmark, table in TABLES.items()}
    named |= {"system": "Model", PAPER: f"The paper, {PAPER}"}
    named |= dict(zip(SYSTEMS, ("Parrot, English instructions only", "Parrot, six languages"), strict=True))
    return Grid("Published values", note, ("source", "system"), groups, tuple(rows), WORDS | named)


def _read(path: Path) -> dict[tuple[str, str, str, str], float]:
    lines = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        rows = [row for row in lines if row["source"].startswith(PAPER)]
        return {(r["system"], r["benchmark"], r["language"], r["source"]): float(r["value"]) for r in rows}
    except (KeyError, TypeError, ValueError, csv.Error):
        raise ConfigError(f"{path}: expected the columns system, benchmark, language, value and source") from None
