"""The store as a reader meets it: MLflow's own page, in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parrot.evaluate.scores_csv import COLUMNS
from parrot.tracking.identity import TrackedRun
from parrot.tracking.importer import import_runs, init_store
from tests.helpers.rendered import rendered
from tools.docs import comparison, mlflow_server

NAMES = ("parrot", "no_experts", "english")
KEY = "0123456789ab"
PARAMETER = "model.num_experts"


def write_records(folder: Path, name: str, stage: str = "tune") -> None:
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"stage": stage, "seed": 0, "git_commit": "a" * 40}))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.5, "time": 1700000000.0}\n')
    row = dict.fromkeys(COLUMNS, "50.0") | {"run": name, "seed": "0", "benchmark": "MMMB", "language": "tr"}
    row |= {"image_source": "all", "kind": "all", "split": "all", "scoring": "vanilla", "control": "none"}
    (folder / "scores.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")


@pytest.mark.browser
def test_the_comparison_shows_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = []
    for number, name in enumerate(NAMES):
        write_records(tmp_path / name, name)
        params = {PARAMETER: str(number)}
        runs.append(TrackedRun(name=name, scale="mini", seed=0, stage1_key=KEY, params=params))
    write_records(tmp_path / "align" / KEY, "align", "align")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert init_store() is not None
    assert import_runs(runs, tmp_path)
    with mlflow_server(store, tmp_path / "server.log") as address:
        page = rendered(comparison(address, store, NAMES))
    assert "Comparing 3 Runs" in page
    for shown in (*NAMES, PARAMETER, "MMMB/all/tr"):
        assert f">{shown}<" in page, shown
