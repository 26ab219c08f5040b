"""Hits and accuracies equal VLMEvalKit's on its own tables, plain and circular, under both matchers."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from parrot.evaluate.accuracy import units
from parrot.evaluate.tsv import read_tsv

MATCHERS = {"current": "current", "legacy_matching": "may2024"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden") / "eval"
    cases = []
    for file, scoring in (("mmmb_golden.json", "vanilla"), ("mmbench_golden.json", "circular")):
        for name, entry in json.loads((folder / file).read_text(encoding="utf-8")).items():
            cases += [pytest.param(name, scoring, entry, key, id=f"{name}-{key}") for key in MATCHERS]
    metafunc.parametrize(("name", "scoring", "entry", "key"), cases)


@pytest.fixture(name="scored")
def _scored(golden: Path, name: str, scoring: str, entry: dict, key: str) -> pd.DataFrame:
    dataset = name.split("#")[0]
    table = read_tsv(golden / "eval" / f"{dataset}.tsv")
    answers = json.loads((golden / "eval" / "predictions.json").read_text(encoding="utf-8"))[dataset]
    # VLMEvalKit reads an empty or "None" prediction back from its own file as a missing value, printed "nan".
    table["prediction"] = [answers[index] if answers[index] not in ("", "None") else "nan" for index in table["index"]]
    index = table["index"].astype(int)
    dropped = index.isin(entry.get("dropped_rows", [])) | (index % 1_000_000 == entry.get("dropped_group", -1))
    return units(table[~dropped], scoring, matcher=MATCHERS[key])


def test_hits(scored: pd.DataFrame, entry: dict, key: str) -> None:
    expected = {row["index"]: row["hit"] for row in entry[key]["rows"]}
    assert dict(zip(scored["index"], scored["hit"], strict=True)) == expected


def test_overall_and_category_accuracy(scored: pd.DataFrame, entry: dict, key: str) -> None:
    report = entry[key]["report_acc"]
    for position, split in enumerate(report["split"]):
        rows = scored[scored["split"] == ("" if split == "none" else split)]
        assert rows["hit"].mean() == pytest.approx(report["Overall"][position])
        for category, accuracy in rows.groupby("category")["hit"].mean().items():
            assert accuracy == pytest.approx(report[category][position])
