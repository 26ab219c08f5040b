"""Hits and accuracies equal VLMEvalKit's on its own tables, plain and circular, under both matchers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.settings import Conventions
from parrot.config.stages import ScoreSettings
from parrot.data.tsv import L2, read_tsv, write_tsv
from parrot.evaluate.circular import items
from parrot.evaluate.kinds import read_rows
from parrot.evaluate.score import score
from tests.helpers.tiny_manifest import sign

FILES = {"vanilla": "mmmb_golden.json", "circular": "mmbench_golden.json"}
# The fixtures hold matched answers, as they lie in VLMEvalKit's own files: read as it reads them, and not shortened.
CONVENTIONS = {
    key: {"matcher": matcher, "postprocess": "none", "missing_values": "vlmevalkit"}
    for key, matcher in {"current": "current", "legacy_matching": "may2024"}.items()
}
LANGUAGES = {"en": "en", "cn": "zh", "pt": "pt", "ar": "ar", "tr": "tr", "ru": "ru"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden") / "eval"
    cases = []
    for scoring, file in FILES.items():
        for name, entry in json.loads((folder / file).read_text(encoding="utf-8")).items():
            cases += [pytest.param(name, scoring, entry, key, id=f"{name}-{key}") for key in CONVENTIONS]
    metafunc.parametrize(("name", "scoring", "entry", "key"), cases)


@pytest.fixture(name="benchmark")
def _benchmark(golden: Path, tmp_path: Path, name: str, scoring: str, entry: dict) -> Benchmark:
    """The benchmark of one case, its prediction file in `tmp_path`."""
    dataset = name.split("#")[0]
    table = read_tsv(golden / "eval" / f"{dataset}.tsv")
    answers = json.loads((golden / "eval" / "predictions.json").read_text(encoding="utf-8"))[dataset]
    table["prediction"] = [answers[index] for index in table["index"]]
    table["prompt_sha256"] = ""
    index = table["index"].astype(int)
    dropped = index.isin(entry.get("dropped_rows", [])) | (index % 1_000_000 == entry.get("dropped_group", -1))
    write_tsv(table[~dropped], tmp_path / f"{dataset}.tsv")
    benchmark = Benchmark(
        name=dataset,
        folder=str(tmp_path / "benchmark"),
        files={LANGUAGES[dataset[-2:]]: f"{dataset}.tsv"},
        instruction={},
        scoring=scoring,
        generation=BenchmarkGeneration(max_new_tokens=1),
    )
    sign(tmp_path, benchmark)
    return benchmark


def test_hits(benchmark: Benchmark, tmp_path: Path, entry: dict, key: str) -> None:
    rows = read_rows(benchmark, tmp_path, Conventions(**CONVENTIONS[key]))
    found = items(rows, benchmark.scoring, benchmark.scoring)
    found = found[found["counted"]]
    expected = {row["index"]: row["hit"] for row in entry[key]["rows"]}
    assert dict(zip(found["index"], found["hit"], strict=True)) == expected


def test_scores_csv_holds_the_accuracies_by_split_ability_and_category(
    benchmark: Benchmark, golden: Path, tmp_path: Path, entry: dict, key: str
) -> None:
    settings = ScoreSettings(
        run="r", seed=0, benchmarks=(benchmark,), controls=("none",), resamples=20, **CONVENTIONS[key]
    )
    score(settings, tmp_path, None, tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as file:
        scores = {
            (row["split"], row["kind"]): float(row["accuracy"])
            for row in csv.DictReader(file)
            if row["scoring"] == benchmark.scoring and row["image_source"] == "all"
        }
    names = json.loads((golden / "eval" / "dataset_names.json").read_text(encoding="utf-8"))
    abilities = {short: name for name, short in names["report_acc_category_abbreviations"].items()}
    report = pd.DataFrame(entry[key]["report_acc"]).set_index("split")
    for split, accuracies in report.iterrows():
        # A single split is all there is, and is not told apart.
        part = split if len(report) > 1 else "all"
        for column, accuracy in accuracies.items():
            kind = "all" if column == "Overall" else f"{L2}{abilities[column]}" if column in abilities else column
            if pd.isna(accuracy):
                assert (part, kind) not in scores
            else:
                assert scores[part, kind] == pytest.approx(100 * accuracy, abs=1e-4), (split, column)


def test_groups_that_lack_rotations_are_counted(benchmark: Benchmark, tmp_path: Path, entry: dict, key: str) -> None:
    rows = read_rows(benchmark, tmp_path, Conventions(**CONVENTIONS[key]))
    found = items(rows, benchmark.scoring, benchmark.scoring)
    lacking = {index % 1_000_000 for index in entry.get("dropped_rows", [])} - {entry.get("dropped_group")}
    without_first = {index for index in entry.get("dropped_rows", []) if index < 1_000_000}
    assert set(found["index"][found["incomplete"] & found["counted"]]) == lacking - without_first
    assert set(found["index"][~found["counted"]] % 1_000_000) <= without_first
