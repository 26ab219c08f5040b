"""`snakemake --profile slurm all` at the mini scale, on both nodes of a real cluster, through all that befalls jobs.

The fixtures are one story, in this order; each test looks at a part of it.
"""

import csv
from contextlib import suppress
from pathlib import Path

import pytest

from tests.slurm.jobs import Run, jobs, metrics, provenance, slurm

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

STEPS = 20
RUNS = ("parrot", "english")
LANGUAGES = {"en", "zh", "pt", "ar", "tr", "ru"}


@pytest.fixture(scope="module")
def refused(project):
    """Stage 1 asks for the GPUs of both nodes, which are none that PyTorch would see."""
    (project / "config/gpus.yaml").write_text("hardware: {device: cuda}\n")
    run = Run(project, "--retries", "0", "--", "stage1", over=("config/gpus.yaml",))
    assert run.finish() == 1, run.output
    return run


@pytest.fixture(scope="module")
def local(project, refused, tmp_path_factory):
    """The same training in one process, without Slurm, from the same data."""
    copy = project.copy(tmp_path_factory.mktemp("local") / "project")
    (copy / "config/local.yaml").write_text(
        "hardware: {nodes: 1, gpus: 0, align: {micro_batch: 8, strategy: ddp}, tune: {micro_batch: 8, strategy: ddp}}\n"
    )
    files = ("config/config.yaml", "config/small.yaml", "config/local.yaml")
    done = copy.snakemake("--configfile", *files, "--", "results/mini/parrot/scores.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "results/mini"


@pytest.fixture(scope="module")
def aligned(project, local):
    """Stage 1, whose first attempt gets less memory than it needs; `local` is a copy from before there was any."""
    less = ("align:mem_mb=300 if attempt == 1 else 8000", "align:slurm_extra='--open-mode=append'")
    run = Run(project, "--retries", "1", "--set-resources", *less, "--", "stage1")
    assert run.finish() == 0, run.output
    return run


@pytest.fixture(scope="module")
def disturbed(project, aligned):
    """Stage 2 of both runs: pre-empted and on a node that fails, at the end of its time and cancelled."""
    run = Run(project, "--retries", "0", "--", "all")
    first = run.wait_for("stage 2", lambda: [name for name in RUNS if stage_2(name) in jobs("RUNNING")])[0]
    (second,) = set(RUNS) - {first}
    waiting = run.wait_for("another stage 2", lambda: jobs("PENDING").get(stage_2(second)))
    slurm("scontrol", "hold", waiting)  # else it would train in the pauses of the first
    disturb = {"parrot": disturb_parrot, "english": disturb_english}
    disturb[first](project, run)
    slurm("scontrol", "release", waiting)
    disturb[second](project, run)
    assert run.finish() == 1, run.output
    return run


def stage_2(run: str) -> str:
    """What Snakemake calls a run's stage 2 in the queue."""
    return f"rule_tune_wildcards_{run}"


def disturb_parrot(project, run):
    run.training("parrot", 4)
    (project / "environment").write_text(environment_of_training())
    slurm("sbatch", "--wait", "--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
    run.training("parrot", 12)
    slurm("scontrol", "update", "nodename=gpu2", "state=down", "reason=test")
    run.wait_for("job in the queue again", lambda: stage_2("parrot") not in jobs("RUNNING"))
    slurm("scontrol", "update", "nodename=gpu2", "state=resume")


def disturb_english(project, run):
    job = run.training("english", 4)
    slurm("scancel", "--signal=TERM", job)  # as --signal=TERM@600 does: the job itself is not cancelled
    run.training("english", 12)
    slurm("scancel", job)


@pytest.fixture(scope="module")
def finished(project, disturbed):
    """The user's answer to a failure: the same command again."""
    run = Run(project, "--", "all")
    assert run.finish() == 0, run.output
    return project / "results/mini"


def test_gpus_that_are_not_there_stop_the_job_in_one_line(project, refused):
    (log,) = (project / "logs/mini/align").glob("*/align.log")
    lines = {line for line in log.read_text().splitlines() if line.startswith("parrot: error:")}
    assert len(lines) == 1, log.read_text()
    assert lines.pop().startswith("parrot: error: hardware.gpus: expected 2 visible GPUs on ")
    assert "gres=gpu:2" in refused.output


def test_a_job_over_its_memory_limit_is_retried_with_more(project, aligned):
    first, second = sorted((project / "logs/slurm/rule_align").rglob("*.log"), key=lambda path: int(path.stem))[-2:]
    assert "exceeded memory limit" in first.read_text()
    assert "exceeded memory limit" not in second.read_text()
    assert "mem_mb=8000" in aligned.output


def test_both_runs_share_one_stage_1(finished):
    (stage1,) = (finished / "align").iterdir()
    assert [row["step"] for row in metrics(stage1)] == list(range(1, STEPS + 1))
    for run in RUNS:
        assert provenance(finished / run)["projector_sha256"] == provenance(stage1)["projector_sha256"]


def test_training_went_on_where_it_was_stopped(finished, disturbed):
    """By a pre-emption, by a node's failure, by the end of its time and, at last, by being cancelled."""
    for run in RUNS:
        assert [row["step"] for row in losses(finished / run)] == list(range(1, STEPS + 1))
        assert 10 <= provenance(finished / run)["resumed_from_step"] < STEPS
    assert disturbed.output.count("\nrule tune:") == len(RUNS)  # Slurm started them again, not Snakemake
    assert "SLURM status is: 'CANCELLED'" in disturbed.output


def test_two_nodes_train_as_one_process_does(finished, local):
    (here,), (there,) = ((results / "align").iterdir() for results in (finished, local))
    for ours, theirs in ((here, there), (finished / "parrot", local / "parrot")):
        assert [provenance(folder)["processes"] for folder in (ours, theirs)] == [4, 1]
        ours, theirs = losses(ours), losses(theirs)
        assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-4)
    ours, theirs = accuracies(finished), accuracies(local)
    assert {language for _, language, _ in theirs} == {*LANGUAGES, "non_english"}
    for question, accuracy in theirs.items():
        assert ours[question] == pytest.approx(accuracy, abs=2), question


def test_jobs_never_download_and_their_logs_are_kept(project, finished):
    text = "".join(path.read_text() for path in (project / "logs/slurm/rule_tune").rglob("*.log"))
    for run in RUNS:
        assert f"logs/mini/{run}/tune.log" in text
    assert "putting Slurm job" in text
    assert "HF_HUB_OFFLINE=1" in (project / "environment").read_text()


def environment_of_training() -> str:
    """The environment variables of one of the processes that train."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"\0train\0tune\0" in (folder / "cmdline").read_bytes():
                return (folder / "environ").read_text().replace("\0", "\n")
    raise AssertionError("nothing trains")


def losses(folder: Path) -> list[dict[str, float]]:
    return [row for row in metrics(folder) if "loss" in row]


def accuracies(results: Path) -> dict[tuple[str, str, str], float]:
    """Accuracies of the paper's model by benchmark, language and control."""
    with open(results / "parrot/scores.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["image_source"], row["kind"]) == ("all", "all")]
    return {
        (row["benchmark"], row["language"], row["control"]): float(row["accuracy"])
        for row in rows
        if row["run"] == "parrot"
    }
