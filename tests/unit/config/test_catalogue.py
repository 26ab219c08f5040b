"""The benchmarks of config/benchmarks.yaml that others publish: names, digests, and what a run needs for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import load_catalogue
from parrot.config.settings import load_config
from parrot.config.suite import Suite
from parrot.errors import UserError

NAMES = Path("tests/golden/eval/dataset_names.json")
PAPER = ("config/config.yaml", "config/paper.yaml")
SUFFIXES = {"en": "en", "zh": "cn", "pt": "pt", "ar": "ar", "tr": "tr", "ru": "ru"}


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Benchmark]:
    return load_catalogue("config/benchmarks.yaml", Benchmark)


@pytest.mark.parametrize("name", ["mmmb", "mmbench"])
def test_multilingual_benchmarks_are_those_of_vlmevalkit(catalogue: dict[str, Benchmark], name: str) -> None:
    published = json.loads(NAMES.read_text(encoding="utf-8"))["names"]
    benchmark = catalogue[name]
    assert list(benchmark.files) == list(SUFFIXES)
    for language, suffix in SUFFIXES.items():
        said = published[f"{benchmark.name}_{suffix}"]
        assert benchmark.files[language] == said["tsv_basename"]
        assert benchmark.md5[language] == said["md5"]
        assert (benchmark.scoring == "circular") == said["circular"]


def judged(judge: object) -> Suite:
    raw = load_config(*PAPER)
    raw["evaluate"] |= {"benchmarks": ["mmmb", "llava_bench", "llava_bench_zh"], "judge": judge}
    return Suite(raw)


def test_free_answers_are_refused_without_a_judge() -> None:
    with pytest.raises(UserError, match="llava_bench needs a judge model; expected one in evaluate.judge"):
        judged(None).run("parrot").check()


def test_only_runs_that_are_judged_read_the_judge() -> None:
    judge = {"name": "rater", "url": "http://localhost/v1"}
    assert judged(judge).run("parrot").score.judge.name == "rater"
    raw = load_config(*PAPER)
    raw["evaluate"]["judge"] = judge
    assert Suite(raw).run("parrot").score.judge is None
