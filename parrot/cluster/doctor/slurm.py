"""Slurm's commands and controller, its partitions and their nodes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

from parrot.cluster.doctor.finding import Finding, execute, failed, ok

COMMANDS = ("sbatch", "srun", "scontrol", "sinfo", "squeue", "scancel")
# Values of %t without their suffix; "*" marks a node that does not answer, "~" one that powers up on demand.
GONE = ("down", "drain", "drng", "fail", "failg", "futr", "inval", "maint", "resv", "unk")
GPU = re.compile(r"gpu:(?:([^:,()]+):)?(\d+)(?=[,(]|$)")  # gpu:2, gpu:h100:8(S:0-1), gpu:1g.10gb:7


@dataclass(frozen=True)
class Node:
    """A node of a partition; memory in MB."""

    name: str
    host: str
    usable: bool
    cpus: int
    memory: int
    gpus: dict[str, int] = field(hash=False)  # by model, "" where the cluster names none

    def gpus_of(self, model: str) -> int:
        """Return the number of GPUs of `model`; "" takes the most frequent model."""
        return self.gpus.get(model, 0) if model else max(self.gpus.values(), default=0)


@dataclass(frozen=True)
class Partition:
    """A partition; `limit` is its time limit in minutes, None for none."""

    name: str
    default: bool
    up: bool
    limit: int | None
    nodes: list[Node]


def controller() -> Finding:
    """Check that Slurm's commands are on PATH and its controller answers."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        return failed("slurm", f"no {', '.join(missing)} on PATH", "start on a node that can submit jobs")
    ping = execute("scontrol", "ping")
    answering = re.findall(r" at (\S+) is UP", ping.out)
    if not answering:
        return failed("slurm", f"the controller does not respond: {ping.why}", "ask the cluster's administrators")
    return ok("slurm", f"the controller on {answering[0]} answers")


def partitions() -> dict[str, Partition]:
    """Return the cluster's partitions that are available here, by name."""
    output = execute("sinfo", "--noheader", "--Node", "--format=%P|%a|%l|%N|%n|%t|%c|%m|%G").out
    found: dict[str, Partition] = {}
    for line in output.splitlines():
        name, up, limit, node, host, state, cpus, memory, gres = (part.strip() for part in line.split("|"))
        partition = Partition(name.rstrip("*"), name.endswith("*"), up == "up", minutes(limit), [])
        gpus: dict[str, int] = {}
        for model, count in GPU.findall(gres):
            gpus[model] = gpus.get(model, 0) + int(count)
        usable = not state.endswith("*") and state.rstrip("*~#!%$@^-+") not in GONE
        found.setdefault(partition.name, partition).nodes.append(
            Node(node, host, usable, int(cpus.rstrip("+")), int(memory.rstrip("+")), gpus)
        )
    return found


def named(partition: str, known: dict[str, Partition]) -> list[Partition]:
    """Return the `known` partitions in `partition`, a comma-separated list or "" for the default one."""
    if not partition:
        return [each for each in known.values() if each.default]
    return [known[name] for name in partition.split(",") if name in known]


def check_partitions(wanted: Iterable[str], known: dict[str, Partition]) -> list[Finding]:
    """Check that every partition that jobs name exists and is up."""
    where = "slurm_partition in the profile's default-resources or set-resources"
    findings = []
    for name in sorted({part for each in wanted for part in each.split(",")}):
        found = named(name, known)
        if not found and not name:
            findings.append(failed("partition", "none named, and the cluster has no default", f"name one: {where}"))
        elif not found:
            there = ", ".join(known) or "none"
            findings.append(
                failed("partition", f"{name}: no such partition; there are {there}", f"name one of them: {where}")
            )
        elif not found[0].up:
            findings.append(failed("partition", f"{found[0].name}: not up", f"name another: {where}, or wait"))
        else:
            usable = sum(node.usable for node in found[0].nodes)
            state = f"up, {usable} of {len(found[0].nodes)} nodes usable"
            findings.append(ok("partition", f"{found[0].name}{'' if name else ', the default'}: {state}"))
    return findings


def minutes(limit: str) -> int | None:
    """Convert Slurm's [days-]hours:minutes:seconds or minutes:seconds to minutes; None for no limit."""
    if not re.fullmatch(r"(\d+-)?[\d:]+", limit):
        return None
    days, _, clock = limit.rpartition("-")
    hours, minute, _ = ([0, 0, 0] + [int(part) for part in clock.split(":")])[-3:]
    return 24 * 60 * int(days or 0) + 60 * hours + minute
