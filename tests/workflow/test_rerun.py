"""What an edit schedules: exactly the jobs that it makes stale, and never training for anything else.

The workflow is the real one; a stand-in for the command line writes every stage's outputs without the work.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.helpers.project import new_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory):
    project = new_project(tmp_path_factory.mktemp("finished") / "project")
    shutil.copy(Path(__file__).with_name("fake_cli.py"), project / "parrot/cli/app.py")
    done = project.snakemake("all")
    assert done.returncode == 0, done.stderr
    assert (
        "\nplan: 18 jobs (4 trainings), about 7 min, 2 jobs at a time, by another machine's times; details: "
        in done.stderr
    )
    assert (project / "results/mini/report.html").exists()
    return project


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy in which `all` has been made."""
    return finished_once.copy(tmp_path / "project")


def test_second_run_schedules_nothing(finished):
    done = finished.snakemake("all")
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stderr


def test_damaged_settings_are_written_anew(finished):
    folder = finished / ".snakemake/settings"
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, content in whole.items():
        (folder / name).write_bytes(content[: len(content) // 2])
    assert finished.scheduled("all") == set()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_the_store_is_nobodys_input(finished):
    (finished / "mlflow.db").unlink()
    assert finished.scheduled("all") == set()
    (finished / "results/mini/tracked").unlink()
    assert finished.scheduled("all") == {("track", ""), ("all", "")}
    assert not (finished / "mlflow.db").exists()
    assert finished.snakemake("--forcerun", "score", "--", "results/mini/scores.csv").returncode == 0
    assert not (finished / "mlflow.db").exists()
    assert finished.snakemake("all").returncode == 0
    assert (finished / "mlflow.db").exists()


def test_number_of_experts_of_one_run(finished):
    finished.edit("config/runs.yaml", "no_experts: {model: {num_experts: 0}}", "no_experts: {model: {num_experts: 3}}")
    assert finished.scheduled("all") == {
        ("tune", "no_experts"),
        ("predict", "no_experts"),
        ("score", "no_experts"),
        ("predictions_page", "no_experts"),
        ("scores", ""),
        ("report", ""),
        ("track", ""),
        ("all", ""),
    }


def test_comments_docstrings_layout_and_hardware(finished):
    for module in (
        "train/stages",
        "model/modeling_parrot",
        "evaluate/score",
        "evaluate/predict",
        "report/build",
        "fetch/fetch",
    ):
        text = (finished / f"parrot/{module}.py").read_text()
        (finished / f"parrot/{module}.py").write_text(text + "\n# A remark.\n")
    finished.edit("parrot/train/stages.py", '"""The two training stages', '"""Both training stages')
    finished.edit("config/config.yaml", "  align: {micro_batch: 48}\n", "  align: {micro_batch: 24}\n")
    finished.edit(
        "config/config.yaml",
        "  num_experts: 6\n  expert_intermediate_size: 128\n",
        "  expert_intermediate_size: 128\n  num_experts: 6\n",
    )
    assert finished.scheduled("all") == set()


def test_a_version_and_what_is_said(finished):
    edits = {
        "parrot/__init__.py": ('__version__ = "', '__version__ = "9.'),
        "parrot/train/callbacks.py": ("samples/s", "samples per second"),
        "parrot/data/images.py": ("{where} is missing", "{where} is not there"),
        "parrot/evaluate/judge.py": ("does not respond", "is silent"),
        "parrot/evaluate/translate.py": ("were cut off", "ended"),
    }
    for file, (old, new) in edits.items():
        text = (finished / file).read_text()
        assert old in text, file
        (finished / file).write_text(text.replace(old, new))
    assert finished.scheduled("all") == set()


def test_code_of_optional_parts_that_no_run_uses(finished):
    for part in ("evaluate/judge", "evaluate/translate", "evaluate/hf_predictor", "train/adapters"):
        with open(finished / f"parrot/{part}.py", "a") as file:
            file.write("\nEPSILON = 1e-9\n")
    assert finished.scheduled("all") == set()


def test_a_code_line_of_the_scorer(finished):
    with open(finished / "parrot/evaluate/score.py", "a") as file:
        file.write("\nEPSILON = 1e-9\n")
    jobs = finished.scheduled("all")
    assert {("score", "parrot"), ("score", "no_experts"), ("score", "english")} <= jobs
    assert {rule for rule, _ in jobs} == {"score", "scores", "report", "predictions_page", "track", "all"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config/tables.yaml", "title: What the router's choice tells", "title: What the choice of expert tells"),
        ("parrot/evaluate/router_stats.py", "PERMUTATIONS = 1000", "PERMUTATIONS = 2000"),
    ],
)
def test_a_table_and_what_computes_it(finished, file, old, new):
    finished.edit(file, old, new)
    assert finished.scheduled("all") == {("report", ""), ("track", ""), ("all", "")}


def test_the_page_of_answers(finished):
    finished.edit("config/config.yaml", "  browse_rows: 10000", "  browse_rows: 3000")
    pages = {("predictions_page", run) for run in ("parrot", "no_experts", "english")} | {("track", ""), ("all", "")}
    assert finished.scheduled("all") == pages
    finished.edit("config/config.yaml", "  browse_rows: 3000", "  browse_rows: 10000")
    with open(finished / "parrot/report/browse.js", "a") as file:
        file.write("const MORE = 1;\n")
    assert finished.scheduled("all") == pages


def test_a_code_line_of_the_training(finished):
    with open(finished / "parrot/train/batches.py", "a") as file:
        file.write("\nEPSILON = 1e-9\n")
    rules = {rule for rule, _ in finished.scheduled("all")}
    assert {"align", "tune", "predict", "score", "report", "track"} <= rules
    assert "fetch" not in rules


def test_fresh_reaches_that_runs_training_alone(finished):
    files = [f"results/mini/{run}/metrics.jsonl" for run in ("no_experts", "parrot")]
    for file in files:
        (finished / file).unlink()
    done = finished.snakemake("--config", "fresh=no_experts", "--", *files)
    assert done.returncode == 0, done.stderr
    assert ["'--fresh'" in (finished / file).read_text() for file in files] == [True, False]
    assert ["'--resume'" in (finished / file).read_text() for file in files] == [False, True]
    # It decides nothing, so that leaving it out again makes nothing stale.
    assert finished.scheduled(*files) == set()


def test_fresh_says_how_a_finished_training_is_made_again(finished):
    done = finished.snakemake("--dry-run", "--config", "fresh=english", "--", "all")
    file = "results/mini/english/metrics.jsonl"
    line = f"parrot: warning: --config fresh: finished, and trained again by --forcerun {file}"
    assert line in done.stderr.splitlines()
    assert ("tune", "english") in finished.scheduled("--forcerun", file, "--", "all")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "no_expert",
            "--config fresh: config/runs.yaml: unknown run no_expert; did you mean no_experts",
        ),
        ("qwen2_vl", "--config fresh: qwen2_vl trains no model; expected a run that does"),
    ],
)
def test_fresh_names_a_run_that_trains(finished, name, line):
    done = finished.snakemake("--config", f"fresh={name}", "--", "all")
    assert done.returncode != 0
    (said,) = [each for each in done.stderr.splitlines() if "error" in each]
    assert said.startswith(f"parrot: error: {line}")


def test_no_name_reaches_the_shell(finished_once, tmp_path):
    project = finished_once.copy(tmp_path / 'it\'s; "a" $(touch pwned) folder')
    odd = 'it\'s; "one" $(touch pwned) '
    pin = f"{odd}.dvc"
    (project / pin).touch()
    entry = {"kind": "conversations", "file": f"{odd}.json", "images": odd, "licence": odd, "source": "local"}
    (project / entry["file"]).touch()
    with open(project / "config/datasets.yaml", "a") as file:
        file.write(yaml.safe_dump({odd: entry}))
    with open(project / "config/runs.yaml", "a") as file:
        file.write(json.dumps({"mine": {"data": {"instructions": {"en": [odd]}}, "against": []}})[1:-1] + "\n")
    (project / f"{odd}.yaml").write_text(json.dumps({"data_pin": pin, "report": {"notes": [odd]}}))
    done = project.snakemake("--configfile", f"{odd}.yaml", "--", "mine")
    assert done.returncode == 0, done.stderr
    assert not list(project.folder.rglob("pwned"))
    assert any(repr(["--pin", pin])[1:-1] in report.read_text() for report in (project / "results/mini/data").iterdir())


def test_a_target_brings_its_baselines(finished):
    finished.edit("config/runs.yaml", "frozen_llm: {tune", "frozen_llm: {against: [no_experts, llava], tune")
    jobs = finished.scheduled("frozen_llm")
    trained = {run for rule, run in jobs if rule == "tune"}
    assert trained == {"frozen_llm", "llava"}
    assert {("score", "llava"), ("by_target", "frozen_llm"), ("track_target", "frozen_llm")} <= jobs
    # What a run is compared with decides nothing of it.
    finished.edit("config/runs.yaml", "parrot: {} ", "parrot: {against: [english]} ")
    assert finished.scheduled("all") == set()


def test_another_target_leaves_all_alone(finished):
    jobs = finished.scheduled("experts_6")
    (finished / "results/mini/parrot/model/adapter").mkdir()
    (finished / "results/mini/parrot/model/adapter/adapter_config.json").write_text("{}")
    # Six experts are the paper's model: its training is reused.
    expected = {"link_model", "predict", "score", "predictions_page", "by_target", "track_target", "experts_6"}
    assert {rule for rule, _ in jobs} == expected
    done = finished.snakemake("experts_6")
    assert done.returncode == 0, done.stderr
    assert "\nwhat came out\n" in done.stderr
    assert (finished / "results/mini/by_target/experts_6/tables/table1.csv").exists()
    assert (finished / "results/mini/experts_6/predictions.html").exists()
    model = Path("model/model.safetensors")
    assert (finished / "results/mini/experts_6" / model).samefile(finished / "results/mini/parrot" / model)
    assert (finished / "results/mini/experts_6/model/adapter/adapter_config.json").exists()
    assert finished.scheduled("all") == set()


@pytest.mark.parametrize("command", ["train_tune", "fetch"])
def test_a_jobs_one_line_appears_verbatim(finished, command):
    line = "parrot: error: data/mini/sft/sft_tr.json: sample 7: image: expected a file, found none"
    (finished / "break").mkdir()
    (finished / "break" / command).write_text(line)
    done = finished.snakemake("--forcerun", {"train_tune": "tune", "fetch": "fetch"}[command], "--", "parrot")
    assert done.returncode != 0
    assert line in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    log = {"train_tune": "logs/mini/parrot/tune.log", "fetch": next((finished / "logs/mini/fetch").iterdir())}[command]
    assert (finished / log).read_text().splitlines() == [line]


def test_a_failed_training_keeps_its_checkpoints(finished):
    checkpoint = finished / "work/mini/tune/checkpoint-100"
    checkpoint.mkdir(parents=True)
    (finished / "break").mkdir()
    (finished / "break/train_tune").write_text("parrot: error: stopped")
    done = finished.snakemake("--forcerun", "tune", "--", "parrot")
    assert done.returncode != 0
    assert checkpoint.exists()
    assert not (finished / "results/mini/parrot/model/model.safetensors").exists()


def test_a_training_that_is_told_to_stop_saves_and_is_heard(finished):
    (finished / "hang").mkdir()
    (finished / "hang/train_tune").touch()
    log = finished / "logs/mini/parrot/tune.log"
    log.unlink()
    command = ["snakemake", "--cores", "1", "--forcerun", "tune", "--", "results/mini/parrot/metrics.jsonl"]
    with open(finished / "terminal", "w") as terminal:
        streams = {"stdout": terminal, "stderr": terminal}
        job = subprocess.Popen(
            command, cwd=finished.folder, env=finished.environment, start_new_session=True, **streams
        )
        wait_for(lambda: log.exists() and "training" in log.read_text())
        os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(timeout=60) != 0
    wait_for(lambda: log.read_text().splitlines() == ["training", "saving", "saved"])


def wait_for(condition, seconds=60):
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.1)
