"""Answer matching equals VLMEvalKit's, both versions, case by case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.evaluate.matching import infer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden")
    cases = json.loads((folder / "eval" / "can_infer.json").read_text(encoding="utf-8"))
    metafunc.parametrize("case", cases, ids=[f"{case['id']}-{case['kind']}" for case in cases])


@pytest.mark.parametrize(("matcher", "field"), [("current", "inferred"), ("may2024", "legacy_inferred")])
def test_infer(case: dict, matcher: str, field: str) -> None:
    assert infer(case["prediction"], case["choices"], matcher) == (case[field] or None)
