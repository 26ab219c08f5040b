"""How long jobs take on processors: by what such jobs took here, else by the figures of config/plan.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from parrot.cluster.plan.jobs import Job, Jobs
from parrot.cluster.plan.schedule import wall_clock

AT_ONCE = (1, 2, 4)


class Took(NamedTuple):
    """Seconds a job by rule, of those to do; which of these were measured `here`, and which rules nothing measured.

    `wall_clock` has the seconds until all is done, by jobs at a time.
    """

    seconds: dict[str, float]
    here: tuple[str, ...]
    unknown: tuple[str, ...]
    wall_clock: dict[int, float]

    def about(self, at_a_time: int) -> str:
        """``about 9 min, 2 jobs at a time, by what such jobs took here``, or that it is not known."""
        if self.unknown:
            return f"time not measured yet of {', '.join(self.unknown)}"
        by = "what such jobs took here" if len(self.here) == len(self.seconds) else "another machine's times"
        jobs = f"{at_a_time} job{'s' * (at_a_time > 1)} at a time"
        return f"about {minutes(self.wall_clock[at_a_time])}, {jobs}, by {by}"


def took(
    jobs: Jobs,
    to_do: Sequence[Job],
    elsewhere: Mapping[str, float],
    at_once: Sequence[int] = AT_ONCE,
    records: Path = Path("benchmarks"),
) -> Took:
    """What the jobs `to_do` of `jobs` take; `elsewhere` has seconds by rule, `records` Snakemake's own.

    A rule's time is the median over the jobs of it that ran here at this scale.
    """
    here = _recorded(records / jobs.suite.config.scale)
    rules = dict.fromkeys(job.rule for job in to_do)
    known = {rule: (here if rule in here else elsewhere)[rule] for rule in rules if rule in here or rule in elsewhere}
    after = {job: step.after for job, step in jobs.steps.items()}
    each = {job: known.get(job.rule, 0.0) for job in to_do}
    return Took(
        seconds=known,
        here=tuple(rule for rule in known if rule in here),
        unknown=tuple(rule for rule in rules if rule not in known),
        wall_clock={n: wall_clock(each, after, n) for n in at_once},
    )


def minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _recorded(folder: Path) -> dict[str, float]:
    """Median seconds by rule of the records that Snakemake keeps of finished jobs; what is not whole is left out."""
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
            return "predict_before"
        case _:
            return path.stem
