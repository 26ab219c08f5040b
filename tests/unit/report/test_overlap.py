"""The list, the page and the table of benchmark images that were trained on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.settings import OverlapSettings
from parrot.constants import PAPER_LANGUAGES
from parrot.data.overlap import BenchmarkImage, Copy, TrainingImage
from parrot.data.tsv import ROTATION
from parrot.evaluate.graded_csv import read_graded
from parrot.evaluate.scores_csv import read_scores
from parrot.io.csv_tables import read_csv
from parrot.report import overlap
from parrot.report.overlap import COLUMNS, accuracies_without, write_accuracies, write_copies
from tests.helpers import tiny_results

HOSTILE = "<img src=x onerror=alert(1)>.png"
COPY = Copy(
    BenchmarkImage("quiz", "i1", "quiz_en.tsv: row 1", ("en", "tr")),
    TrainingImage(f"images/{HOSTILE}", "set.json", "=1+1"),
    distance=3,
    correlation=0.98765,
    thumbnails=(bytes(3072), bytes([255]) * 3072),
)


def graded(rows: list[tuple[str, str, int, str, float]], **columns: str) -> pd.DataFrame:
    """Graded rows by benchmark, language, index, image and hit."""
    table = pd.DataFrame(rows, columns=["benchmark", "language", "index", "image_sha256", "hit"])
    absent = dict.fromkeys(("pair_id", "image_source", "category"), "")
    numbers = {"options": 2, "unmatched": 0.0, "other_language": 0.0}
    return table.assign(**{"run": "mine", "control": "none"} | absent | numbers | columns)


QUIZ = [
    *(("quiz", "en", 1, "i1", 1.0), ("quiz", "en", 2, "i2", 0.0), ("quiz", "en", 3, "i3", 1.0)),
    *(("quiz", "en", 4, "i1", 1.0), ("quiz", "tr", 1, "i1", 0.0)),
]


def test_accuracies_are_those_counted_by_hand() -> None:
    shuffled = graded([("quiz", "en", 1, "i1", 0.0)], control="shuffled")
    found = accuracies_without(pd.concat([graded(QUIZ), shuffled]), {"i1", "elsewhere"})
    assert found.to_dict("list") == {
        "benchmark": ["quiz", "quiz"],
        "run": ["mine", "mine"],
        "language": ["en", "tr"],
        "accuracy": [75, 0],
        "questions": [4, 1],
        "accuracy_without": [50, pytest.approx(float("nan"), nan_ok=True)],
        "questions_without": [2, 0],
        "overlapping": [2, 1],
    }


def test_a_question_counts_as_its_benchmark_counts_it() -> None:
    rows = [
        *(("quiz", "en", 1, "i1", 1.0), ("quiz", "en", 1 + ROTATION, "i1", 0.0)),
        *(("quiz", "en", 2, "i2", 1.0), ("quiz", "en", 2 + ROTATION, "i2", 1.0)),
    ]
    measured = accuracies_without(graded(rows), {"i1"}, {"quiz": "circular"}).iloc[0]
    assert measured[["accuracy", "questions", "accuracy_without", "questions_without"]].tolist() == [50, 2, 100, 1]


def test_ratings_are_no_accuracies() -> None:
    assert accuracies_without(graded([("quiz", "en", 1, "i1", float("nan"))]), set(), {"quiz": "relative"}).empty


def test_the_table_says_what_is_missing(tmp_path: Path) -> None:
    benchmark = Benchmark(
        name="quiz",
        title="A Quiz",
        folder=".",
        files={"en": "en.tsv", "tr": "tr.tsv"},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=4),
    )
    write_accuracies(graded(QUIZ), [COPY], [benchmark], tmp_path)
    lines = (tmp_path / "tables/overlap.csv").read_text().splitlines()
    assert lines[0] == "benchmark,run,language,images,measure,value,low,high"
    assert lines[1:6] == [
        "quiz,mine,en,all,accuracy,75.0000,,",
        "quiz,mine,en,all,questions,4,,",
        "quiz,mine,en,without,accuracy,50.0000,,",
        "quiz,mine,en,without,questions,2,,",
        "quiz,mine,en,overlapping,questions,2,,",
    ]
    written = (tmp_path / "tables/overlap.md").read_text()
    assert "without images that were trained on, A Quiz" in written
    assert "missing" in written


def test_all_images_without_overlap_are_the_accuracies_of_the_scores(tmp_path: Path) -> None:
    tiny_results.make(tmp_path)
    rows = read_graded(tmp_path / "results/parrot/graded.csv", "parrot")
    scorings = {benchmark.name: benchmark.scoring for benchmark in tiny_results.benchmarks(tmp_path)}
    found = accuracies_without(rows, set(), scorings)
    scores = read_scores([tmp_path / "results/parrot/scores.csv"])
    assert len(found) == len(scorings) * len(PAPER_LANGUAGES)
    for row in found.itertuples():
        score = scores.find(row.run, row.benchmark, row.language, scoring=scorings[row.benchmark])
        assert score is not None
        assert (row.accuracy, row.questions) == (pytest.approx(score.accuracy, abs=1e-3), score.questions)
        assert (row.accuracy_without, row.questions_without, row.overlapping) == (row.accuracy, row.questions, 0)


def test_the_list_and_the_page_show_each_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_copies([COPY, COPY], {"quiz": 5, "other": 2}, "mine", OverlapSettings(), tmp_path)
    row = ["quiz", "en tr", "i1", "quiz_en.tsv: row 1", "set.json", "=1+1", f"images/{HOSTILE}", "3", "0.9877"]
    assert read_csv(tmp_path / "overlap.csv", COLUMNS) == [row, row]
    page = (tmp_path / "overlap.html").read_text()
    assert "<b>quiz</b>: 1 of 5 images" in page
    assert "<b>other</b>: 0 of 2 images" in page
    assert page.count('src="data:image/png;base64,') == 4
    assert HOSTILE not in page
    assert "The page shows" not in page
    monkeypatch.setattr(overlap, "SHOWN", 1)
    write_copies([COPY, COPY], {"quiz": 5}, "mine", OverlapSettings(), tmp_path)
    assert "The page shows the first 1 of 2 pairs" in (tmp_path / "overlap.html").read_text()
