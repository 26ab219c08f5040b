"""Predictions that are not what was predicted are refused by whoever reads them, with the row and the cure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from parrot.config.runs import ScoreSettings
from parrot.config.settings import Conventions
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.predictions import read_predictions
from parrot.evaluate.router_stats import read_routing
from parrot.evaluate.score import score
from parrot.integrations.predictions import export_predictions
from parrot.report import router, samples
from parrot.report.browse import read_browse_rows
from parrot.report.comparisons import Items
from parrot.report.router import mean_router_weights
from parrot.report.settings import BrowseStage, ReportStage
from tests.helpers import tiny_results
from tests.helpers.tiny_manifest import sign


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("made")
    return tiny_results.make(root), root


@pytest.fixture
def root(made: tuple[ReportStage, Path], tmp_path: Path) -> Path:
    """A copy of the tiny results, of whose benchmarks the files are copied too."""
    shutil.copytree(made[1], tmp_path, dirs_exist_ok=True)
    return tmp_path


def folder_of(root: Path) -> Path:
    return root / "results/parrot/predictions"


def read(root: Path) -> pd.DataFrame:
    return read_predictions(tiny_results.benchmarks(root)[0], "en", folder_of(root))


def changed(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    write_tsv(change(read_tsv(path)), path)


def with_cell(column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[2, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table[:8], "MMMB_en.tsv: rows: expected 16, found 8"),
        (lambda table: table.drop(index=3), "MMMB_en.tsv: rows: expected 16, found 15"),
        (lambda table: pd.concat([table[:15], table[:1]]), "MMMB_en.tsv: index: 0 occurs more than once"),
        (lambda table: table[::-1], "MMMB_en.tsv: row 16: index: expected the rows of "),
        (with_cell("index", "99"), "MMMB_en.tsv: row 99: index: expected the rows of "),
        (with_cell("answer", "B"), "MMMB_en.tsv: row 2: answer: expected 'A' as in "),
        (with_cell("prediction", "a word"), "MMMB_en.tsv: expected the cells that were predicted, found others"),
        (with_cell("A", "another option"), "MMMB_en.tsv: expected the cells that were predicted, found others"),
        (lambda table: table.drop(columns="prediction"), "MMMB_en.tsv: no column prediction"),
    ],
)
def test_a_changed_table_is_named_by_row(root: Path, change, message: str) -> None:
    changed(folder_of(root) / "MMMB_en.tsv", change)
    with pytest.raises(UserError) as caught:
        read_predictions(tiny_results.benchmarks(root)[0], "en", folder_of(root), required=("prediction",))
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; remove {folder_of(root)} and predict again")


def manifest(change: Callable[[dict], object]) -> Callable[[Path], object]:
    def damage(root: Path) -> None:
        path = folder_of(root) / "manifest.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "MMMB_en.tsv: line ": lambda root: _cut_in_a_quoted_cell(folder_of(root) / "MMMB_en.tsv"),
    "MMMB_en.tsv: cannot be read": lambda root: (folder_of(root) / "MMMB_en.tsv").unlink(),
    "MMMB_en.tsv: expected the cells that were predicted": lambda root: shutil.copy(
        folder_of(root) / "MMMB_tr.tsv", folder_of(root) / "MMMB_en.tsv"
    ),
    "MMMB_en.tsv: predictions for another file than ": lambda root: changed(
        root / "benchmarks/MMMB_en.tsv", with_cell("answer", "B")
    ),
    "manifest.json: no such file; the predictions are incomplete": lambda root: (
        folder_of(root) / "manifest.json"
    ).unlink(),
    "manifest.json: model_sha256: ": lambda root: (folder_of(root) / "manifest.json").write_text("{}"),
    "manifest.json: expected JSON": lambda root: _cut(folder_of(root) / "manifest.json"),
    "manifest.json: files: expected MMMB_en.tsv among": manifest(lambda said: said["files"].pop("MMMB_en.tsv")),
    "manifest.json: files.MMMB_en.tsv.language: expected en, found tr": manifest(
        lambda said: said["files"]["MMMB_en.tsv"].update(said["files"]["MMMB_tr.tsv"])
    ),
    "manifest.json: files.MMMB_en.tsv.control: expected none, found text": manifest(
        lambda said: said["files"]["MMMB_en.tsv"].update(said["files"]["MMMB_en.text.tsv"])
    ),
}


def _cut_in_a_quoted_cell(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b'"')])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("message", DAMAGES)
def test_damage_is_named_with_its_cure(root: Path, message: str) -> None:
    DAMAGES[message](root)
    with pytest.raises(UserError) as caught:
        read(root)
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; remove {folder_of(root)} and predict again")


def test_a_benchmark_that_is_gone_is_named(root: Path) -> None:
    (root / "benchmarks/MMMB_en.tsv").unlink()
    with pytest.raises(UserError, match=r"benchmarks/MMMB_en\.tsv: cannot be read"):
        read(root)


def test_questions_may_be_described_anew(root: Path) -> None:
    changed(folder_of(root) / "MMMB_en.tsv", with_cell("category", "a\u2028b\n"))
    assert read(root)["category"][2] == "a\u2028b\n"


def test_what_one_control_leaves_out_is_no_damage(root: Path) -> None:
    changed(folder_of(root) / "MMMB_en.shuffled.tsv", lambda table: table.drop(index=[0, 5]))
    sign(folder_of(root), *tiny_results.benchmarks(root))
    benchmark = tiny_results.benchmarks(root)[0]
    assert len(read_predictions(benchmark, "en", folder_of(root), "shuffled")) == 14


CONVENTIONS = dict(Conventions())
READERS: dict[str, Callable[[Path, ReportStage], object]] = {
    "score": lambda root, _: score(_scored(root), folder_of(root), None, root / "out/scores.csv"),
    "score before": lambda root, _: score(
        _scored(root), root / "results/english/predictions", folder_of(root), root / "out/scores.csv"
    ),
    "export": lambda root, _: export_predictions(_scored(root), folder_of(root), root / "out", "m", "tsv"),
    "browse": lambda root, stage: read_browse_rows(
        BrowseStage(run="parrot", controls=("none",), rows=9, scale="s", seed=0, benchmarks=stage.benchmarks),
        folder_of(root),
        root / "results/parrot/graded.csv",
    ),
    "routing": lambda root, stage: read_routing(stage.benchmarks[0], folder_of(root)),
    "router's command": lambda root, stage: router.text(folder_of(root), stage.benchmarks),
    "router's figure": lambda root, stage: mean_router_weights(stage, root / "results", "parrot", ("MMMB",)),
    "samples": lambda root, stage: samples.choose(stage, root / "results", Items(stage, root / "results")),
}


def _scored(root: Path) -> ScoreSettings:
    shared = {"benchmarks": tiny_results.benchmarks(root), "controls": ("none", "text"), "resamples": 9}
    return ScoreSettings(run="parrot", seed=0, **shared, **CONVENTIONS)


@pytest.mark.parametrize("reader", READERS)
def test_nobody_reads_predictions_that_were_changed(root: Path, made: tuple[ReportStage, Path], reader: str) -> None:
    stage = made[0].model_copy(update={"benchmarks": tiny_results.benchmarks(root)})
    READERS[reader](root, stage)
    for name in ("MMMB_zh.tsv", "MMMB_zh.text.tsv"):
        changed(folder_of(root) / name, with_cell("answer", "B"))
    with pytest.raises(UserError, match=r"MMMB_zh(\.text)?\.tsv: row 2: answer: expected 'A' as in .*MMMB_zh\.tsv"):
        READERS[reader](root, stage)
