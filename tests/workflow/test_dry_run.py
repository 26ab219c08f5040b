"""Every run and family dry-runs at both scales; what is wrong is one line before any job."""

import re
import shlex

import pytest
import yaml
from typer.main import get_command

from parrot.cli.app import app
from parrot.config.suite import RESERVED, Suite


@pytest.mark.parametrize("scale", ["mini", "paper"])
def test_every_target_dry_runs(pristine, scale):
    configfile = {"mini": "config/config.yaml", "paper": "config/paper.yaml"}[scale]
    targets = Suite.load(("config/config.yaml", configfile)).targets
    jobs = pristine.scheduled("--configfile", configfile, "--", *targets, "all", "stage1", "tables", "figures")
    assert {(name, "") for name in (*targets, "all", "stage1", "tables", "figures")} <= jobs
    # Names that resolve to one training share it: six experts and all six languages are the paper's model.
    assert {("tune", "parrot"), ("tune", "lora"), ("tune", "frozen_llm")} <= jobs
    assert {("link_model", "experts_6"), ("link_model", "add_lang_ru"), ("link_model", "add_lang_en")} <= jobs
    # Translated questions are asked of a model that was trained for the others.
    assert {
        ("link_model", "translate_test"),
        ("predict", "translate_test"),
        ("link_model", "translate_test_nllb"),
    } <= jobs
    # LLaVA's own recipe, without the class token, another encoder, two epochs and the other two seeds align projectors
    # of their own.
    assert len({job for job in jobs if job[0] == "align"}) == 6


@pytest.mark.parametrize(("configfile", "pin"), [("config/config.yaml", ["--pin data.dvc"]), ("config/paper.yaml", [])])
def test_data_is_held_to_a_pin_where_the_config_names_one(pristine, configfile, pin):
    done = pristine.snakemake(
        "--configfile", configfile, "--dry-run", "--printshellcmds", "--until", "fetch", "--", "all"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (command,) = re.findall(r"parrot fetch --settings .*", done.stdout)
    assert re.findall(r"--pin \S+", command) == pin


def test_every_command_of_a_rule_is_one_that_parrot_takes(pristine):
    done = pristine.snakemake("--dry-run", "--printshellcmds", "--", "all", "seeds", "experts_6", "translate_test")
    commands = re.findall(r"^Shell command: parrot (.*?) 2>&1", done.stdout, re.MULTILINE)
    assert {command.split()[0] for command in commands} == {"fetch", "launch", "predict", "score", "report", "track"}
    for command in commands:
        options = parsed(shlex.split(command))
        if "command" in options:  # of the processes that are launched
            parsed(options["command"])


def parsed(words):
    """What the command line reads; it raises for what it does not take."""
    command = get_command(app)
    while hasattr(command, "resolve_command"):
        context = command.make_context("parrot", words[:0], resilient_parsing=True)
        name, command, words = command.resolve_command(context, words)
    return command.make_context(name, list(words)).params


def test_slurm_profile_is_found_and_brings_the_paper_scale(pristine):
    done = pristine.snakemake("--profile", "slurm", "--dry-run", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results/paper/report.html" in done.stdout


def test_every_rule_name_is_reserved(pristine):
    listed = pristine.snakemake("--list-rules").stdout
    rules = set(re.findall(r"^(\w+)", listed, re.MULTILINE)) - set(Suite.load().targets)
    assert {"fetch", "tune", "score", "report", "track"} <= rules
    assert rules <= RESERVED


def error_line(done):
    """The one line that begins with `parrot: error:`; nothing ran, and there is no traceback."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("parrot: error:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Building DAG" not in done.stderr
    return lines[0]


def test_unknown_target_names_those_that_are_like_it(pristine):
    line = error_line(pristine.snakemake("--dry-run", "experts_5"))
    assert line == "parrot: error: unknown target experts_5; did you mean experts_8, experts_6 or experts_4?"


def test_a_rule_with_wildcards_is_no_target(pristine):
    assert error_line(pristine.snakemake("--dry-run", "align")).startswith(
        "parrot: error: target align is called stage1"
    )
    assert "unknown target tune" in error_line(pristine.snakemake("--dry-run", "tune"))


def test_misspelt_key(pristine, tmp_path):
    (tmp_path / "over.yaml").write_text("tune: {learning_rte: 0.1}\n")
    line = error_line(pristine.snakemake("--dry-run", "--configfile", str(tmp_path / "over.yaml"), "--", "all"))
    assert line.endswith("tune.learning_rte: unknown key")
    assert "over.yaml" in line


def test_a_run_that_does_not_fit_stops_only_who_asks_for_it(project):
    with open(project / "config/runs.yaml", "a") as file:
        file.write("mine: {tune: {max_steps: 12}}\n")
    assert ("mine", "") in project.scheduled("mine")
    paper = ("--dry-run", "--configfile", "config/paper.yaml", "--")
    done = project.snakemake(*paper, "no_experts")
    warned = [line for line in done.stderr.splitlines() if line.startswith("parrot: warning:")]
    assert done.returncode == 0
    assert len(warned) == 1
    assert "config/runs.yaml: mine: tune: " in warned[0]
    assert "config/runs.yaml: mine: tune: " in error_line(project.snakemake(*paper, "mine"))


def test_reserved_name(project):
    with open(project / "config/runs.yaml", "a") as file:
        file.write("by_target: {}\n")
    line = error_line(project.snakemake("--dry-run", "all"))
    assert line == "parrot: error: config/runs.yaml: by_target is a reserved name"


def test_results_is_a_file(project):
    (project / "results").write_text("mine")
    assert "results is a file" in error_line(project.snakemake("--dry-run", "all"))
    assert (project / "results").read_text() == "mine"


def test_a_model_that_is_asked_as_it_is_is_never_trained(project):
    with open(project / "config/runs.yaml", "a") as file:
        file.write("asked: {model: {hf: workflow/resources/mini/backbones/clip}, against: []}\n")
    jobs = project.scheduled("--config", "report={runs: [parrot, asked]}", "--", "asked", "all", "stage1")
    assert {rule for rule, run in jobs if run == "asked"} == {
        "predict",
        "score",
        "predictions_page",
        "by_target",
        "track_target",
    }
    assert {run for rule, run in jobs if rule == "tune"} == {"parrot"}
    assert {rule for rule, _ in project.scheduled("asked")} == {
        "fetch", "predict", "score", "predictions_page", "by_target", "track_target", "asked"
    }  # fmt: skip


def test_answers_before_stage_2_are_scored_where_there_are_any(pristine):
    commands = {}
    for run, scale in (("parrot", "config"), ("parrot", "paper"), ("qwen2_vl", "config")):
        options = ("--dry-run", "--printshellcmds", "--configfile", f"config/{scale}.yaml")
        target = f"results/{'mini' if scale == 'config' else scale}/{run}/scores.csv"
        (commands[run, scale],) = re.findall(r"parrot score .*", pristine.snakemake(*options, "--", target).stdout)
    assert " --before results/mini/align/" in commands["parrot", "config"]
    assert "--before" not in commands["parrot", "paper"] + commands["qwen2_vl", "config"]


def test_a_model_that_nothing_knows(project):
    with open(project / "config/runs.yaml", "a") as file:
        file.write("asked: {model: {hf: models/qwen/2}}\n")
    line = error_line(project.snakemake("--dry-run", "asked"))
    assert line.startswith("parrot: error: run asked: model.hf: no folder models/qwen/2, ")


def test_own_data_is_checked_before_its_run_alone(project):
    entry = {"kind": "conversations", "file": "my/my.json", "images": "my/images", "licence": "mine", "source": "local"}
    with open(project / "config/datasets.yaml", "a") as file:
        file.write(yaml.safe_dump({"mine": entry}))
    with open(project / "config/runs.yaml", "a") as file:
        file.write("my_run: {data: {instructions: {en: [mini_sft_en, mine]}}}\n")
    assert len([job for job in project.scheduled("my_run") if job[0] == "fetch"]) == 2
    assert len([job for job in project.scheduled("all") if job[0] == "fetch"]) == 1


@pytest.mark.parametrize(
    ("hardware", "asked"),
    [
        ("nodes: 1, gpus: 4", {"nodes=1", "gpu=4"}),
        ("nodes: 1, gpus: 4, gpu_model: h100", {"nodes=1", "gpu=4", "gpu_model=h100"}),
        ("nodes: 2, gpus: 4", {"nodes=2", "mpi=srun", "tasks=2", "tasks_per_gpu=0", "gres=gpu:4"}),
        (
            "nodes: 2, gpus: 4, gpu_model: h100",
            {"nodes=2", "mpi=srun", "tasks=2", "tasks_per_gpu=0", "gres=gpu:h100:4"},
        ),
        ("nodes: 2, gpus: 4, device: cpu", {"nodes=2", "mpi=srun", "tasks=2", "tasks_per_gpu=0"}),
    ],
)
def test_trainings_ask_slurm_for_their_hardware(pristine, tmp_path, hardware, asked):
    (tmp_path / "over.yaml").write_text(f"hardware: {{{hardware}}}\n")
    files = ("config/paper.yaml", str(tmp_path / "over.yaml"))
    done = pristine.snakemake("--profile", "slurm", "--configfile", *files, "--dry-run", "stage1")
    assert done.returncode == 0, done.stdout + done.stderr
    (resources,) = re.findall(r"^    resources: (.*gpus_per_node=4.*)$", done.stdout, re.MULTILINE)
    names = ("nodes", "gpu", "gpu_model", "mpi", "tasks", "tasks_per_gpu", "gres")
    assert {one for one in resources.split(", ") if one.split("=")[0] in names} == asked
