"""Time on processors: from what such jobs took here, else from figures that are marked as another machine's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from parrot.cluster.jobs import Job
from parrot.cluster.plan.schedule import took

ELSEWHERE = dict.fromkeys(("fetch", "predict", "score", "by_target", "predictions_page", "track_target"), 1.0)


@pytest.fixture
def jobs() -> list[Job]:
    """One training of each stage, and what stands behind them."""
    fetch, stage1, tune = Job("fetch", "d"), Job("align", "k"), Job("tune", "parrot")
    predict, before, score = Job("predict", "parrot"), Job("predict_stage1", "k"), Job("score", "parrot")
    shown, browse = Job("by_target", "parrot"), Job("predictions_page", "parrot")
    after = {
        fetch: (),
        stage1: (fetch,),
        tune: (fetch, stage1),
        predict: (tune, fetch),
        before: (stage1, fetch),
        score: (predict, before),
        shown: (predict, score, tune),
        browse: (predict, fetch),
        Job("track_target", "parrot"): (shown, score, browse, tune),
    }
    return [replace(job, after=others, reason="missing") for job, others in after.items()]


def record(folder: Path, name: str, seconds: float) -> None:
    path = folder / "mini" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"s": seconds}) + "\n")


def test_jobs_take_what_such_jobs_took_here(jobs: list[Job], tmp_path: Path) -> None:
    for name, seconds in (("parrot/tune", 100), ("english/tune", 300), ("lora/tune", 9000), ("align/0a/align", 60)):
        record(tmp_path, f"{name}.jsonl", seconds)
    record(tmp_path, "align/0a/predict.jsonl", 40)
    (tmp_path / "mini/cut").mkdir()
    (tmp_path / "mini/cut/tune.jsonl").write_text('{"s": 1')
    found = took("mini", jobs, ELSEWHERE, (1, 2), tmp_path)
    assert set(found.here) == {"tune", "align", "predict_stage1"}
    assert found.seconds["tune"] == 300
    # One after the other; with two at a time only stage 1's answers and the page go on beside the chain.
    assert found.wall_clock == {1: 300 + 60 + 40 + 6, 2: 1 + 60 + 300 + 1 + 1 + 1 + 1}
    assert found.about(2) == "about 6 min, 2 jobs at a time, by another machine's times"


def test_what_nothing_measured_is_said(jobs: list[Job], tmp_path: Path) -> None:
    found = took("mini", jobs, ELSEWHERE, (1,), tmp_path)
    assert set(found.unknown) == {"align", "tune", "predict_stage1"}
    assert found.about(1).startswith("time not measured yet of ")
