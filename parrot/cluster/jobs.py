"""The jobs of some targets, as Snakemake has them: what they wait for, what they ask for, and why they would run.

`list_jobs` has a child process build Snakemake's DAG through its API, as a dry run does: the workflow's own checks run,
and nothing is locked, executed or recorded. The workflow itself hands its DAG to `jobs_of`.
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

from parrot.config.runs import DEFAULT_CONFIG
from parrot.config.settings import load_config
from parrot.errors import UserError, in_one_line

TRAININGS = ("align", "tune")
ON_GPUS = (*TRAININGS, "predict", "predict_stage1")
SECONDS = 180
ERROR = "parrot: error: "
MISSING = "missing"
AFTER_OTHERS = "after others"
# Why a job runs, by the names of the fields of Snakemake's `Reason`, the first of which a job with several is told by.
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
    """A job that writes files; rule and `name` tell it from others.

    `name` is the value of the rule's wildcard (a run, a target, a stage-1 or a data key), "" for a rule without one.
    `after` has the jobs that it waits for, by rule and name alone. `reason` says why it would run, in the words of
    `REASONS` as far as they reach; "" for a job that is done. `is_local`: it runs beside Snakemake. Threads are not
    capped by any machine's cores.
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
        """Read what `dataclasses.asdict` made of a job."""
        return cls(**fields | {"after": tuple(map(cls.from_json, fields["after"]))})

    @property
    def is_done(self) -> bool:
        return not self.reason


class Listing(NamedTuple):
    """Jobs, each behind those that it waits for; the config files that were read, and how many run at a time."""

    jobs: list[Job]
    configfiles: list[str]
    at_a_time: int


def list_jobs(targets: Sequence[str], profile: str | None = None, configfiles: Sequence[str] = ()) -> Listing:
    """List all jobs of `targets`, done or not, as ``snakemake --profile PROFILE --configfile FILES TARGETS`` has them.

    Raises:
        UserError: for a profile that is not there, and where the workflow or Snakemake refuses; it is their line.
    """
    words = ["--profile", profile] if profile else []
    words += ["--configfile", *configfiles] if configfiles else []
    command = [sys.executable, "-m", "parrot.cluster.jobs", *words, "--dry-run", "--", *targets]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"Snakemake did not list its jobs within {SECONDS} s") from None
    if done.returncode != 0:
        raise UserError(_refusal(done.stderr) or f"Snakemake ended with exit code {done.returncode}")
    listed = json.loads(done.stdout.splitlines()[-1])
    return Listing(list(map(Job.from_json, listed.pop("jobs"))), **listed)


def _refusal(said: str) -> str:
    """The error line among what the child said, else its last one."""
    lines = [line for line in said.splitlines() if re.search(r"\w", line)]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    return (errors or lines or [""])[-1]


def find_profile(name: str) -> Path:
    """Return the YAML file that ``snakemake --profile NAME`` reads.

    Raises:
        UserError: where there is none.
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
    """Say how many jobs and trainings there are."""
    jobs = list(jobs)
    trainings = sum(job.rule in TRAININGS for job in jobs)
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)} ({trainings} training{'s' * (trainings != 1)})"


def jobs_of(workflow: Any) -> list[Job]:
    """Return the jobs of a Snakemake workflow whose DAG is built, each behind those that it waits for."""
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
    return next((words for name, words in REASONS.items() if getattr(reason, name)), str(reason))


def _wildcard(job: Any) -> str:
    return next(iter(job.wildcards), "")


def _in_order(dag: Any) -> list[Any]:
    """The jobs of Snakemake's that write files; those that one waits for stand before it, in its inputs' order."""
    found: dict[Any, None] = {}

    def add(job: Any) -> None:
        if job not in found:
            place = {file: number for number, file in enumerate(job.input)}
            before = dag.dependencies[job]
            for other in sorted(before, key=lambda other: min(place[file] for file in before[other])):
                add(other)
            found[job] = None

    requested = list(dag.workflow.dag_settings.targets)
    for job in sorted(dag.targetjobs, key=lambda job: (job.rule.name not in requested, *_place(job, requested))):
        add(job)
    return [job for job in found if job.output]


def _place(job: Any, requested: list[str]) -> tuple[int, str]:
    name = job.rule.name
    return (requested.index(name) if name in requested else 0), f"{name} {_wildcard(job)}"


def main() -> None:
    """Print the jobs that Snakemake's command line, without its executor, asks for, as one line of JSON."""
    words = sys.argv[1:]
    gc.disable()  # nothing that is made here goes before the process does
    # By these the workflow checks what it is asked for.
    sys.argv = ["snakemake", *words]
    from snakemake.api import SnakemakeApi
    from snakemake.cli import parse_args, parse_config
    from snakemake.exceptions import print_exception
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    if "--profile" in words:
        find_profile(words[words.index("--profile") + 1])
    asked = parse_args(words)[1]
    configfiles = [os.path.relpath(file) for file in asked.configfile]
    load_config(*DEFAULT_CONFIG, *configfiles)  # for our own line on a file that is not there
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        try:
            workflow = api.workflow(
                resource_settings=ResourceSettings(
                    nodes=asked.jobs,
                    resources=asked.resources,
                    overwrite_threads=asked.set_threads,
                    overwrite_resources=asked.set_resources,
                    overwrite_resource_scopes=asked.set_resource_scopes,
                    default_resources=asked.default_resources,
                ),
                config_settings=ConfigSettings(config=parse_config(asked.config), configfiles=asked.configfile),
            )
            settings = DAGSettings(
                targets=asked.targets, force_incomplete=asked.rerun_incomplete, rerun_triggers=asked.rerun_triggers
            )
            jobs = _listed(workflow.dag(settings).workflow_api._workflow, asked.executor or "local")
        except Exception as error:
            print_exception(error, {})
            sys.exit(1)
    print(json.dumps({"jobs": jobs, "configfiles": configfiles, "at_a_time": asked.jobs or 1}))


def _listed(workflow: Any, executor: str) -> list[dict[str, Any]]:
    """Build the DAG as Snakemake's own `Workflow.execute` does, and stop where it would lock the folder."""
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    workflow._executor_plugin = ExecutorPluginRegistry().get_plugin(executor)  # which decides what is local
    workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True, nolock=True)
    workflow.persistence.drop_iocache = lambda: None  # the inventory that a dry run left
    workflow._build_dag()
    jobs = []
    for job in _in_order(workflow.dag):
        resources = {name: value for name, value in job.resources.items() if not name.startswith("_")}
        jobs.append(asdict(replace(_job(workflow, job), threads=job.threads, resources=resources)))
    return jobs


if __name__ == "__main__":
    with in_one_line():
        main()
