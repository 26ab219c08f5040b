"""A table's columns, and the paper's values beside those of runs on the paper's own benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.errors import UserError
from parrot.evaluate.scores_csv import COLUMNS, read_scores
from parrot.report.comparisons import Items
from parrot.report.settings import ReportedRun, ReportItem, ReportStage
from parrot.report.tables import COLUMNS as PUBLISHED_COLUMNS
from parrot.report.tables import grid, published_grid
from tests.helpers.tiny_results import COMMON

MINUS = "parrot minus the paper's"
COMPARE: dict[str, Any] = {
    "paper": "A paper",
    "tables": {"MMMB": {"benchmark": "M", "table": "Table 1"}},
    "systems": [{"name": "parrot", "system": "Theirs", "llm": "7B"}],
}
PUBLISHED = (
    *(("Theirs", "7B", "M", language, value) for language, value in (("en", "60.5"), ("zh", "40"), ("ru", "50"))),
    ("Theirs", "14B", "M", "en", "99"),
    ("Others", "7B", "M", "en", "98"),
)
SHARED = {"run": "parrot", "seed": "0", "image_source": "all", "split": "all", "control": "none", "questions": "4"}
SCORES = (("en", "70", "65", "72"), ("zh", "30", "", ""), ("ru", "60", "", ""))


def published(folder: Path) -> Path:
    """A CSV of published accuracies."""
    lines = [(*where, "accuracy (%)", value, "A paper Table 1") for *where, value in PUBLISHED]
    path = folder / "published.csv"
    path.write_text("".join(",".join(line) + "\n" for line in (PUBLISHED_COLUMNS, *lines)), encoding="utf-8")
    return path


def shown(
    folder: Path, scale: str = "paper", md5: str | None = "0" * 32, **item: object
) -> tuple[list[tuple[str, str]], list[tuple[tuple[str, ...], list[float | None]]], str]:
    """Columns, rows by their labels, and the note of a table of one run's accuracies."""
    files = {"en": "e", "zh": "z", "ru": "r"}
    benchmark = Benchmark(
        name="MMMB",
        folder="none",
        files=files,
        md5=dict.fromkeys(files, md5) if md5 else {},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=1),
        instruction=dict.fromkeys(files, "?"),
    )
    line = SHARED | {"benchmark": "MMMB", "kind": "all", "scoring": "vanilla"}
    rows = [line | {"language": code, "accuracy": a, "low": low, "high": high} for code, a, low, high in SCORES]
    text = [",".join(row.get(name, "") for name in COLUMNS) for row in rows]
    (folder / "scores.csv").write_text("\n".join((",".join(COLUMNS), *text)) + "\n", encoding="utf-8")
    entry = ReportItem.model_validate({"title": "T", "benchmarks": ("MMMB",), "compare": COMPARE} | item)
    settings = ReportStage(
        scale=scale,
        seed=0,
        runs=(ReportedRun(name="parrot", languages=("en", "zh"), num_experts=0, recipe_key="a", **COMMON),),
        benchmarks=(benchmark,),
        items={"t": entry},
        samples=0,
        resamples=9,
        notes=(),
        published=str(published(folder)),
    )
    made = grid(entry, settings, read_scores([folder / "scores.csv"]), Items(settings, folder))
    return made.columns, [(labels, [cell.value for cell in cells]) for labels, cells in made.rows], made.note


def test_the_papers_values_and_the_difference_stand_below_a_run(tmp_path: Path) -> None:
    columns, rows, note = shown(tmp_path, columns=["languages"])
    assert columns == [("MMMB", "en"), ("MMMB", "zh"), ("MMMB", "ru")]
    assert rows == [
        (("all", "parrot"), [70, 30, 60]),
        (("all", "the paper's Theirs (7B)"), [60.5, 40, 50]),
        (("all", MINUS), [9.5, -10, 10]),
    ]
    assert "Values of A paper as printed, without an interval; differences have the run's own." in note


@pytest.mark.parametrize("other", [{"scale": "mini"}, {"md5": None}], ids=["another scale", "files that nothing pins"])
def test_other_data_is_never_compared_with_the_papers(tmp_path: Path, other: dict[str, Any]) -> None:
    _, rows, note = shown(tmp_path, columns=["languages"], **other)
    assert [labels for labels, _ in rows] == [("all", "parrot")]
    assert "A paper" not in note


def test_a_run_or_a_benchmark_without_published_values_stands_alone(tmp_path: Path) -> None:
    another = COMPARE | {"systems": [{"name": "another", "system": "Theirs", "llm": "7B"}]}
    assert len(shown(tmp_path, columns=["languages"], compare=another)[1]) == 1
    another = COMPARE | {"tables": {"MMStar": COMPARE["tables"]["MMMB"]}}
    assert len(shown(tmp_path, columns=["languages"], compare=another)[1]) == 1


def test_columns_are_those_of_the_catalogue(tmp_path: Path) -> None:
    columns, rows, _ = shown(tmp_path, columns=["ru", "en"], compare=None)
    assert columns == [("MMMB", "ru"), ("MMMB", "en")]
    assert rows == [(("all", "parrot"), [60, 70])]


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ({"system": "Theirs"}, "two values for Theirs, M, A paper Table 1, accuracy .* in en; give llm"),
        ({"system": "Their"}, "no value for Their, M, A paper Table 1"),
    ],
)
def test_a_row_that_the_paper_has_not_or_twice_is_named(tmp_path: Path, system: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=f"published.csv: {said}"):
        shown(tmp_path, columns=["languages"], compare=COMPARE | {"systems": [{"name": "parrot"} | system]})


def test_a_table_of_published_values_has_their_languages_and_mean(tmp_path: Path) -> None:
    entry = {"kind": "published", "title": "T", "benchmarks": ("MMMB",), "compare": COMPARE, "note": "As printed."}
    made = published_grid(ReportItem.model_validate(entry), published(tmp_path))
    assert made.columns == [("M", "en"), ("M", "zh"), ("M", "ru"), ("M", "non_english")]
    assert [cell.value for _, cells in made.rows for cell in cells] == [60.5, 40, 50, 45]
    assert made.note == "As printed."


def test_kinds_that_have_no_accuracies_are_not_compared() -> None:
    with pytest.raises(ValueError, match="compare belongs to kinds accuracy and published"):
        ReportItem.model_validate({"kind": "kinds", "title": "T", "benchmarks": ("MMMB",), "compare": COMPARE})
    with pytest.raises(ValueError, match="kind published: expected compare with a table for each"):
        ReportItem.model_validate({"kind": "published", "title": "T", "benchmarks": ("MMMB",)})
