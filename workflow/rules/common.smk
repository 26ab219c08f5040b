"""The runs of this scale and the helpers of the rules. A wrong configuration gives one line, before any job."""

import os
import re
import subprocess
import sys
from pathlib import Path

from parrot.config import limits
from parrot.errors import UserError
from parrot.config.settings import load_config, overlay
from parrot.config.staleness import canonical, code_digest, code_of, key
from parrot.errors import one_line
from parrot.io.files import atomic_write
from parrot.cluster.jobs import TRAININGS, count, jobs_of, to_do
from parrot.cluster.plan.facts import read_facts
from parrot.cluster.plan.schedule import took
from parrot.cluster.plan.summary import summarise
from parrot.report.settings import browse_stage, report_stage
from parrot.config.suite import DEFAULT_CONFIG, Suite
from parrot.tracking.store import sqlite_file, store_uri
from parrot.tracking.identity import stage1_id, tracked_run
from parrot.cluster.workflow_start import check_flags, check_inputs, check_targets, command_line, work_here

# Jobs call the `parrot` of the environment that runs Snakemake, even if it is not activated.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]), HF_HUB_DISABLE_PROGRESS_BARS="1"
)

# A job's output goes to its log and to the terminal. The shell and `tee` ignore the SIGTERM that Slurm sends to the
# job: a training that saves its checkpoint at that moment must not fail on a closed pipe, and when a step's first
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
    """Load the suite of Snakemake's config files and `--config`, as `parrot.io.files` reads them.

    The requested targets and the report's runs must fit this scale; other runs that do not are left out with a warning.
    """
    files = [*DEFAULT_CONFIG, *map(os.path.relpath, workflow.config_settings.configfiles)]
    given = {name: value for name, value in workflow.config_settings.config.items() if name != "fresh"}
    try:
        check_flags(sys.argv[1:])
        suite = Suite(overlay(load_config(*files), given), where=" + ".join(files))
        for run in suite.config.report.runs:
            suite.run(run).check()
            check_inputs(suite.run(run))
        for target in requested_targets():
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
    """Return the names of all targets."""
    return ("all", "stage1", "tables", "figures", *suite.targets)


def compared(suite, target):
    """Return the runs in a target's tables: its own, then its baselines."""
    return (*suite.target(target), *suite.against(target))


def fresh_runs():
    """Return the runs whose stage 2 starts from scratch: `--config fresh=NAME` names a run or a family.

    A run that shares another run's training selects that one. Stage 1, which runs share, resumes from its checkpoints.
    Finished trainings stay; Snakemake's `--forcerun` repeats them.
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


def requested_targets():
    """Return the targets on Snakemake's command line."""
    return command_line().targets if command_line() else []


def planned_targets():
    """Return the runs, families and main targets on the command line, `all` by default."""
    return [target for target in requested_targets() if target in known_targets(suite)] or ["all"]


def may_start():
    """Stop for an unknown target, or in a folder that a killed Snakemake left locked."""
    try:
        check_targets(known_targets(suite), {rule.name for rule in workflow.rules if not rule.has_wildcards()})
        work_here()
    except UserError as error:
        stop(error)


def planned(jobs):
    """Return the plan of the jobs in one line."""
    is_local = workflow.nodes in (None, sys.maxsize)
    if hardware.gpus and hardware.device == "cuda":
        return summarise(jobs, suite, 1 if is_local else workflow.nodes).line
    at_once = max(1, workflow.cores // hardware.threads) if is_local else workflow.nodes
    elsewhere = read_facts().seconds.get(suite.config.scale, {})
    return f"plan: {count(to_do(jobs))}, {took(suite.config.scale, jobs, elsewhere, [at_once]).about(at_once)}"


def announce(jobs):
    """Print the plan's line; an error in it does not stop the jobs."""
    parsed, targets = command_line(), planned_targets()
    options = [option for name in (parsed and parsed.profile) or () for option in ("--profile", name)]
    if parsed and any(argument.startswith("--configfile") for argument in sys.argv):
        options += [option for file in parsed.configfile for option in ("--configfile", os.path.relpath(file))]
    try:
        line = planned(jobs)
    except Exception as error:
        line = f"plan: not known: {str(error).strip() or type(error).__name__}"
    print(f"{line}; details: parrot plan {' '.join([*targets, *options])}", file=sys.stderr)


def print_headlines():
    """Print the result of each target in one line, the last line of its report job's log."""
    logs = {"all": "report.log"} | {target: f"by_target/{target}.log" for target in suite.targets}
    for log in (Path("logs", suite.config.scale, logs[target]) for target in planned_targets() if target in logs):
        if log.is_file() and (lines := log.read_text(encoding="utf-8", errors="replace").splitlines()):
            print(lines[-1], file=sys.stderr)


def make_store(jobs):
    """Create MLflow's SQLite file before jobs that write to it, since jobs on compute nodes must not create it.

    No job has the store as an input: a missing one makes no training stale and stops none.
    """
    file = sqlite_file(store_uri())
    if file and not file.exists() and any(job.rule.name in USE_STORE for job in jobs):
        subprocess.run([sys.executable, "-m", "parrot", "track", "init"])


def one_of(names):
    """Return a wildcard constraint for the names; without names nothing matches it."""
    return "|".join(map(re.escape, names)) or "(?!)"


def settings_file(settings):
    """Write settings to a file named by their digest, which decides whether a job is stale; return its path.

    As JSON on the command line they would hide the line with the reason of a job's failure.
    """
    path = Path(".snakemake", "settings", f"{key(settings)}.json")
    content = canonical(settings)
    if not path.is_file() or path.read_bytes() != content.encode():
        try:
            atomic_write(path, content)
        except (UserError, OSError) as error:
            stop(one_line(error))
    return str(path)


def on_nodes(nodes, gpus):
    """Return the resources with which Slurm's plugin requests nodes and GPUs; `gpus` is per node.

    A local run limits its jobs by `gpu`. On several nodes, each with one launcher, the plugin leaves `srun` to the job
    (`mpi`), and `parrot launch` calls it. `gpu` would be a total over all nodes; `gres` is per node.
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
fresh = fresh_runs()


onstart:
    announce(jobs_of(workflow))
    make_store(workflow.dag.needrun_jobs())


onsuccess:
    print_headlines()
