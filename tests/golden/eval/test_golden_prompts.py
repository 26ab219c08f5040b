"""Prompts equal those of VLMEvalKit's Parrot wrapper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import load_catalogue
from parrot.config.settings import Conventions
from parrot.evaluate.kinds import word_row
from parrot.evaluate.kinds.yes_no import build_yes_no_prompt
from parrot.evaluate.prompts import LETTER_INSTRUCTION, build_prompt, instructions, settings_for

SUFFIXES = {"_en": "en", "_cn": "zh", "_pt": "pt", "_ar": "ar", "_tr": "tr", "_ru": "ru"}

# Benchmarks of a single file, whose name alone says nothing of the language: MMBench_DEV_CN is asked by its entry.
ENTRIES = {
    entry.name: entry
    for entry in load_catalogue("config/benchmarks.yaml", Benchmark).values()
    if len(entry.files) == 1 and entry.kind == "multiple_choice"
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden")
    prompts = json.loads((folder / "eval" / "prompts.json").read_text(encoding="utf-8"))
    kind = "multi_choice" if "row" in metafunc.fixturenames else "yes_no"
    cases = [tuple(case[name] for name in metafunc.fixturenames) for case in prompts[kind]]
    metafunc.parametrize(metafunc.fixturenames, cases, ids=[f"{kind}-{n}" for n in range(len(cases))])


def test_multiple_choice(dataset: str, row: dict, prompt: str) -> None:
    row = {name: "" if cell is None else str(cell) for name, cell in row.items()}
    if dataset in ENTRIES:
        entry = ENTRIES[dataset]
        (language,) = entry.files
        conventions = settings_for(entry, Conventions())
        sentences = instructions(entry, conventions)
        assert word_row(entry, row, sentences, language, conventions.prompt_language) == prompt
        return
    # A group's name (MMMB) has no language suffix.
    language = SUFFIXES.get(dataset[-3:])
    assert build_prompt(row, LETTER_INSTRUCTION, language or "en", "dataset" if language else "group") == prompt


def test_yes_no(question: str, prompt: str) -> None:
    assert build_yes_no_prompt(question) == prompt
