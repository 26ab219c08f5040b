"""The Snakemake jobs of some targets: their dependencies, their resources and why they would run.

`list_jobs` builds Snakemake's DAG through its API in a child process, as a dry run does: the workflow's own checks run,
and nothing is locked, executed or recorded. The workflow itself passes its DAG to `jobs_of`.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from parrot.config.settings import load_config
from parrot.config.suite import DEFAULT_CONFIG
from parrot.errors import UserError, in_one_line

TRAININGS = ("align", "tune")
ON_GPUS = (*TRAININGS, "predict", "predict_stage1")
SECONDS = 180
ERROR = "parrot: error: "
MISSING = "missing"
AFTER_OTHERS = "after others"
# Why a job runs, by the fields of Snakemake's `Reason`; of several reasons the first in this order is reported.
REASONS = {
    "missing_output": MISSING,
    "incomplete_output": "incomplete",
    "params_changed": "settings or code changed",
    "input_changed": "other inputs",
    "code_changed": "rule changed",
    "software_stack_changed": "environment changed",
    "updated_input": "newer inputs",
    "forced": "forced",
    "updated_input_run": AFTER_OTHERS,
}


@dataclass(frozen=True, order=True)
class Job:
    """A job that writes files, identified by its rule and `name`.

    `name` is the value of the rule's wildcard (a run, a target, a stage-1 or a data key), "" for a rule without one.
    `after` holds its dependencies, with rule and name only. `reason` is why it would run, a value of `REASONS` or
    Snakemake's own text; "" for a finished job. `is_local`: it runs on Snakemake's machine. Threads are not capped by
    any machine's cores.
    """

    rule: str
    name: str = ""
    after: tuple[Job, ...] = field(default=(), compare=False)
    reason: str = field(default="", compare=False)
    is_local: bool = field(default=False, compare=False)
    threads: int = field(default=1, compare=False)
    resources: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Job:
        """Return the job that `dataclasses.asdict` turned into `fields`."""
        return cls(**fields | {"after": tuple(map(cls.from_json, fields["after"]))})

    @property
    def is_done(self) -> bool:
        """True for a job without a reason to run."""
        return not self.reason


class Listing(NamedTuple):
    """Jobs in topological order, the config files of the workflow, and the number of concurrent jobs."""

    jobs: list[Job]
    configfiles: list[str]
    at_a_time: int


def list_jobs(targets: Sequence[str], profile: str | None = None, configfiles: Sequence[str] = ()) -> Listing:
    """List the jobs of ``snakemake --profile PROFILE --configfile FILES TARGETS``, finished ones included.

    Raises:
        UserError: a missing profile, or an error of the workflow or Snakemake, with its message.
    """
    arguments = ["--profile", profile] if profile else []
    arguments += ["--configfile", *configfiles] if configfiles else []
    command = [sys.executable, "-m", "parrot.cluster.jobs", *arguments, "--dry-run", "--", *targets]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"Snakemake did not list its jobs within {SECONDS} s") from None
    if done.returncode != 0:
        raise UserError(_error_line(done.stderr) or f"Snakemake ended with exit code {done.returncode}")
    listed = json.loads(done.stdout.splitlines()[-1])
    return Listing(list(map(Job.from_json, listed.pop("jobs"))), **listed)


def _error_line(output: str) -> str:
    """Return the error line in the child's output, else its last line."""
    lines = [line for line in output.splitlines() if re.search(r"\w", line)]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines or [""])[-1]


def find_profile(name: str) -> Path:
    """Return the YAML file that ``snakemake --profile NAME`` reads.

    Raises:
        UserError: there is none.
    """
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(name)
    if found is None:
        raise UserError(f"no {name}/profile.yaml here, nor in Snakemake's folders for profiles")
    return Path(found[1])


def to_do(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs that would run."""
    return [job for job in jobs if not job.is_done]


def count(jobs: Iterable[Job]) -> str:
    """Format the numbers of jobs and trainings."""
    jobs = list(jobs)
    trainings = sum(job.rule in TRAININGS for job in jobs)
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)} ({trainings} training{'s' * (trainings != 1)})"


def jobs_of(workflow: Any) -> list[Job]:
    """Return the jobs of a Snakemake workflow whose DAG is built, in topological order."""
    return [_job(workflow, job) for job in _in_order(workflow.dag)]


def _job(workflow: Any, job: Any) -> Job:
    dag = workflow.dag
    return Job(
        rule=job.rule.name,
        name=_wildcard(job),
        after=tuple(Job(other.rule.name, _wildcard(other)) for other in dag.dependencies[job]),
        reason=_why(dag.reason(job)) if dag.needrun(job) else "",
        is_local=workflow.is_local(job.rule),
    )


def _why(reason: Any) -> str:
    return next((text for name, text in REASONS.items() if getattr(reason, name)), str(reason))


def _wildcard(job: Any) -> str:
    return next(iter(job.wildcards), "")


def _in_order(dag: Any) -> list[Any]:
    """Return Snakemake's jobs that write files, each after its dependencies, which are in its inputs' order."""
    ordered: dict[Any, None] = {}

    def add(job: Any) -> None:
        if job not in ordered:
            place = {file: number for number, file in enumerate(job.input)}
            dependencies = dag.dependencies[job]
            for other in sorted(dependencies, key=lambda other: min(place[file] for file in dependencies[other])):
                add(other)
            ordered[job] = None

    requested = list(dag.workflow.dag_settings.targets)
    for job in sorted(dag.targetjobs, key=lambda job: (job.rule.name not in requested, *_place(job, requested))):
        add(job)
    return [job for job in ordered if job.output]


def _place(job: Any, requested: list[str]) -> tuple[int, str]:
    name = job.rule.name
    return (requested.index(name) if name in requested else 0), f"{name} {_wildcard(job)}"


def main() -> None:
    """Print the jobs of a Snakemake command line as one line of JSON, without executing them."""
    arguments = sys.argv[1:]
    gc.disable()  # every object lives as long as this short process
    # The workflow reads its requested targets from here.
    sys.argv = ["snakemake", *arguments]
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args, parse_config
    from snakemake.exceptions import print_exception
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    if "--profile" in arguments:
        find_profile(arguments[arguments.index("--profile") + 1])
    parsed = parse_args(arguments)[1]
    configfiles = [os.path.relpath(file) for file in parsed.configfile]
    load_config(*DEFAULT_CONFIG, *configfiles)  # for our own message on a missing file
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        try:
            workflow = api.workflow(
                resource_settings=ResourceSettings(
                    nodes=parsed.jobs,
                    resources=parsed.resources,
                    overwrite_threads=parsed.set_threads,
                    overwrite_resources=parsed.set_resources,
                    overwrite_resource_scopes=parsed.set_resource_scopes,
                    default_resources=parsed.default_resources,
                ),
                config_settings=ConfigSettings(config=parse_config(parsed.config), configfiles=parsed.configfile),
            )
            settings = DAGSettings(
                targets=parsed.targets, force_incomplete=parsed.rerun_incomplete, rerun_triggers=parsed.rerun_triggers
            )
            jobs = _listed(workflow.dag(settings).workflow_api._workflow, parsed.executor or "local")
        except Exception as error:
            print_exception(error, {})
            sys.exit(1)
    print(json.dumps({"jobs": jobs, "configfiles": configfiles, "at_a_time": parsed.jobs or 1}))


def _listed(workflow: Any, executor: str) -> list[dict[str, Any]]:
    """Build the DAG as Snakemake's own `Workflow.execute` does, up to the point where it would lock the folder."""
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    workflow._executor_plugin = ExecutorPluginRegistry().get_plugin(executor)  # it decides which rules are local
    workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True, nolock=True)
    workflow.persistence.drop_iocache = lambda: None  # keep the inventory of earlier dry runs
    workflow._build_dag()
    jobs = []
    for job in _in_order(workflow.dag):
        resources = {name: value for name, value in job.resources.items() if not name.startswith("_")}
        jobs.append(asdict(replace(_job(workflow, job), threads=job.threads, resources=resources)))
    return jobs


if __name__ == "__main__":
    with in_one_line():
        main()
