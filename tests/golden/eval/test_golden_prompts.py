"""Prompts equal those of VLMEvalKit's Parrot wrapper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.evaluate.prompts import LETTER_INSTRUCTION, build_prompt, build_yes_no_prompt

SUFFIXES = {"_en": "en", "_cn": "zh", "_pt": "pt", "_ar": "ar", "_tr": "tr", "_ru": "ru"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden")
    prompts = json.loads((folder / "eval" / "prompts.json").read_text(encoding="utf-8"))
    kind = "multi_choice" if "row" in metafunc.fixturenames else "yes_no"
    cases = [tuple(case[name] for name in metafunc.fixturenames) for case in prompts[kind]]
    metafunc.parametrize(metafunc.fixturenames, cases, ids=[f"{kind}-{n}" for n in range(len(cases))])


def test_multiple_choice(dataset: str, row: dict, prompt: str) -> None:
    row = {name: "" if cell is None else str(cell) for name, cell in row.items()}
    # A group's name (MMMB) has no language suffix; neither has MMBench_DEV_CN, whose suffix is in capitals.
    language = SUFFIXES.get(dataset[-3:])
    assert build_prompt(row, LETTER_INSTRUCTION, language or "en", "dataset" if language else "group") == prompt


def test_yes_no(question: str, prompt: str) -> None:
    assert build_yes_no_prompt(question) == prompt
