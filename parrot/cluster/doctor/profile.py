"""The Snakemake profile, and what its jobs ask Slurm for.

What jobs ask for is read from a dry run of all jobs, since there the rules, the hardware, the profile and its defaults
have come together.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.cluster.doctor.command import ask
from parrot.config.strict_yaml import read_yaml
from parrot.errors import ConfigError

DRY_RUN_SECONDS = 120
RULE = re.compile(r"^rule (\w+):\n((?:(?:[ \t].*)?\n)+)", re.MULTILINE)
RESOURCE = re.compile(r"(\w+)=(.*?)(?=, \w+=|$)")
# Snakemake gives a job no more threads than it has cores, and a dry run has one.
CORES_FOR_ANY_JOB = "100000"


@dataclass(frozen=True)
class Request:
    """What jobs of one rule ask for; GPUs, cores and memory are a node's, memory in MB."""

    rule: str
    partition: str  # "": the cluster's default
    nodes: int
    gpus: int
    gpu_model: str  # "": any
    cpus: int
    memory: int
    minutes: int
    account: str
    qos: str
    constraint: str = ""

    @property
    def places(self) -> list[str]:
        """Partition, account and the like, as far as they are named, as Slurm's commands take them."""
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint")}
        return [f"--{name}={value}" for name, value in named.items() if value]

    @property
    def gpu_options(self) -> list[str]:
        """A node's GPUs, as Slurm's commands take them."""
        return [f"--gres=gpu:{f'{self.gpu_model}:' if self.gpu_model else ''}{self.gpus}"] if self.gpus else []


def find_profile(name: str) -> Path:
    """The YAML file that `snakemake --profile NAME` reads; ConfigError where there is none."""
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(name)
    if found is None:
        raise ConfigError(f"no {name}/profile.yaml here, nor in Snakemake's folders for profiles")
    return Path(found[1])


def requests(profile: str, configfiles: Sequence[str], qos: str) -> list[Request]:
    """What the jobs that `snakemake --profile PROFILE all` submits ask for, finished ones included, without repeats.

    `qos` is the profile's for all jobs, "" for none.

    Raises ConfigError where Snakemake refuses the workflow.
    """
    laid_over = ["--configfile", *configfiles] if configfiles else []
    dry = [sys.executable, "-m", "snakemake", "--profile", profile, *laid_over, "--dry-run", "--forceall", "--nocolor"]
    answer = ask(*dry, "--cores", CORES_FOR_ANY_JOB, "--", "all", seconds=DRY_RUN_SECONDS)
    if answer.code != 0:
        raise ConfigError(answer.why)
    submitted = _submitted()
    jobs = [job for job in _jobs(answer.out + answer.err) if job["rule"] in submitted]
    return list(dict.fromkeys(_request({**job, **({"qos": qos} if qos else {})}) for job in jobs))


def _submitted() -> set[str]:
    """Rules that run something, and not on the machine that Snakemake runs on; a dry run does not tell them apart."""
    rules: dict[str, str] = {}
    for file in sorted(Path("workflow/rules").glob("*.smk")):
        rules |= dict(RULE.findall(file.read_text(encoding="utf-8")))
    return {rule for rule, body in rules.items() if "\n    shell:" in body and "localrule: True" not in body}


def _jobs(said: str) -> Iterator[dict[str, str]]:
    for rule, body in RULE.findall(said):
        told = dict(re.findall(r"^    (\w+): (.*)$", body, re.MULTILINE))
        yield {"threads": told.get("threads", "1"), **dict(RESOURCE.findall(told["resources"])), "rule": rule}


def _request(job: dict[str, str]) -> Request:
    nodes = int(job.get("nodes", 1))
    model, gpus = job.get("gpu_model", ""), -(-int(job.get("gpu", 0)) // nodes)
    if job.get("gres", "").startswith("gpu:"):
        *model_of_gres, count = job["gres"].removeprefix("gpu:").split(":")
        model, gpus = "".join(model_of_gres), int(count)
    return Request(
        rule=job["rule"],
        partition=job.get("slurm_partition", ""),
        nodes=nodes,
        gpus=gpus,
        gpu_model=model,
        cpus=int(job.get("cpus_per_task", job["threads"])),
        memory=int(job.get("mem_mb", 0)),
        minutes=int(job.get("runtime", 0)),
        account=job.get("slurm_account", ""),
        qos=job.get("qos", ""),
        constraint=job.get("constraint", ""),
    )


def read_profile(path: Path) -> dict[str, Any]:
    """What the profile says; ConfigError where it is not YAML or not for Slurm."""
    profile = read_yaml(path)
    if profile.get("executor") != "slurm":
        raise ConfigError(f"{path}: executor: expected slurm, found {profile.get('executor', 'none')}")
    return profile


def files_of(profile: dict[str, Any]) -> list[str]:
    """The config files that the profile names."""
    named = profile.get("configfile", profile.get("configfiles", []))
    return [named] if isinstance(named, str) else [str(each) for each in named]
