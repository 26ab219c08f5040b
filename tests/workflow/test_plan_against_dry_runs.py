"""The plan's jobs are those that Snakemake schedules."""

from pathlib import Path

import pytest
from parrot.cluster.plan.jobs import Jobs, known_targets

from parrot.config.runs import DEFAULT_CONFIG, Suite


def planned(project, targets, *overlays):
    suite = Suite.load((*DEFAULT_CONFIG, *overlays))
    return {tuple(job) for job in Jobs(suite, targets, project / "results").to_do()}


def scheduled(project, targets, *options):
    jobs = project.scheduled("--rerun-triggers", "mtime", *options, "--", *targets)
    return {job for job in jobs if job[0] not in known_targets(Suite.load())}


def make(project, targets):
    """Empty files in place of everything that the mini scale's `targets` write."""
    jobs = Jobs(Suite.load(), targets, project / "results")
    for step in jobs.steps.values():
        for output in step.outputs:
            path: Path = jobs.folder / output
            if path.suffix or path.name == "tracked":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            else:
                path.mkdir(parents=True, exist_ok=True)


def test_of_targets_of_every_kind(pristine):
    targets = ("all", "align", "tables", "add_lang", "lora", "seeds", "llava", "translate_test", "qwen2_vl")
    paper = "config/paper.yaml"
    assert planned(pristine, targets, paper) == scheduled(pristine, targets, "--configfile", paper)


@pytest.mark.parametrize(
    ("done", "missing", "asked"),
    [
        (["parrot"], [], ["parrot", "experts"]),
        (["all"], ["parrot/model/model.safetensors", "no_experts/predictions"], ["all"]),
    ],
    ids=str,
)
def test_what_is_done_is_left_out(project, done, missing, asked):
    make(project, done)
    for output in missing:
        path = project / "results/mini" / output
        path.rmdir() if path.is_dir() else path.unlink()
    assert planned(project, asked) == scheduled(project, asked)


def one_job(project):
    """The target of a job that does nothing: checking data that is not there."""
    project.edit("workflow/rules/fetch.smk", '"parrot fetch ', '"touch {output.report}; : parrot fetch ')
    return f"results/mini/data/{Suite.load().run('parrot').data_key}.json"


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
    assert "\nplan: not known: parrot: error: unknown GPU abacus; config/plan.yaml has v100, " in done.stderr
