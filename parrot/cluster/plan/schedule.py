"""The time of jobs: on CPUs from earlier jobs here, else from config/plan.yaml; and the time until all have ended.

This module does not import torch, since the workflow imports it at every start.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from parrot.cluster.jobs import Job, to_do

AT_ONCE = (1, 2, 4)


class Took(NamedTuple):
    """Seconds per remaining job by rule; the rules measured `here`, and those without any measurement (`unknown`).

    `wall_clock` has the seconds until all jobs are done, by the number of concurrent jobs.
    """

    seconds: dict[str, float]
    here: tuple[str, ...]
    unknown: tuple[str, ...]
    wall_clock: dict[int, float]

    def about(self, at_a_time: int) -> str:
        """Format as ``about 9 min, 2 jobs at a time, by the times of earlier jobs here``; report unmeasured rules."""
        if self.unknown:
            return f"time not measured yet of {', '.join(self.unknown)}"
        by = "the times of earlier jobs here" if len(self.here) == len(self.seconds) else "another machine's times"
        jobs = f"{at_a_time} job{'s' * (at_a_time > 1)} at a time"
        return f"about {minutes(self.wall_clock[at_a_time])}, {jobs}, by {by}"


def took(
    scale: str,
    jobs: Sequence[Job],
    elsewhere: Mapping[str, float],
    at_once: Sequence[int] = AT_ONCE,
    records: Path = Path("benchmarks"),
) -> Took:
    """Return the time of the remaining `jobs`, from Snakemake's `records`, else from `elsewhere` (seconds by rule).

    A rule's time is the median over its jobs that ran here at this scale.
    """
    here = _recorded(records / scale)
    left = to_do(jobs)
    rules = dict.fromkeys(job.rule for job in left)
    known = {rule: (here if rule in here else elsewhere)[rule] for rule in rules if rule in here or rule in elsewhere}
    each = {job: known.get(job.rule, 0.0) for job in left}
    return Took(
        seconds=known,
        here=tuple(rule for rule in known if rule in here),
        unknown=tuple(rule for rule in rules if rule not in known),
        wall_clock={n: wall_clock(jobs, each, n) for n in at_once},
    )


def minutes(seconds: float) -> str:
    """Format a time in minutes, or in seconds below one minute."""
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _recorded(folder: Path) -> dict[str, float]:
    """Return the median seconds by rule from Snakemake's records of finished jobs; skip incomplete records."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.rglob("*.jsonl")):
        try:
            row = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
            found.setdefault(_rule(path.relative_to(folder)), []).append(float(row["s"]))
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return {rule: median(times) for rule, times in found.items()}


def _rule(path: Path) -> str:
    match path.parts:
        case ("fetch", _):
            return "fetch"
        case ("by_target", name):
            return "track_target" if name.endswith(".track.jsonl") else "by_target"
        case ("align", _, "predict.jsonl"):
            return "predict_stage1"
        case _:
            return path.stem


def wall_clock(
    jobs: Sequence[Job],
    hours: Mapping[Job, float],
    at_a_time: int,
    gpus: Mapping[Job, int] | None = None,
    of: int = 0,
) -> float:
    """Return the hours until the last job ends, if ready jobs start as soon as there is room, the longest chain first.

    `jobs` are in topological order. `hours` has each job's own time; jobs without hours are finished. There is room for
    `at_a_time` jobs and, if `gpus` has the GPUs per job, for jobs on `of` GPUs in total.
    """
    takes = gpus or {}
    waiting = {job: {other for other in job.after if other in hours} for job in jobs if job in hours}
    chain: dict[Job, float] = {}
    for job in reversed(waiting):
        behind = [chain[other] for other, before in waiting.items() if job in before]
        chain[job] = hours[job] + max(behind, default=0.0)
    running: list[tuple[float, Job]] = []
    now = 0.0
    while waiting or running:
        ready = sorted((job for job, before in waiting.items() if not before), key=lambda job: -chain[job])
        for job in ready:
            taken = sum(takes.get(other, 0) for _, other in running)
            if len(running) < at_a_time and taken + takes.get(job, 0) <= of:
                heapq.heappush(running, (now + hours[job], job))
                del waiting[job]
        now, ended = heapq.heappop(running)
        for before in waiting.values():
            before.discard(ended)
    return now
