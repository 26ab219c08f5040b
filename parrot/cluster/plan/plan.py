"""The plan of some targets: the remaining jobs and their cost on given hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from parrot.cluster.jobs import ON_GPUS, TRAININGS, Job, count, to_do
from parrot.cluster.plan.cost import Costs, Work
from parrot.cluster.plan.disk import CHECKPOINTS, Disk, checkpoint_bytes, disk, model_bytes
from parrot.cluster.plan.facts import Device, Facts, PlannedHardware
from parrot.cluster.plan.schedule import Took, took, wall_clock

UTILISATIONS = (0.2, 0.3, 0.4, 0.5)  # of the device's published peak
USUAL = 0.4
MEASURED = "measured"
HOUR = 3600


class Row(NamedTuple):
    """One job on GPUs: its work, its GPU-hours by utilisation ("20 %"), and the bytes of its checkpoints and output.

    If rates are measured on the device, the column "measured" has the hours at the job's rate, or, for a job without
    one (`is_measured` is False), at the usual utilisation.
    """

    job: Job
    work: Work
    gpu_hours: dict[str, float]
    is_measured: bool
    checkpoints: int
    model: int

    @property
    def is_known(self) -> bool:
        """True if all of the job's operations are counted."""
        return not self.work.unknown


class Plan(NamedTuple):
    """The plan of `targets`. `jobs` has (remaining, all) counts by rule. Without a device there are no rows.

    Wall-clock hours have the columns of the rows' GPU-hours: `wall_clock` on the GPUs of one training only,
    `wall_clock_at_once` if every concurrent job has GPUs of its own. `took` is the time on CPUs, if there are no GPUs.
    """

    targets: tuple[str, ...]
    scale: str
    notice: str
    to_do: list[Job]
    jobs: dict[str, tuple[int, int]]
    where: PlannedHardware | None
    rows: list[Row]
    wall_clock: dict[str, float]
    wall_clock_at_once: dict[str, float]
    disk: Disk
    took: Took | None

    @property
    def total(self) -> dict[str, float]:
        """GPU-hours of all rows, by column."""
        return total(self.rows)


def make(jobs: Sequence[Job], targets: Sequence[str], costs: Costs, facts: Facts, on: PlannedHardware | None) -> Plan:
    """Return the plan of `targets`, whose jobs are `jobs`."""
    left, scale = to_do(jobs), costs.suite.config.scale
    rules = dict.fromkeys(job.rule for job in jobs)
    counted = {rule: (sum(job.rule == rule for job in left), sum(job.rule == rule for job in jobs)) for rule in rules}
    rows = rows_of(left, costs, facts, on) if on else []
    return Plan(
        targets=tuple(targets),
        scale=scale,
        notice=costs.suite.config.report.notice,
        to_do=left,
        jobs=counted,
        where=on,
        rows=rows,
        wall_clock=_wall_clock(left, rows, on, alone=True) if on else {},
        wall_clock_at_once=_wall_clock(left, rows, on, alone=False) if on else {},
        disk=disk(costs, left, on.at_a_time if on else 1),
        took=None if on else took(scale, jobs, facts.seconds.get(scale, {})),
    )


def rows_of(left: Sequence[Job], costs: Costs, facts: Facts, on: PlannedHardware) -> list[Row]:
    """Return a row for each job that runs on GPUs."""
    device = facts.devices[on.device]
    is_measured = any(entry.device == on.device for entry in facts.measured)
    found = []
    for job in left:
        if job.rule in ON_GPUS:
            work = costs.work(job)
            hours = {column(u): _hours(work, device, u) for u in UTILISATIONS}
            entry = facts.nearest(on.device, job.rule, work.parameters)
            if is_measured:
                hours[MEASURED] = work.needed / (1e12 * entry.rate * HOUR) if entry else hours[column(USUAL)]
            trains = job.rule in TRAININGS
            checkpoints = CHECKPOINTS * checkpoint_bytes(costs, job) if trains else 0
            found.append(
                Row(job, work, hours, entry is not None, checkpoints, model_bytes(costs, job) if trains else 0)
            )
    return found


def column(utilisation: float) -> str:
    """Return the name of a utilisation's column."""
    return f"{100 * utilisation:.0f} %"


def _hours(work: Work, device: Device, utilisation: float) -> float:
    return work.needed / (utilisation * device.peak(work.precision) * HOUR)


def _wall_clock(left: Sequence[Job], rows: Sequence[Row], on: PlannedHardware, alone: bool) -> dict[str, float]:
    gpus = {row.job: on.gpus_of(row.job) for row in rows}
    found = {}
    for name in rows[0].gpu_hours if rows else ():
        hours = dict.fromkeys(left, 0.0) | {row.job: row.gpu_hours[name] / gpus[row.job] for row in rows}
        found[name] = wall_clock(left, hours, on.at_a_time, gpus if alone else None, of=on.all_gpus)
    return found


def total(rows: Sequence[Row]) -> dict[str, float]:
    """Return the GPU-hours of all rows, by column."""
    return {name: sum(row.gpu_hours[name] for row in rows) for name in (rows[0].gpu_hours if rows else ())}


def line(left: Sequence[Job], costs: Costs, facts: Facts, on: PlannedHardware) -> str:
    """Summarise the cost of the jobs `left` in one line, with the wall-clock time on one training's GPUs."""
    rows = rows_of(left, costs, facts, on)
    hours, name = total(rows), facts.devices[on.device].name
    least = "" if all(row.is_known for row in rows) else "at least "
    if MEASURED in hours:
        rest = "" if all(row.is_measured for row in rows) else f", others at {column(USUAL)} of its peak"
        by, basis = MEASURED, f"at rates measured on {name}{rest}"
    else:
        by, basis = column(USUAL), f"at {column(USUAL)} of {name}'s peak (not measured)"
    clock = _wall_clock(left, rows, on, alone=True).get(by, 0)
    spent = f"{hours.get(by, 0):,.0f} GPU-hours, {clock:,.0f} h on {on.alone}, {basis}"
    return f"plan: {count(left)}, {least}{spent}, {disk(costs, left, on.at_a_time).total / 1e12:.1f} TB disk"


def as_dict(plan: Plan, fits: Sequence[Any], implied: Sequence[Any], goals: Sequence[Any]) -> dict[str, Any]:
    """Return the plan for JSON, with needed operations (`parrot.model.flops`) and disk space in bytes."""
    return {
        "targets": plan.targets,
        "scale": plan.scale,
        "notice": plan.notice,
        "jobs": {rule: {"to_do": left, "all": every} for rule, (left, every) in plan.jobs.items()},
        "to_do": [{"rule": job.rule, "name": job.name, "reason": job.reason} for job in plan.to_do],
        "where": plan.where._asdict() if plan.where else None,
        "rows": [
            {
                "rule": row.job.rule,
                "name": row.job.name,
                **row.work._asdict(),
                "gpu_hours": row.gpu_hours,
                "is_measured": row.is_measured,
            }
            | {"checkpoints": row.checkpoints, "model": row.model}
            for row in plan.rows
        ],
        "gpu_hours": plan.total,
        "wall_clock_hours": plan.wall_clock,
        "wall_clock_hours_at_once": plan.wall_clock_at_once,
        "on_processors": plan.took._asdict() if plan.took else None,
        "disk": {**plan.disk._asdict(), "total": plan.disk.total},
        "fits": [fit._asdict() for fit in fits],
        "published": [{**each._asdict(), "published": each.published.model_dump()} for each in implied],
        "goals": [{**each._asdict(), "goal": each.goal.model_dump()} for each in goals],
    }
