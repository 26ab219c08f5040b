"""lmms-eval itself asks the demo's Parrot; `make test-lmms` runs this in an environment of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "mini"
TASK = "mini_mmmb_tr"
SCORE = {"run": "parrot", "benchmark": "MMMB", "language": "tr", "image_source": "all", "kind": "all"}
SCORE |= {"scoring": "vanilla", "control": "none"}


def rows(path: Path, delimiter: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.fixture(scope="module", name="output")
def _output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lmms")
    command = [str(Path(sys.executable).with_name("lmms-eval")), "eval", "--model", "parrot", "--tasks", TASK]
    command += ["--model_args", f"pretrained={RESULTS}/parrot/model", "--batch_size", "32"]
    command += ["--include_path", str(Path(__file__).parent), "--output_path", str(folder), "--log_samples"]
    offline = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | offline, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def read(output: Path, pattern: str) -> list[Any]:
    (path,) = output.rglob(pattern)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_answer_is_that_of_parrot_predict(output: Path) -> None:
    predictions = rows(RESULTS / "parrot" / "predictions" / "MMMB_tr.tsv", "\t")
    samples = {sample["doc_id"]: sample["filtered_resps"] for sample in read(output, f"*_samples_{TASK}.jsonl")}
    assert [samples[place] for place in range(len(samples))] == [row["prediction"] for row in predictions]


def test_the_accuracy_is_that_of_parrot_score(output: Path) -> None:
    (path,) = output.rglob("*_results.json")
    accuracy = json.loads(path.read_text(encoding="utf-8"))["results"][TASK]["accuracy,none"]
    (score,) = [row for row in rows(RESULTS / "scores.csv", ",") if SCORE.items() <= row.items()]
    assert 100 * accuracy == pytest.approx(float(score["accuracy"]), abs=1e-4)
