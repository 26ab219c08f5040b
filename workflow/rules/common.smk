"""The runs of this scale, and what the rules share. One clear line, before any job, when the configuration is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

from parrot.config import limits
from parrot.errors import UserError
from parrot.config.settings import load_config, overlay
from parrot.config.staleness import canonical, code_digest, code_of, key
from parrot.errors import told
from parrot.io.files import atomic_write
from parrot.cluster.jobs import TRAININGS, count, jobs_of, to_do
from parrot.cluster.plan.facts import read_facts
from parrot.cluster.plan.schedule import took
from parrot.cluster.plan.summary import summarise
from parrot.report.settings import browse_stage, report_stage
from parrot.config.runs import DEFAULT_CONFIG, Suite
from parrot.tracking.store import sqlite_file, store_uri
from parrot.tracking.identity import stage1_id, tracked_run
from parrot.cluster.workflow_start import check_flags, check_inputs, check_targets, command_line, work_here

# Jobs call the `parrot` of the environment that runs Snakemake, whether or not that is activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]), HF_HUB_DISABLE_PROGRESS_BARS="1"
)

# What a job says goes to its log and to the terminal. Shell and copying outlive a SIGTERM to the whole job, as Slurm
# sends it: a training that saves its checkpoint at that moment must not fail on a closed pipe, and when a step's first
# process ends Slurm kills the others. Jobs on compute nodes never download: rules that do are local.
shell.prefix(
    "set -euo pipefail; trap : TERM; log() {{ trap '' INT TERM; exec tee \"$1\" >&2; }}; "
    'if [ -n "${{SLURM_JOB_ID:-}}" ]; then export HF_HUB_OFFLINE=1; fi; '
)

# Rules whose jobs write to MLflow's store.
USE_STORE = (*TRAININGS, "track", "track_target")


def stop(message):
    sys.exit(f"parrot: error: {message}")


def load_suite():
    """The suite of Snakemake's config files, read by the rules of `parrot.io.files`, and of `--config`.

    What is asked for and the report's runs must fit this scale; what else does not is left out with a warning.
    """
    files = [*DEFAULT_CONFIG, *map(os.path.relpath, workflow.config_settings.configfiles)]
    given = {name: value for name, value in workflow.config_settings.config.items() if name != "fresh"}
    try:
        check_flags(sys.argv[1:])
        suite = Suite(overlay(load_config(*files), given), where=" + ".join(files))
        for run in suite.config.report.runs:
            suite.run(run).check()
            check_inputs(suite.run(run))
        for target in asked_targets():
            if target in (*suite.overrides, *suite.families):
                suite.check(target)
                for run in compared(suite, target):
                    check_inputs(suite.run(run))
        report_stage(suite)
    except UserError as error:
        stop(error)
    if Path("results").exists() and not Path("results").is_dir():
        stop("results is a file; results are written to a folder of that name")
    if suite.misfits and workflow.is_main_process:
        why = "; ".join(map(str, suite.misfits.values()))
        print(f"parrot: warning: left out, as they do not fit this scale: {why}", file=sys.stderr)
    return suite


def known_targets(suite):
    """Every word that Snakemake takes for a target."""
    return ("all", "stage1", "tables", "figures", *suite.targets)


def compared(suite, target):
    """The runs in a target's tables: its own, then its baselines."""
    return (*suite.target(target), *suite.against(target))


def started_anew():
    """The runs whose stage 2 `--config fresh=NAME`, a run or a family, starts without its checkpoints.

    A run that is another run's training stands for that. Stage 1, which runs share, goes on from its own. What is
    finished and up to date stays, as Snakemake knows a command for that.
    """
    if "fresh" not in workflow.config_settings.config:
        return frozenset()
    name = str(workflow.config_settings.config["fresh"])
    try:
        suite.check(name)
        runs = frozenset(suite.trained_as[run] for run in suite.trained(suite.target(name)))
        if not runs:
            raise UserError(f"{name} trains no model; expected a run that does")
    except UserError as error:
        stop(f"--config fresh: {error}")
    if done := [file for run in sorted(runs) if exists(file := f"{results}/{run}/metrics.jsonl")]:
        if workflow.is_main_process:
            line = f"finished, and trained again by --forcerun {' '.join(done)}"
            print(f"parrot: warning: --config fresh: {line}", file=sys.stderr)
    return runs


def asked_targets():
    return command_line().targets if command_line() else []


def planned_targets():
    """The runs, families and main targets among what is asked for."""
    return [target for target in asked_targets() if target in known_targets(suite)] or ["all"]


def may_start():
    """Stop for an unknown target, and in a folder that a killed Snakemake left locked."""
    try:
        check_targets(known_targets(suite), {rule.name for rule in workflow.rules if not rule.has_wildcards()})
        work_here()
    except UserError as error:
        stop(error)


def planned(jobs):
    """What is about to run, in one line."""
    is_local = workflow.nodes in (None, sys.maxsize)
    if hardware.gpus and hardware.device == "cuda":
        return summarise(jobs, suite, 1 if is_local else workflow.nodes).line
    at_once = max(1, workflow.cores // hardware.threads) if is_local else workflow.nodes
    elsewhere = read_facts().seconds.get(suite.config.scale, {})
    return f"plan: {count(to_do(jobs))}, {took(suite.config.scale, jobs, elsewhere, [at_once]).about(at_once)}"


def announce(jobs):
    """Print the plan's line; whatever is wrong with it, the jobs go on."""
    asked, targets = command_line(), planned_targets()
    options = [word for name in (asked and asked.profile) or () for word in ("--profile", name)]
    if asked and any(word.startswith("--configfile") for word in sys.argv):
        options += [word for file in asked.configfile for word in ("--configfile", os.path.relpath(file))]
    try:
        said = planned(jobs)
    except Exception as error:
        said = f"plan: not known: {str(error).strip() or type(error).__name__}"
    print(f"{said}; details: parrot plan {' '.join([*targets, *options])}", file=sys.stderr)


def tell_headlines():
    """End with what came out, in one line a target, which is the last that its report's job said."""
    logs = {"all": "report.log"} | {target: f"by_target/{target}.log" for target in suite.targets}
    for log in (Path("logs", suite.config.scale, logs[target]) for target in planned_targets() if target in logs):
        if log.is_file() and (said := log.read_text(encoding="utf-8", errors="replace").splitlines()):
            print(said[-1], file=sys.stderr)


def make_store(jobs):
    """Make MLflow's SQLite file before jobs that write it, here, since those on compute nodes must not.

    A view is nobody's input: a store that is missing makes no training stale, nor stops one.
    """
    file = sqlite_file(store_uri())
    if file and not file.exists() and any(job.rule.name in USE_STORE for job in jobs):
        subprocess.run([sys.executable, "-m", "parrot", "track", "init"])


def one_of(names):
    """A wildcard constraint; without any name one that nothing matches."""
    return "|".join(map(re.escape, names)) or "(?!)"


def settings_file(settings):
    """Settings as a file named by their digest, which is what decides whether a job is stale.

    As JSON on the command line they would bury the one line that says why a job failed.
    """
    path = Path(".snakemake", "settings", f"{key(settings)}.json")
    content = canonical(settings)
    if not path.is_file() or path.read_bytes() != content.encode():
        try:
            atomic_write(path, content)
        except (UserError, OSError) as error:
            stop(told(error))
    return str(path)


def on_nodes(nodes, gpus):
    """The resources by which Slurm's plugin asks for a job's nodes and each one's GPUs; a local run counts its GPUs.

    On several nodes, which take a launcher each, the plugin leaves `srun` to the job (`mpi`), and `parrot launch`
    calls it. `gpu` would be a number over all nodes; `gres` is a node's.
    """
    gpus = gpus if hardware.device == "cuda" else 0
    if nodes == 1:
        return {"nodes": 1, "gpu": gpus, **({"gpu_model": hardware.gpu_model} if gpus and hardware.gpu_model else {})}
    gres = {"gres": ":".join(filter(None, ("gpu", hardware.gpu_model, str(gpus))))} if gpus else {}
    return {"nodes": nodes, "mpi": "srun", "tasks": nodes, "tasks_per_gpu": 0, **gres}


suite = load_suite()
os.environ[limits.VARIABLE] = settings_file(suite.config.limits)
hardware = suite.config.hardware
results = f"results/{suite.config.scale}"
work = f"work/{suite.config.scale}"
fresh = started_anew()


onstart:
    announce(jobs_of(workflow))
    make_store(workflow.dag.needrun_jobs())


onsuccess:
    tell_headlines()
