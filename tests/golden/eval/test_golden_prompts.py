"""Prompts equal those of VLMEvalKit's Parrot wrapper."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.evaluate.prompts import LETTER_INSTRUCTION, build_prompt

SUFFIXES = {"_en": "en", "_cn": "zh", "_pt": "pt", "_ar": "ar", "_tr": "tr", "_ru": "ru"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden")
    cases = json.loads((folder / "eval" / "prompts.json").read_text(encoding="utf-8"))["multi_choice"]
    metafunc.parametrize("case", cases, ids=[f"{n}-{case['dataset']}" for n, case in enumerate(cases)])


def test_multiple_choice(case: dict) -> None:
    row = {name: "" if cell is None else str(cell) for name, cell in case["row"].items()}
    # A group's name (MMMB) has no language suffix; neither has MMBench_DEV_CN, whose suffix is in capitals.
    language = SUFFIXES.get(case["dataset"][-3:])
    prompt = build_prompt(row, LETTER_INSTRUCTION, language or "en", "dataset" if language else "group")
    assert prompt == case["prompt"]
