"""The whole chain at the size of a minute, nothing mocked: data, both stages, answers, scores, report, MLflow."""

import csv
import itertools
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.project import new_project

pytestmark = pytest.mark.slow

SMOKE = Path(__file__).with_name("smoke.yaml")
LANGUAGES = ["en", "zh", "pt", "ar", "tr", "ru"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    project = new_project(tmp_path_factory.mktemp("smoke") / "project")
    shutil.copy(SMOKE, project / "config")
    done = project.snakemake("--configfile", "config/smoke.yaml", "--", "all", "tables", "figures")
    assert done.returncode == 0, done.stdout + done.stderr
    return project


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_data_is_what_was_pinned(smoke):
    assert smoke.run("dvc", "status", "-q", "data.dvc").returncode == 0
    pinned = Path(__file__).parents[2] / "data.dvc"
    assert (smoke / "data.dvc").read_bytes() == pinned.read_bytes()


def test_every_step_is_recorded(smoke):
    (stage1,) = (smoke / "results/mini/align").iterdir()
    for folder, steps in ((stage1, 4), (smoke / "results/mini/parrot", 6), (smoke / "results/mini/english", 6)):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        training = [line for line in lines if "loss" in line]
        assert [line["step"] for line in training] == list(range(1, steps + 1))
        assert [line["samples"] for line in training] == [8 * step for step in range(1, steps + 1)]
        provenance = json.loads((folder / "provenance.json").read_text())
        assert provenance["data_pins"]


def test_scores_cover_runs_languages_and_controls(smoke):
    found = {
        (row["run"], row["benchmark"], row["language"], row["control"])
        for row in rows(smoke / "results/mini/scores.csv")
        if row["image_source"] == "all" and row["kind"] == "all"
    }
    (stage1,) = [path.name for path in (smoke / "results/mini/align").iterdir()]
    languages = (*LANGUAGES, "non_english")
    expected = {(f"align/{stage1}", "MMMB_val", language, "text") for language in languages}
    for run in ("parrot", "english"):
        expected |= {(run, "MMBench_dev", language, "none") for language in languages}
        for control in ("none", "shuffled", "text"):
            expected |= {(run, "MMMB_val", language, control) for language in languages}
    assert found == expected


def test_report_and_tables_are_whole(smoke):
    results = smoke / "results/mini"
    table = rows(results / "tables/table1.csv")
    cells = {(row["image_source"], row["run"], row["language"]): row for row in table if row["language"] in LANGUAGES}
    assert set(cells) == set(itertools.product(("twemoji", "openmoji"), ("parrot", "english"), LANGUAGES))
    for cell in cells.values():
        assert cell["benchmark"] == "MMBench_dev"
        assert 0 <= float(cell["low"]) <= float(cell["value"]) <= float(cell["high"]) <= 100
    assert (results / "figures/fig7a.svg").stat().st_size > 1000
    page = (results / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") >= 10
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_every_run_has_its_answers_on_a_page(smoke):
    for run in ("parrot", "english"):
        page = (smoke / f"results/mini/{run}/predictions.html").read_text(encoding="utf-8")
        # 160 questions under three controls and 224 rotations, in six languages.
        assert f"All {6 * (3 * 160 + 224):,} predictions." in page


def test_runs_are_in_mlflow(smoke):
    code = (
        "from mlflow import MlflowClient; c = MlflowClient('sqlite:///mlflow.db');"
        "e = c.get_experiment_by_name('parrot').experiment_id;"
        "print(*(run.data.tags['parrot.id'] for run in c.search_runs([e])))"
    )
    done = smoke.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert {"mini/english/seed0", "mini/parrot/seed0"} <= set(names)


def test_second_run_schedules_nothing(smoke):
    assert smoke.scheduled("--configfile", "config/smoke.yaml", "--", "all") == set()


def test_a_corrupt_image_of_an_own_set_is_named(smoke):
    own = smoke / "own"
    (own / "images").mkdir(parents=True)
    (own / "images/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]
    (own / "own.json").write_text(json.dumps([{"id": "1", "image": "broken.png", "conversations": turns}]))
    with open(smoke / "config/datasets.yaml", "a") as file:
        file.write("own: {kind: conversations, file: own/own.json, images: own/images, licence: mine, source: local}\n")
    with open(smoke / "config/runs.yaml", "a") as file:
        file.write("own_run: {data: {instructions: {en: [own]}}}\n")
    done = smoke.run("parrot", "fetch", "--check", "--configfile", "config/smoke.yaml", "--run", "own_run")
    assert done.returncode == 1
    line = "parrot: error: own/own.json: sample 1: image: own/images/broken.png cannot be decoded: "
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1
