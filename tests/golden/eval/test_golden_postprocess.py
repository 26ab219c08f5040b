"""Answers are shortened exactly as VLMEvalKit's Parrot wrapper shortens them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.evaluate.postprocess import wrapper_answer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden")
    cases = json.loads((folder / "eval" / "postprocess.json").read_text(encoding="utf-8"))
    metafunc.parametrize("case", cases, ids=[f"{n}-{case['query_ending']}" for n, case in enumerate(cases)])


def test_postprocessed_answer(case: dict) -> None:
    assert wrapper_answer(case["response"], case["query"]) == case["answer"]
