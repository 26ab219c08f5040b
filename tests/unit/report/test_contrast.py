"""The primary contrast, the sentence that answers the page's title, and the line that a report ends with."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from parrot.config.settings import load_config, overlay
from parrot.config.suite import Suite
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.scores_csv import Scores, read_scores
from parrot.report.build import build
from parrot.report.comparisons import Items
from parrot.report.contrast import answer, contrasts, headline, measure, question
from parrot.report.provenance import held_fixed
from parrot.report.settings import ReportStage, report_stage
from tests.helpers import tiny_results
from tests.helpers.tiny_manifest import sign

WHERE = "tiny-MMMB, all four-option kinds, Twemoji drawings, mean of the other five languages"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("contrast")
    return tiny_results.make(root), root


def read(settings: ReportStage, root: Path) -> tuple[Scores, Items]:
    scores = read_scores([root / "results" / run.name / "scores.csv" for run in settings.runs])
    return scores, Items(settings, root / "results")


def about(settings: ReportStage, target: str, *pairs: tuple[str, str]) -> ReportStage:
    names = {name for pair in pairs for name in pair} or {target}
    runs = tuple(run for run in settings.runs if run.name in names)
    return settings.model_copy(update={"target": target, "comparisons": pairs, "runs": runs})


def test_the_primary_contrast_is_of_four_option_questions_and_stands_apart(made: tuple[ReportStage, Path]) -> None:
    settings, root = made
    scores, items = read(settings, root)
    on = measure(settings, scores)
    assert (on.benchmark, on.image_source, on.kind, on.languages) == (
        "MMMB",
        "twemoji",
        "four_option",
        ("zh", "pt", "ar", "tr", "ru"),
    )
    assert on.what == "tiny-MMMB, all four-option kinds, Twemoji drawings"
    (found,) = contrasts(settings, items, on)
    assert (found.run, found.other, found.claims) == ("parrot", "no_experts", 1)
    # Six of eight against five of eight, and a p that nothing is adjusted for.
    assert found.comparison.difference.points == pytest.approx(12.5)
    assert found.p == found.comparison.p


def test_questions_of_other_kinds_do_not_count_in_it(tmp_path: Path) -> None:
    settings = tiny_results.make(tmp_path)
    folders = [tmp_path / f"results/{run.name}/predictions" for run in settings.runs]
    for path in [path for folder in (tmp_path / "benchmarks", *folders) for path in folder.glob("MMMB_??.tsv")]:
        rows = read_tsv(path, ())
        # Two options where no_experts is right alone: with these it would lose by less.
        two = rows["index"].isin(["0", "1"])
        rows.loc[two, ["C", "D"]] = ""
        if "parrot" in path.parts:
            rows.loc[two, "prediction"] = "?"
        write_tsv(rows, path)
    for folder in (*folders, tmp_path / "results/align" / tiny_results.KEY / "predictions"):
        sign(folder, *settings.benchmarks)
    tiny_results.score_runs(tmp_path)
    scores, items = read(settings, tmp_path)
    (found,) = contrasts(settings, items, measure(settings, scores))
    # Of the six others parrot gets numbers 2 to 5, no_experts 2 to 4.
    assert found.comparison.difference.points == pytest.approx(100 / 6)


def test_the_title_is_answered_with_numbers_and_without_a_verdict(made: tuple[ReportStage, Path]) -> None:
    settings, root = made
    scores, items = read(settings, root)
    told = answer(settings, items, measure(settings, scores))
    assert told.startswith(
        f"Yes: on {WHERE}, no_experts, tuned in 6 languages, is right in 62.5 % and english, tuned in"
    )
    assert "in English alone, in 25.0 %, a difference of 37.5 points (" in told
    assert "What the experts add: parrot minus no_experts 12.5 points (" in told
    assert told.endswith("; one seed, no verdict.")


def test_a_target_ends_with_one_line_that_says_what_came_out_and_where_it_is(made: tuple[ReportStage, Path]) -> None:
    settings, root = made
    alone = about(settings, "english", ("english", "parrot"))
    scores, items = read(alone, root)
    assert question(alone) == "english against parrot"
    line = headline(alone, scores, items, Path("out"))
    assert line.startswith(f"english minus parrot, {WHERE}: -50.0 points (-")
    assert line.endswith("; table: out/tables/primary.md, page: out/report.html")
    assert "\n" not in line
    family = about(settings, "family", ("english", "parrot"), ("no_experts", "parrot"))
    line = headline(family, *read(family, root), Path("out"))
    assert line.count("after Holm's correction") == 2
    assert "; no_experts minus parrot: -12.5 points (" in line


def test_a_target_without_a_baseline_ends_with_its_accuracy(made: tuple[ReportStage, Path], tmp_path: Path) -> None:
    settings, root = made
    alone = about(settings, "parrot")
    line = build(alone, [root / "results/parrot/scores.csv"], root / "results", tmp_path)
    assert line.startswith(f"{WHERE}: parrot 75.0 % (")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>parrot by itself</h1>" in page
    assert 'href="../../parrot/predictions.html"' in page
    with open(tmp_path / "tables/primary.csv", encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == []


def test_a_run_that_was_asked_less_is_compared_on_what_both_were_asked(
    made: tuple[ReportStage, Path], tmp_path: Path
) -> None:
    settings, root = made
    runs = tuple(
        run.model_copy(update={"benchmarks": ("MMBench_dev",)}) for run in settings.runs if run.name == "english"
    )
    less = settings.model_copy(update={"runs": (*settings.runs[:2], *runs)})
    scores = [path for path in tiny_results.score_files(root) if "english" not in path.parts]
    lines = (root / "results/english/scores.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "scores.csv").write_text("".join(line for line in lines if ",MMMB," not in line), encoding="utf-8")
    build(less, [*scores, tmp_path / "scores.csv"], root / "results", tmp_path / "out")
    with open(tmp_path / "out/tables/differences.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["comparison"] == "parrot minus english"]
    assert {row["benchmark"] for row in rows if row["value"]} == {"MMBench_dev"}


def test_the_page_says_what_each_comparison_holds_fixed(made: tuple[ReportStage, Path], tmp_path: Path) -> None:
    settings, root = made
    pairs = [("parrot", "no_experts"), ("parrot", "english")]
    assert held_fixed(settings, root / "results", pairs) == [
        "parrot and no_experts: equal steps (4) on equal data, 1.00 passes over 192 samples.",
        "parrot and english: equal steps (4), not equal data: 1.00 passes over 192 samples against 3.00 over 64.",
    ]
    shutil.copytree(root / "results", tmp_path / "results")
    metrics = tmp_path / "results/english/metrics.jsonl"
    few = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] < 2]
    metrics.write_text(few[0].replace('"samples": 48', '"samples": 64') + "\n")
    assert held_fixed(settings, tmp_path / "results", pairs[1:]) == [
        "parrot and english: each sample as often, not equal steps: 1.00 passes over 192 samples against 1.00 over 64, "
        "4 steps against 1."
    ]
    build(settings, tiny_results.score_files(root), root / "results", tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "<li>no_experts and english: equal steps (4), not equal data:" in page


def test_bars_of_a_benchmark_that_is_not_asked_are_refused_before_any_job() -> None:
    raw = overlay(load_config("config/config.yaml"), {"evaluate": {"benchmarks": ["mini_mmmb"]}})
    with pytest.raises(UserError, match=r"report.tables: fig7a: expected evaluate.benchmarks with MMBench_dev, "):
        report_stage(Suite(raw))
