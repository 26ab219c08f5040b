"""Router entropy and mutual information: weights made by hand, whose entropies and informations are known."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parrot.cli import app as cli
from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.constants import PAPER_LANGUAGES
from parrot.data.tsv import write_tsv
from parrot.errors import UserError
from parrot.evaluate.router_stats import by_kind, by_language, entropies, mutual_information, read_routing
from parrot.report import router
from parrot.report.build import build
from parrot.report.grid import Cell, Grid, to_csv
from parrot.report.render import to_html, to_latex, to_markdown
from parrot.report.settings import ReportStage
from tests.helpers import tiny_results
from tests.helpers.tiny_manifest import sign

LOG2_6 = 2.584962500721156
FILES = dict(zip(PAPER_LANGUAGES, ("en", "cn", "pt", "ar", "tr", "ru"), strict=True))


def benchmark(folder: Path, scoring: str = "vanilla", languages: tuple[str, ...] = PAPER_LANGUAGES) -> Benchmark:
    """A benchmark that was predicted in `folder`."""
    made = Benchmark(
        name="MMMB",
        folder=str(folder / "benchmarks"),
        files={language: f"MMMB_{FILES[language]}.tsv" for language in languages},
        instruction={},
        scoring=scoring,
        generation=BenchmarkGeneration(max_new_tokens=1),
        controls=("none", "shuffled"),
    )
    sign(folder, made)
    return made


def write(folder: Path, language: str, rows: list[dict[str, str]]) -> Path:
    path = folder / f"MMMB_{FILES[language]}.tsv"
    write_tsv(pd.DataFrame(rows, dtype=str), path)
    return path


def row(index: int, weights: list[float] | str, kind: str = "naming", image: str = "") -> dict[str, str]:
    text = weights if isinstance(weights, str) else json.dumps(weights)
    return {"index": str(index), "category": kind, "image_sha256": image or str(index), "router_weights": text}


def test_entropy_of_known_distributions():
    weights = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.25, 0.25, 0], [0.25, 0.25, 0.25, 0.25]])
    assert entropies(weights) == pytest.approx([0, 1, 1.5, 2], abs=1e-12)


@pytest.mark.parametrize(
    ("given", "shares", "bits"),
    [
        (np.eye(6), np.full(6, 1 / 6), LOG2_6),
        (np.full((6, 6), 1 / 6), np.full(6, 1 / 6), 0),
        # Labels that share an expert tell half as much.
        (np.eye(3)[[0, 0, 1, 1, 2, 2]], np.full(6, 1 / 6), LOG2_6 - 1),
        # The Z channel with even input: H(1/4) - 1/2 = 3/2 - 3/4 log2 3.
        ([[1, 0], [0.5, 0.5]], [0.5, 0.5], 0.3112781244591328),
        # One label three times as frequent as the other: H(1/4).
        (np.eye(2), [0.75, 0.25], 0.8112781244591328),
    ],
)
def test_information_of_known_channels(given, shares, bits):
    assert mutual_information(np.array(given), np.array(shares)) == pytest.approx(bits, abs=1e-9)


def test_one_expert_a_language_is_above_chance_and_equal_weights_are_within_it():
    expert_a_language = np.tile(np.eye(6), (50, 1, 1))
    found = by_language(expert_a_language, seed=0)
    assert found.bits == pytest.approx(LOG2_6)
    assert not found.within_chance
    # A router that sees the image alone: questions differ, languages do not, whatever their order.
    same = np.repeat(np.random.default_rng(1).dirichlet(np.ones(6), size=50)[:, None], 6, axis=1)
    found = by_language(same, seed=0)
    assert (found.bits, found.chance_mean, found.chance_high) == (0, 0, 0)
    assert found.within_chance


def test_weights_that_differ_by_their_rounding_alone_tell_nothing():
    weights = np.full((1, 6, 6), 1 / 6)
    weights[0, 0] += np.array([1e-6, -1e-6, 0, 0, 0, 0])
    assert by_language(weights, seed=0).bits == 0
    assert by_language(weights, seed=0).within_chance


def test_kinds_count_by_their_questions():
    # Thirty questions of one kind with one expert, ten of another with another: H(1/4).
    kinds = np.repeat(["colour", "counting"], [30, 10])
    weights = np.repeat(np.eye(2), [30, 10], axis=0)
    found = by_kind(weights, kinds, images=np.arange(40).astype(str), seed=0)
    assert found.bits == pytest.approx(0.8112781244591328)


def test_chance_has_the_bias_of_the_plug_in_estimate():
    # N answers dealt at random to 6 labels and 2 experts: (6 - 1)(2 - 1) / (2 N ln 2) bits in the mean (Miller 1955).
    questions = 400
    weights = np.eye(2)[np.random.default_rng(0).integers(2, size=(questions, 6))]
    found = by_language(weights, seed=0)
    assert found.chance_mean == pytest.approx(5 / (2 * 6 * questions * np.log(2)), rel=0.1)
    # Five degrees of freedom: the 95th percentile of chi-squared is 11.07, the mean 5.
    assert found.chance_high == pytest.approx(11.07 / (2 * 6 * questions * np.log(2)), rel=0.15)
    kinds = np.repeat(np.arange(6), questions)
    images = np.arange(len(kinds)).astype(str)
    found = by_kind(weights.transpose(1, 0, 2).reshape(-1, 2), kinds, images, seed=0)
    assert found.chance_mean == pytest.approx(5 / (2 * 6 * questions * np.log(2)), rel=0.1)


def test_random_weights_are_seldom_above_chance():
    rng = np.random.default_rng(0)
    above = [
        not by_language(rng.dirichlet(np.ones(3), size=(20, 6)), seed=trial, permutations=200).within_chance
        for trial in range(100)
    ]
    # One in twenty: binomial of 100 draws, at most 12 with probability 0.998.
    assert sum(above) <= 12


def test_questions_about_one_image_are_no_independent_evidence():
    # Two kinds, each of one image with 100 questions of one expert: two images always differ, by chance too.
    kinds = np.repeat(["colour", "counting"], 100)
    weights = np.repeat(np.eye(2), 100, axis=0)
    found = by_kind(weights, kinds, images=kinds, seed=0)
    assert found.bits == pytest.approx(1)
    assert found.within_chance
    apart = by_kind(weights, kinds, images=np.arange(200).astype(str), seed=0)
    assert apart.bits == pytest.approx(1)
    assert not apart.within_chance


def test_the_seed_decides():
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(20, 6))
    assert by_language(weights, seed=1) == by_language(weights, seed=1)
    assert by_language(weights, seed=1).chance_mean != by_language(weights, seed=2).chance_mean


def test_rotations_are_one_question_and_rows_may_come_in_any_order(tmp_path: Path):
    for language in ("en", "zh"):
        rows = [
            row(8, [0.5, 0.5], "colour"),
            row(7, [1, 0]),
            row(1_000_007, [0.5, 0.5]),
            row(2_000_007, [0.5, 0.5]),
            row(3_000_007, [0, 1]),
        ]
        write(tmp_path, language, rows if language == "en" else rows[::-1])
    routing = read_routing(benchmark(tmp_path, "circular", ("en", "zh")), tmp_path)
    assert routing.weights.tolist() == [[[0.5, 0.5]] * 2] * 2
    # Two of the four rotations choose evenly, at 1 bit; two choose one expert, at 0.
    assert routing.entropies.tolist() == [[0.5, 0.5], [1, 1]]
    assert routing.kinds.tolist() == ["naming", "colour"]
    assert routing.images.tolist() == ["7", "8"]


def test_summary_of_weights_of_known_entropies(tmp_path: Path):
    # English and Chinese choose an expert each for naming; both choose evenly for colour.
    for expert, language in enumerate(("en", "zh")):
        rows = [row(i, [1 - expert, expert]) if i < 30 else row(i, [0.5, 0.5], "colour") for i in range(60)]
        write(tmp_path, language, rows)
    found = router.summarise(read_routing(benchmark(tmp_path, languages=("en", "zh")), tmp_path), seed=0)
    assert (found.questions, found.languages, found.experts) == (60, 2, 2)
    assert (found.entropy, found.share, found.mean_entropy) == pytest.approx((0.5, 50, 1))
    # English's mean weights are (3/4, 1/4), Chinese's the reverse: 1 - H(1/4).
    assert found.language.bits == pytest.approx(0.1887218755408672)
    assert not found.language.within_chance
    assert found.kind is not None
    assert (found.kind.bits, found.kind.within_chance) == (0, True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0, [0.5, 0.4])], "row 0: router_weights: expected a JSON list of weights that sum to 1"),
        ([row(0, [1.5, -0.5])], "row 0: router_weights: expected a JSON list of weights that sum to 1"),
        ([row(0, "[NaN, 1]")], "row 0: router_weights: expected a JSON list of weights that sum to 1"),
        ([row(0, "half")], "row 0: router_weights: expected a JSON list of weights that sum to 1"),
        ([row(0, '{"a": 1}')], "row 0: router_weights: expected a JSON list of weights that sum to 1"),
        ([row(0, [0.5, 0.5]), row(1, [])], "row 1: router_weights: expected 2 weights as in the first row, found 0"),
        ([row(0, [1])], "router_weights: expected as many experts as in "),
        ([row(9, [0.5, 0.5])], "index: expected the same questions as in "),
        ([{"index": "0"}], "no column router_weights"),
    ],
)
def test_malformed_predictions_are_named_by_file_and_row(tmp_path: Path, rows: list[dict[str, str]], said: str):
    write(tmp_path, "en", [row(0, [0.5, 0.5])])
    path = write(tmp_path, "zh", rows)
    with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
        read_routing(benchmark(tmp_path, languages=("en", "zh")), tmp_path)


@pytest.fixture(scope="module")
def settings_and_root(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("report")
    return tiny_results.make(root), root


@pytest.fixture(scope="module")
def report(settings_and_root: tuple[ReportStage, Path]) -> Path:
    """A folder with the router's table of the tiny results."""
    settings, root = settings_and_root
    settings = settings.model_copy(update={"items": {"router": settings.items["router"]}, "page": False})
    build(settings, tiny_results.score_files(root), root / "results", root)
    return root


def test_the_table_holds_the_known_values_of_every_run_that_chooses(report: Path):
    with open(report / "tables/router.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"parrot"}
    for name in ("MMMB", "MMBench_dev"):
        found = {(r["quantity"], r["number"]): float(r["value"]) for r in rows if r["benchmark"] == name}
        # Weights of expert 1: 0.75 in English, 0.4 in Arabic, 0.5 in the four others; by hand
        # H(0.75) = 0.811278, H(0.4) = 0.970951, H(0.525) = 0.998196.
        assert found["entropy", "question"] == pytest.approx(0.963705, abs=1e-5)
        assert found["entropy", "share"] == pytest.approx(96.3705, abs=1e-3)
        assert found["entropy", "mean_weights"] == pytest.approx(0.998196, abs=1e-5)
        assert found["by_language", "information"] == pytest.approx(0.034491, abs=1e-5)
        assert found["by_language", "chance_mean"] < found["by_language", "chance_high"] < 0.034491
        assert found["by_kind", "information"] == 0


def test_small_informations_keep_their_digits_in_the_csv():
    cell = Cell(0.0000123456, text="1.23e-05")
    grid = Grid("t", "n", ("benchmark", "run"), (("by_kind", ("information",)),), ((("MMMB", "parrot"), (cell,)),))
    assert to_csv(grid).splitlines()[1] == "MMMB,parrot,by_kind,information,1.23456e-05,,"


def test_the_table_says_what_is_within_chance_and_which_runs_have_no_choice(report: Path):
    text = re.sub(" +", " ", (report / "tables/router.md").read_text(encoding="utf-8"))
    assert "| 0.0345 |" in text
    assert text.count("| 0.00, within chance | 0.00 | 0.00 |") == 2
    assert "Without a choice of experts: no_experts, english." in text
    assert "0.00, within chance" in (report / "tables/router.tex").read_text(encoding="utf-8")


def test_a_report_of_no_run_with_a_choice_is_an_empty_table(settings_and_root: tuple[ReportStage, Path]):
    settings, root = settings_and_root
    settings = settings.model_copy(update={"runs": tiny_results.RUNS[1:]})
    grid = router.grid(settings.items["router"], settings, root / "results")
    assert grid.rows == ()
    for render in (to_html, to_latex, to_markdown):
        assert "MMMB" not in render(grid)
    assert "Without a choice of experts: no_experts, english." in to_markdown(grid)


def test_a_run_with_experts_and_no_weights_is_an_error(settings_and_root: tuple[ReportStage, Path]):
    settings, root = settings_and_root
    with_experts = tiny_results.RUNS[1].model_copy(update={"num_experts": 2})
    settings = settings.model_copy(update={"runs": (with_experts,)})
    with pytest.raises(UserError, match="no_experts/predictions: MMMB: router_weights: expected two experts"):
        router.grid(settings.items["router"], settings, root / "results")


def predicted(folder: Path) -> list[Benchmark]:
    """A benchmark that was predicted in `folder`."""
    return [benchmark(folder).model_copy(update={"title": "mini-MMMB"})]


def test_the_command_prints_a_column_a_benchmark(tmp_path: Path, monkeypatch, capsys):
    for place, language in enumerate(PAPER_LANGUAGES):
        write(tmp_path, language, [row(i, np.eye(6)[place].tolist(), image=str(i)) for i in range(40)])
    (entry,) = predicted(tmp_path)
    monkeypatch.setattr("parrot.cli.report.load_catalogue", lambda *_: {"mini_mmmb": entry})
    monkeypatch.setattr(sys, "argv", ["parrot", "report", "router", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [["mini-MMMB"], ["questions", "40"], ["languages", "6"], ["experts", "6"]]
    assert ["each question's (bits)", "0.0000"] in lines
    assert ["the mean weights' (bits)", "2.5850"] in lines
    informations = [line[1] for line in lines if line[0] == "information (bits)"]
    assert informations == ["2.58", "0.00, within chance"]


def test_the_command_reads_controls_and_what_languages_there_are(tmp_path: Path):
    write(tmp_path, "en", [row(0, [0.5, 0.5])]).rename(tmp_path / "MMMB_en.shuffled.tsv")
    known = predicted(tmp_path)
    text = router.text(tmp_path, known, "shuffled")
    assert re.search(r"^languages +1$", text, re.MULTILINE)
    with pytest.raises(UserError, match="expected predictions of a benchmark of config/benchmarks"):
        router.text(tmp_path, known)


@pytest.mark.parametrize(
    ("weights", "said"),
    [([], "found none: no experts, or no images to route"), ([1.0], "found one, which leaves nothing to choose")],
)
def test_the_command_without_a_choice_of_experts_is_one_line(tmp_path: Path, monkeypatch, capsys, weights, said):
    write(tmp_path, "en", [row(0, weights)])
    (entry,) = predicted(tmp_path)
    monkeypatch.setattr("parrot.cli.report.load_catalogue", lambda *_: {"mini_mmmb": entry})
    monkeypatch.setattr(sys, "argv", ["parrot", "report", "router", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.endswith(f"MMMB: router_weights: expected two experts or more, {said}\n")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="nonesuch: cannot be read: no such folder"):
        router.text(tmp_path / "nonesuch", [])
