"""A plan as text."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from parrot.cluster.jobs import AFTER_OTHERS, MISSING, count
from parrot.cluster.plan.disk import GIGABYTE
from parrot.cluster.plan.facts import Facts, PlannedHardware
from parrot.cluster.plan.goals import GoalUtilisation, ImpliedUtilisation
from parrot.cluster.plan.memory import Fit
from parrot.cluster.plan.plan import MEASURED, USUAL, Plan, Row, column
from parrot.cluster.plan.schedule import Took, minutes

EXA = 10**18
WIDTH = 120
STAGES = {"align": "stage 1", "tune": "stage 2"}
OFFLOADED = {"none": "", "optimizer": " *", "all": " **"}


def text(
    plan: Plan,
    facts: Facts,
    fits: Sequence[Fit],
    implied: Sequence[ImpliedUtilisation],
    goals: Sequence[GoalUtilisation],
) -> str:
    """Format the plan in aligned tables of at most 120 columns."""
    parts = [*filter(None, [plan.notice]), _jobs(plan)]
    if plan.where is None:
        parts += [_took(plan.took)] if plan.took and plan.to_do else []
        parts.append(
            "No GPUs are configured (hardware.gpus), so there are no GPU-hours; plan for GPUs with --gpu and --gpus."
        )
    else:
        parts += [_hardware(plan.where, facts)]
        parts += [_hours(plan, plan.where)] if plan.rows else []
        parts.append(_calibration(plan.where, facts))
    parts += [_disk(plan), _fits(fits, facts), _published(implied, facts), _goals(goals, facts)]
    parts += [_estimated(plan.rows), _unknown(plan.rows)]
    return "\n\n".join(_wrapped(part) for part in parts if part)


def _wrapped(part: str) -> str:
    lines = [wrap(line, WIDTH, subsequent_indent="  ") if len(line) > WIDTH else [line] for line in part.splitlines()]
    return "\n".join(piece for pieces in lines for piece in pieces)


def _jobs(plan: Plan) -> str:
    done = sum(every - left for left, every in plan.jobs.values())
    each = [f"{rule} {left}" for rule, (left, _) in plan.jobs.items() if left]
    why: dict[str, list[str]] = {}
    for job in plan.to_do:
        why.setdefault(job.reason, []).append(f"{job.rule} {job.name}".rstrip())
    # Jobs with missing files are expected, and those after other jobs follow from these.
    stale = [f"{reason}: {', '.join(names)}" for reason, names in why.items() if reason not in (MISSING, AFTER_OTHERS)]
    parts = [f"{' '.join(plan.targets)} at the {plan.scale} scale: {count(plan.to_do)} to do, {done} done"]
    parts += [f"  {', '.join(each)}"] if each else []
    parts += [f"  Out of date, {each}" for each in stale]
    parts += [f"  Finished, but after jobs that are to do: {len(why[AFTER_OTHERS])}"] if AFTER_OTHERS in why else []
    return "\n".join(parts)


def _took(times: Took) -> str:
    clocks = ", ".join(f"{minutes(seconds)} with {jobs}" for jobs, seconds in times.wall_clock.items())
    each = ", ".join(f"{rule} {seconds:.0f}" for rule, seconds in times.seconds.items() if rule in times.here)
    other = ", ".join(f"{rule} {seconds:.0f}" for rule, seconds in times.seconds.items() if rule not in times.here)
    parts = [f"Time by number of concurrent jobs: {clocks}.", f"  Seconds per job here: {each or 'not measured yet'}."]
    parts += [f"  On another machine (config/plan.yaml), until such a job has run here: {other}."] if other else []
    parts += [f"  Not measured yet and not counted: {', '.join(times.unknown)}."] if times.unknown else []
    return "\n".join(parts)


def _hardware(where: PlannedHardware, facts: Facts) -> str:
    device = facts.devices[where.device]
    half = "bfloat16" if device.bfloat16 else "float16"
    nodes = f"{where.nodes} node{'s' * (where.nodes > 1)} x {where.gpus} {device.name}"
    return (
        f"Hardware: {nodes} per training and {where.gpus} per prediction, {where.at_a_time} "
        f"job{'s' * (where.at_a_time > 1)} at a time.\n"
        f"  {device.name}: {device.half:g} TFLOP/s in {half}, {device.single:g} in float32 (published, dense), "
        f"{device.memory:g} GiB"
    )


def _hours(plan: Plan, where: PlannedHardware) -> str:
    columns = list(plan.wall_clock)
    head = ["row", "job", "precision", "10^18 FLOP", *columns, "output, GB", "checkpoints"]
    lines = [_row(row, columns) for row in plan.rows]
    total = sum(row.work.needed for row in plan.rows) / EXA
    known = "all" if all(row.is_known for row in plan.rows) else "all that is counted"
    lines.append([known, "", "", _number(total), *(_number(plan.total[name]) for name in columns), "", ""])
    clocks = {f"hours on {where.alone}": plan.wall_clock}
    if where.at_a_time > 1:
        clocks[f"hours, {where.at_a_time} jobs at once"] = plan.wall_clock_at_once
    for name, hours in clocks.items():
        lines.append([name, "", "", "", *(_number(hours[column]) for column in columns), "", ""])
    title = "GPU-hours by utilisation of that peak, wall-clock hours, and disk space"
    return f"{title}\n{table(head, lines, left=3)}"


def _row(row: Row, columns: Sequence[str]) -> list[str]:
    shared = row.job.rule in ("align", "predict_stage1")
    name = f"stage 1 {row.job.name}" if shared else row.job.name
    sizes = [f"{size / GIGABYTE:,.1f}" if size else "" for size in (row.model, row.checkpoints)]
    if not row.work.needed and not row.is_known:
        return [name, row.job.rule, row.work.precision, *"?" * (1 + len(columns)), *sizes]
    hours = [_number(row.gpu_hours[name]) for name in columns]
    if MEASURED in columns and not row.is_measured:
        hours[columns.index(MEASURED)] = f"~{hours[columns.index(MEASURED)]}"
    return [name, row.job.rule, row.work.precision, _number(row.work.needed / EXA), *hours, *sizes]


def _calibration(where: PlannedHardware, facts: Facts) -> str:
    entries = [entry for entry in facts.measured if entry.device == where.device]
    name = facts.devices[where.device].name
    if not entries:
        return (
            f"Not measured on this device: config/plan.yaml has no rate for {name}, "
            "so hours follow from the utilisation."
        )
    lines = [
        f"  {each.rule}: {each.rate:g} TFLOP/s per GPU, {each.sizes} ({each.date}, {each.source})" for each in entries
    ]
    how = f"each job uses the rate of the nearest model size; ~ marks jobs without a rate, at {column(USUAL)}"
    return f"Measured on {name}: {how}\n" + "\n".join(lines)


def _disk(plan: Plan) -> str:
    parts = {
        "data": plan.disk.data,
        "tokenised": plan.disk.tokenised,
        "features": plan.disk.features,
        "checkpoints at most": plan.disk.checkpoints,
        "models": plan.disk.models,
    }
    each = ", ".join(f"{name} {size / GIGABYTE:,.1f}" for name, size in parts.items())
    return f"Additional disk space, GB: {plan.disk.total / GIGABYTE:,.1f} ({each})"


def _fits(fits: Sequence[Fit], facts: Facts) -> str:
    if not fits:
        return ""
    ways = list(dict.fromkeys((fit.strategy, fit.offload) for fit in fits))
    head = ["GPUs", "training", *(f"{strategy}{OFFLOADED[offload]}" for strategy, offload in ways)]
    cells: dict[tuple[int, str], list[str]] = {}
    for fit in sorted(fits, key=lambda fit: fit.gpus):
        label = STAGES[fit.stage] + (f", {fit.tuning}" if fit.tuning else "")
        name = facts.devices[fit.device].name if fit.device else "none"
        cells.setdefault((fit.gpus, label), []).append(f"{fit.gib:.0f} {name}")
    batches = {STAGES[fit.stage]: fit.micro_batch for fit in fits}
    sizes = " and ".join(f"{batch} in {stage}" for stage, batch in batches.items())
    lines = [[str(gpus), label, *row] for (gpus, label), row in cells.items()]
    configured = [fit for fit in fits if fit.is_configured]
    own = [f"{STAGES[fit.stage]} by {fit.strategy}{OFFLOADED[fit.offload]} {fit.gib:.0f} GiB" for fit in configured]
    return (
        f"GiB per GPU, and the smallest GPU with that memory; micro-batch {sizes}, samples of length max_length\n"
        + table(head, lines, left=len(head))
        + "\n  * optimiser states in main memory  ** weights too; activations are estimated"
        + f"\n  As configured: {', '.join(own)}."
    )


def _published(implied: Sequence[ImpliedUtilisation], facts: Facts) -> str:
    lines = []
    for each in implied:
        entry, name = each.published, facts.devices[each.published.device].name
        shares = [f"{100 * share:.0f} %" for share in (each.needed, each.with_recomputation, each.by_rule_of_thumb)]
        lines.append(
            f"{entry.run}, both stages: {each.operations / EXA:.1f} x 10^18 FLOP. The published {entry.gpus} x {name} "
            f"x {entry.hours:g} h ({entry.source}) imply {shares[0]} of peak; with the recomputation "
            f"of gradient checkpointing {shares[1]}; by 8 operations per parameter and token {shares[2]}. "
            "The figures above do not use them."
        )
    return "\n".join(lines)


def _goals(goals: Sequence[GoalUtilisation], facts: Facts) -> str:
    lines = []
    for each in goals:
        goal, name = each.goal, facts.devices[each.goal.device].name
        measured = f"not measured on {name}"
        if each.measured_gpu_hours is not None:
            verdict = "reached" if each.measured_gpu_hours <= goal.gpu_hours else "missed"
            measured = f"{each.measured_gpu_hours:.0f} at the measured rates, {verdict}"
        lines.append(
            f"Goal for {goal.run}: at most {goal.gpu_hours:g} {name} hours, which needs {100 * each.utilisation:.0f} % "
            f"utilisation; {measured}."
        )
    return "\n".join(lines)


def _estimated(rows: Sequence[Row]) -> str:
    names = dict.fromkeys(name for row in rows for name in row.work.estimated)
    return f"Lengths estimated by the catalogues, not counted: {', '.join(names)}." if names else ""


def _unknown(rows: Sequence[Row]) -> str:
    lines = [f"  {row.job.rule} {row.job.name}: {what}" for row in rows for what in row.work.unknown]
    return "Not counted, without an estimate:\n" + "\n".join(lines) if lines else ""


def _number(value: float) -> str:
    """Format with up to three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> str:
    """Format a table with columns as wide as their widest cell, the first `left` of them left-aligned."""
    widths = [max(len(row[place]) for row in (head, *lines)) for place in range(len(head))]
    rows = [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *lines)
    ]
    return "\n".join(f"  {row}" for row in rows)
