"""Wall-clock time of jobs that wait for one another, so many of them at a time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from parrot.cluster.plan.jobs import Job


def wall_clock(
    hours: Mapping[Job, float],
    after: Mapping[Job, Sequence[Job]],
    at_a_time: int,
    gpus: Mapping[Job, int] | None = None,
    of: int = 0,
) -> float:
    """Hours until the last of the jobs ends, when whatever is ready and has room starts, the longest chain first.

    `hours` gives each job's own time; `after`, in an order in which jobs stand behind those that they wait for, the
    jobs that each waits for. Those without hours are done already. Room is `at_a_time` jobs, and, where `gpus` says how
    many a job takes, none of them more than that, `of` so many.
    """
    takes = gpus or {}
    waiting = {job: {other for other in after[job] if other in hours} for job in after if job in hours}
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
