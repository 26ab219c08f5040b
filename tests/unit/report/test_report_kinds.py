"""Tables of benchmarks whose scores are no accuracies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from parrot.config.benchmarks import Benchmark
from parrot.config.settings import load_config
from parrot.config.suite import Suite
from parrot.errors import UserError
from parrot.evaluate.scores_csv import COLUMNS, Scores, read_scores
from parrot.report.comparisons import Items
from parrot.report.settings import ReportedRun, ReportItem, ReportStage, report_stage
from parrot.report.tables import grid
from tests.helpers.tiny_results import COMMON

FIELDS = {"folder": "none", "generation": {"max_new_tokens": 1}}
MME = Benchmark(name="MME", files={"en": "m"}, kind="yes_no", scoring="mme", sums={"perception": ("OCR",)}, **FIELDS)
FREE = Benchmark(name="Free", files={"zh": "f"}, kind="judged", scoring="relative", **FIELDS)
SHARED = {"run": "parrot", "seed": "0", "image_source": "all", "split": "all", "control": "none", "questions": "4"}
LINES = (
    {"benchmark": "MME", "language": "en", "kind": "all", "scoring": "mme", "accuracy": "175", "uncounted": "1"},
    {"benchmark": "MME", "language": "en", "kind": "OCR", "scoring": "mme", "accuracy": "175", "uncounted": "1"},
    {"benchmark": "Free", "language": "zh", "kind": "all", "scoring": "relative", "accuracy": "101", "judge": "rater"},
    {"benchmark": "Free", "language": "non_english", "kind": "all", "scoring": "relative", "accuracy": "101"},
)
SECOND_SEED = tuple(
    line | {"run": "parrot1", "seed": "1", "accuracy": score}
    for line, score in zip(LINES, ("165", "160", "111", "111"), strict=True)
)


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    lines = [[(SHARED | line).get(name, "") for name in COLUMNS] for line in (*LINES, *SECOND_SEED)]
    text = "".join(",".join(cells) + "\n" for cells in (COLUMNS, *lines))
    (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
    return read_scores([tmp_path / "scores.csv"])


def shown(scores: Scores, tmp_path: Path, **item: object) -> tuple[list[tuple], str]:
    """Each row's heads and values, and the note."""
    runs = tuple(
        ReportedRun(
            name=f"parrot{seed or ''}", languages=("en",), num_experts=0, recipe_key="a", **COMMON | {"seed": seed}
        )
        for seed in (0, 1)
    )
    entry = ReportItem(title="T", **item)
    settings = ReportStage(
        scale="s",
        seed=0,
        runs=runs,
        benchmarks=(MME, FREE),
        items={"t": entry},
        samples=0,
        resamples=9,
        notes=(),
    )
    made = grid(entry, settings, scores, Items(settings, tmp_path))
    return [(heads, [cell.value for cell in cells]) for heads, cells in made.rows], made.note


def test_points_and_ratings_stand_in_tables_with_what_they_are(scores: Scores, tmp_path: Path) -> None:
    rows, note = shown(scores, tmp_path, benchmarks=("MME", "Free"))
    # Columns: MME in English, the free answers in Chinese and their mean over languages but English.
    assert rows[0] == (("all", "parrot"), [175, 101, 101])
    assert rows[1] == (("all", "parrot1"), [165, 111, 111])
    assert rows[2] == (("all", "parrot at seeds 0, 1"), [170, 106, 106])
    assert "Several seeds' scores of MME, Free are averaged, without an interval." in note
    assert "MME: 100 x accuracy + 100 x accuracy of images with both questions right" in note
    assert "MME in en: 1 pairs that have not two rows do not count." in note
    assert "Free in zh: rated by rater." in note


def test_categories_have_points(scores: Scores, tmp_path: Path) -> None:
    rows, note = shown(scores, tmp_path, kind="kinds", benchmarks=("MME",))
    assert rows[0] == (("all", "OCR", "parrot"), [175])
    assert "Guessing" not in note


def test_a_table_that_needs_accuracies_refuses_them(tmp_path: Path) -> None:
    suite = Suite(load_config("config/config.yaml", "config/paper.yaml"))
    for name in ("benchmarks", "datasets", "runs"):
        shutil.copy(f"config/{name}.yaml", tmp_path)
    others = [name for name in suite.config.report.tables if name != "table1"]
    tables = "".join(f"{name}: {{title: T, benchmarks: [MMStar, MME]}}\n" for name in others)
    (tmp_path / "tables.yaml").write_text(f"table1: {{kind: bars, title: T, benchmarks: [MMStar, MME]}}\n{tables}")
    with pytest.raises(UserError, match="table1: benchmarks: MME has no accuracies for kind bars to show"):
        report_stage(suite, catalogues=tmp_path)
