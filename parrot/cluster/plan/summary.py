"""The cost of jobs, computed in a child process, since counting a model's parameters needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, NamedTuple

from parrot.cluster.jobs import Job, to_do
from parrot.config.suite import Suite
from parrot.errors import UserError, in_one_line

SECONDS = 180


class Summary(NamedTuple):
    """`line`: jobs, GPU-hours and disk space, "" without GPUs; `disk`: bytes by kind, and their total."""

    line: str
    disk: dict[str, int]


def summarise(jobs: Iterable[Job], suite: Suite, at_a_time: int) -> Summary:
    """Return the cost of the remaining `jobs`, of which `at_a_time` run concurrently.

    Raises:
        UserError: the child process failed; the message is the last line of its output.
    """
    request = {"jobs": [asdict(job) for job in to_do(jobs)], "config": suite.raw, "at_a_time": at_a_time}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "parrot.cluster.plan.summary"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"the plan took longer than {SECONDS} s") from None
    if done.returncode != 0:
        raise UserError((done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("parrot: error: "))
    return Summary(**json.loads(done.stdout))


def _compute(jobs: list[Job], suite: Suite, at_a_time: int) -> Summary:
    from parrot.cluster.plan.cost import Costs
    from parrot.cluster.plan.disk import disk
    from parrot.cluster.plan.facts import planned_hardware, read_facts
    from parrot.cluster.plan.plan import line

    costs, facts = Costs(suite), read_facts()
    on = planned_hardware(suite.config.hardware, facts, at_a_time=at_a_time)
    sizes = disk(costs, jobs, on.at_a_time if on else 1)
    return Summary(line(jobs, costs, facts, on) if on else "", {**sizes._asdict(), "total": sizes.total})


def main() -> None:
    """Print the summary of the jobs on standard input, as JSON."""
    request: dict[str, Any] = json.load(sys.stdin)
    jobs = [Job.from_json(each) for each in request["jobs"]]
    print(json.dumps(_compute(jobs, Suite(request["config"]), request["at_a_time"])._asdict()))


if __name__ == "__main__":
    with in_one_line():
        main()
