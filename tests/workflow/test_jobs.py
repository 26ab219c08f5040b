"""The jobs that the plan and the doctor read are those that Snakemake would run, and listing them changes nothing."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.project import new_project

ARGUMENTS = ("--dry-run", "--configfile", "config/config.yaml", "--")
TARGETS = {"all", "stage1", "tables", "add_lang", "lora", "seeds", "llava", "translate_test", "qwen2_vl"}


def listed(project, *arguments):
    done = project.run(sys.executable, "-m", "parrot.cluster.jobs", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def reasons(project, *arguments):
    """Why each job would run, of those that would."""
    jobs = listed(project, *arguments)["jobs"]
    return {(job["rule"], job["name"]): job["reason"] for job in jobs if job["reason"]}


def test_listed_jobs_are_those_that_a_dry_run_prints(pristine):
    arguments = ("--dry-run", "--configfile", "config/paper.yaml", "--", *TARGETS)
    assert set(reasons(pristine, *arguments)) == {
        job for job in pristine.scheduled(*arguments) if job[0] not in TARGETS
    }


def test_jobs_ask_for_what_a_dry_run_of_the_profile_prints(pristine):
    found = listed(pristine, "--profile", "slurm", "--dry-run", "--", "all")
    assert (found["configfiles"], found["at_a_time"]) == (["config/paper.yaml"], 16)
    printed = pristine.snakemake("--profile", "slurm", "--dry-run", "--", "all").stdout
    blocks = re.findall(r"^rule (\w+):\n((?:    .*\n)+)", printed, re.MULTILINE)
    names = ("nodes", "gpu", "mem_mb", "runtime", "slurm_extra")
    asked = {
        rule: {
            name: value
            for name, value in re.findall(r"(\w+)=(.*?)(?=, \w+=|$)", re.findall("resources: (.*)", body)[0])
            if name in names
        }
        for rule, body in blocks
    }
    submitted = {job["rule"]: job for job in found["jobs"] if not job["is_local"]}
    assert {rule for rule, _ in blocks} >= set(submitted)
    for rule, job in submitted.items():
        assert {name: str(value) for name, value in job["resources"].items() if name in names} == asked[rule], rule
    assert {job["rule"] for job in found["jobs"] if job["is_local"]} == {"fetch", "scores", "track"}
    # A dry run has one core, and gives no job more threads than that.
    assert submitted["tune"]["threads"] == 16


@pytest.fixture(scope="session")
def evaluated_once(tmp_path_factory):
    """Stage 1 to scores of one run, by a stand-in for the command line."""
    project = new_project(tmp_path_factory.mktemp("evaluated") / "project")
    shutil.copy(Path(__file__).with_name("fake_cli.py"), project / "parrot/cli/app.py")
    done = project.snakemake("results/mini/parrot/scores.csv")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def evaluated(evaluated_once, tmp_path):
    return evaluated_once.copy(tmp_path / "project")


def test_what_is_done_has_no_reason(evaluated):
    jobs = listed(evaluated, *ARGUMENTS, "results/mini/parrot/scores.csv")["jobs"]
    assert {job["rule"] for job in jobs} == {"fetch", "align", "tune", "predict", "predict_stage1", "score"}
    assert {job["reason"] for job in jobs} == {""}


def test_settings_that_changed_make_a_job_out_of_date(evaluated):
    (evaluated / "over.yaml").write_text("evaluate: {resamples: 77}\n")
    target = "results/mini/parrot/scores.csv"
    assert reasons(evaluated, "--dry-run", "--configfile", "over.yaml", "--", target) == {
        ("score", "parrot"): "settings or code changed"
    }
    shutil.rmtree(evaluated / "results/mini/parrot/predictions")
    assert reasons(evaluated, *ARGUMENTS, target) == {}  # nothing that is asked for misses them
    assert reasons(evaluated, *ARGUMENTS, "results/mini/parrot/predictions.html") == {
        ("predict", "parrot"): "missing",
        ("score", "parrot"): "after others",
        ("predictions_page", "parrot"): "missing",
    }


def test_a_newer_input_makes_a_job_out_of_date_and_those_behind_it(evaluated):
    (evaluated / "results/mini/parrot/model/model.safetensors").write_text("newer")
    assert reasons(evaluated, *ARGUMENTS, "results/mini/parrot/scores.csv") == {
        ("predict", "parrot"): "newer inputs",
        ("score", "parrot"): "after others",
    }


def test_listing_changes_nothing_in_a_folder_that_another_snakemake_has_locked(evaluated):
    locks = evaluated / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/mini/parrot/scores.csv\n")
    (evaluated / ".snakemake/iocache").mkdir(exist_ok=True)
    (evaluated / ".snakemake/iocache/latest.pkl").write_bytes(b"what a dry run left")
    (evaluated / "over.yaml").write_text("tune: {learning_rate: 0.5}\n")
    listed(evaluated, "--dry-run", "--configfile", "over.yaml", "--", "all")
    before = contents(evaluated.folder)
    listed(evaluated, "--dry-run", "--configfile", "over.yaml", "--", "all")
    assert contents(evaluated.folder) == before
    assert (evaluated / ".snakemake/iocache/latest.pkl").read_bytes() == b"what a dry run left"


def contents(folder):
    """Files by the time that they were written at; Python's own cache is nobody's business."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: path.stat().st_mtime_ns for path in paths}


def one_job(project):
    """The target of a job that does nothing: checking data that is not there."""
    project.edit("workflow/rules/fetch.smk", '"parrot fetch ', '"touch {output.report}; : parrot fetch ')
    (job,) = (job for job in listed(project, *ARGUMENTS, "parrot")["jobs"] if job["rule"] == "fetch")
    return f"results/mini/data/{job['name']}.json"


def test_the_line_has_hours_where_there_are_gpus(project):
    (project / "over.yaml").write_text("hardware: {gpus: 1, gpu_model: a100}\n")
    done = project.snakemake(one_job(project), "--configfile", "over.yaml")
    said = (
        "plan: 1 job (0 trainings), 0 GPU-hours, 0 h on 1 GPU alone, at 40 % of A100's peak (not measured), 0.0 TB disk"
    )
    assert f"\n{said}; details: parrot plan all --configfile over.yaml\n" in done.stderr


def test_a_plan_that_fails_stops_nothing(project):
    (project / "over.yaml").write_text("hardware: {gpus: 1, gpu_model: abacus}\n")
    done = project.snakemake(one_job(project), "--configfile", "over.yaml")
    assert done.returncode == 0, done.stderr
    assert "\nplan: not known: unknown GPU abacus; config/plan.yaml has v100, " in done.stderr


def test_what_the_workflow_refuses_is_its_own_line(pristine, tmp_path):
    (tmp_path / "over.yaml").write_text("tune: {learning_rte: 0.1}\n")
    done = pristine.run(sys.executable, "-m", "parrot", "plan", "all", "--configfile", str(tmp_path / "over.yaml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"parrot: error: .*over\.yaml: tune\.learning_rte: unknown key\n", done.stderr)
