"""What runs leave behind is read by the report and by tracking only where it is whole and the run's own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from parrot.errors import UserError
from parrot.report.build import build
from parrot.report.settings import ReportStage
from parrot.tracking.identity import TrackedRun, stage2_id
from parrot.tracking.records import plan_run
from parrot.tracking.training import read_training
from parrot.train.record import read_metrics, read_provenance
from tests.helpers import tiny_results


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("made")
    return tiny_results.make(root), root


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "stage: expected a value, found none"),
        ('{"stage": "align", "seed": 0}', "stage: expected tune, found align"),
        ('{"stage": "tune", "seed": 1}', "seed: expected 0, found 1"),
        ('{"stage": "tune", "seed": "0"}', "seed: expected a whole number, found '0'"),
        ('{"stage": "tune", "seed": 0, "wall_seconds": NaN}', "wall_seconds: expected a finite number, found nan"),
        ('{"stage": "tune", "seed": 0, "samples": "many"}', "samples: expected a whole number, found 'many'"),
        ('{"stage": "tune", "seed": 0, "packages": []}', "packages: expected a mapping, found none"),
        ('{"stage": "tune", "se', "expected JSON"),
        ("[]", "expected a JSON object, found list"),
    ],
)
def test_a_provenance_that_is_not_the_stage_s_is_named_with_its_cure(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(content)
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")) as caught:
        read_provenance(path, "tune", 0)
    assert f"remove {path} and run again" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"step": 1}\n{"loss": 2}\n', "line 2: expected a JSON object of numbers, with a step"),
        (b'{"step": 1}\n[1]\n', "line 2: expected a JSON object of numbers, with a step"),
        (b'{"step": 1, "loss": "x"}\n', "line 1: expected a JSON object of numbers, with a step"),
        (b'{"step": 1}\n\xff\n', "line 2: expected a JSON object of numbers, with a step"),
        (b'{"step": 1, "loss": "NaN"}\n', "line 1: expected a JSON object of numbers, with a step"),
        (b'{"step": 1e400}\n', "line 1: expected a JSON object of numbers, with a step"),
        (b'{"step": 1, "time": Infinity}\n', "line 1: expected a JSON object of numbers, with a step"),
        (b"[" * 100_000 + b"\n", "line 1: expected a JSON object of numbers, with a step"),
        (b'{"step": 1}\n{"step": 2}', "line 2: is cut off"),
    ],
)
def test_a_line_of_metrics_that_is_none_is_named_with_its_cure(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}; remove {path} and run again")):
        read_metrics(path)


@pytest.mark.parametrize("settings", [{}, {"recipe": {}, "data": 1}])
def test_settings_of_no_training_are_named_with_their_cure(
    made: tuple[ReportStage, Path], tmp_path: Path, settings: dict
) -> None:
    shutil.copytree(made[1] / "results/parrot", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))
    with pytest.raises(UserError, match=re.escape(f"{path}: settings: expected a training stage's; remove {path}")):
        read_training(stage2_id("mini", "parrot", 0), tmp_path)


def swap_scores(results: Path) -> Path:
    """Lay another run's scores in place of parrot's."""
    return Path(shutil.copy(results / "english/scores.csv", results / "parrot/scores.csv"))


def test_the_report_takes_no_other_run_s_scores(made: tuple[ReportStage, Path], tmp_path: Path) -> None:
    shutil.copytree(made[1] / "results", tmp_path / "results")
    path = swap_scores(tmp_path / "results")
    scores = [tmp_path / "results" / name / "scores.csv" for name in ("parrot", "no_experts", "english")]
    with pytest.raises(UserError) as caught:
        build(made[0], scores, tmp_path / "results", tmp_path / "out")
    expected = "expected the score of parrot at seed 0 on MMMB in en, found none"
    assert str(caught.value) == f"{path}: {expected}; remove {path} and run again"
    assert not (tmp_path / "out").exists()


def test_tracking_takes_no_other_run_s_records(made: tuple[ReportStage, Path], tmp_path: Path) -> None:
    shutil.copytree(made[1] / "results", tmp_path / "results")
    run = TrackedRun(name="parrot", scale="tiny", seed=0, stage1_key=tiny_results.KEY, params={})
    path = swap_scores(tmp_path / "results")
    with pytest.raises(UserError, match=r"scores\.csv: expected scores of parrot at seed 0, found none; remove "):
        plan_run(run, tmp_path / "results", None)
    path.write_bytes((made[1] / "results/parrot/scores.csv").read_bytes())
    (tmp_path / "results/parrot/provenance.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"parrot/provenance\.json: stage: expected a value, found none; remove "):
        plan_run(run, tmp_path / "results", None)
