"""`parrot compare`: what it prints of runs that are done, and what it says of others."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from parrot.cli import app as cli
from parrot.report.contrast import side_by_side
from parrot.report.settings import ReportStage
from tests.helpers import tiny_results


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("compare")
    settings = tiny_results.make(root)
    pairs = (("parrot", "no_experts"), ("parrot", "english"))
    items = {name: settings.items[name] for name in ("primary", "table1", "differences")}
    return settings.model_copy(update={"target": "parrot", "comparisons": pairs, "items": items}), root


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["parrot", "compare", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_runs_stand_side_by_side_with_differences_and_the_headline_last(made: tuple[ReportStage, Path]) -> None:
    settings, root = made
    lines = side_by_side(settings, root / "results").splitlines()
    assert "tiny-MMMB (vanilla), Twemoji drawings, near the training's style" in lines
    (first, *_) = (line for line in lines if line.startswith("| tr"))
    assert re.findall(r"\| +([\d.]+) \(", first) == ["75.0", "62.5", "25.0"]
    assert any("parrot minus english, difference" in line for line in lines)
    assert not any("minimum detectable effect |" in line for line in lines)
    assert lines[-1].startswith("parrot minus no_experts, tiny-MMMB, all four-option kinds, Twemoji drawings,")
    assert "; parrot minus english: 50.0 points (" in lines[-1]
    # Each table's lines are of one width.
    blocks = [block.splitlines() for block in "\n".join(lines).split("\n\n") if block.startswith("|")]
    assert all(len({len(line) for line in block}) == 1 for block in blocks)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["parot", "english"], "config/runs.yaml: unknown run parot"),
        (["parrot", "parrot"], "expected a run to compare parrot with; parrot is the same"),
        (["parrot"], "expected a run to compare parrot with, since it has no baseline"),
        (
            ["lora"],
            "lora, parrot: no scores.csv and graded.csv in results/mini; `snakemake --cores 2 lora parrot` makes them",
        ),
        (
            ["lora", "english", "--configfile", "config/paper.yaml"],
            "lora, english: no scores.csv and graded.csv in results/paper; "
            "`snakemake --cores 2 --configfile config/paper.yaml -- lora english` makes them",
        ),
    ],
)
def test_runs_that_are_not_done_are_one_line_with_the_command_that_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    shutil.copytree("config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, *words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"parrot: error: {message}")
    assert said.count("\n") == 1
