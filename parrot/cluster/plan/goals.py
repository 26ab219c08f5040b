"""The utilisations that published times and goals imply; the plan's figures use neither."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from parrot.cluster.jobs import Job
from parrot.cluster.plan.cost import Costs
from parrot.cluster.plan.facts import Facts, Goal, Published
from parrot.cluster.plan.plan import HOUR
from parrot.config.suite import Suite


class ImpliedUtilisation(NamedTuple):
    """The shares of the devices' peak that a published time implies, by three counts of operations.

    These are the operations that training needs, those including gradient checkpointing's recomputation, and 8
    operations per parameter and token, frozen or not.
    """

    published: Published
    operations: int
    needed: float
    with_recomputation: float
    by_rule_of_thumb: float


class GoalUtilisation(NamedTuple):
    """The share of the device's peak that a goal requires, and GPU-hours at the measured rates, if any."""

    goal: Goal
    utilisation: float
    measured_gpu_hours: float | None


def implied_utilisations(jobs: Collection[Job], costs: Costs, facts: Facts) -> list[ImpliedUtilisation]:
    """Return the implied utilisation for each published time of a run among the jobs."""
    found = []
    for entry in facts.published:
        if (trainings := _trainings(jobs, entry, costs.suite)) is not None:
            works = [costs.work(job) for job in trainings]
            seconds = entry.gpus * entry.hours * HOUR
            capacity = seconds * facts.devices[entry.device].peak(works[0].precision)
            needed = sum(work.needed for work in works)
            again, thumb = (sum(work.recomputed for work in works), sum(work.by_rule_of_thumb for work in works))
            found.append(
                ImpliedUtilisation(entry, needed, needed / capacity, (needed + again) / capacity, thumb / capacity)
            )
    return found


def goal_utilisations(jobs: Collection[Job], costs: Costs, facts: Facts) -> list[GoalUtilisation]:
    """Return the required utilisation for each goal of a run among the jobs."""
    found = []
    for goal in facts.goals:
        if (trainings := _trainings(jobs, goal, costs.suite)) is not None:
            works = {job: costs.work(job) for job in trainings}
            needed, first = sum(work.needed for work in works.values()), next(iter(works.values()))
            capacity = goal.gpu_hours * HOUR * facts.devices[goal.device].peak(first.precision)
            rates = {job: facts.nearest(goal.device, job.rule, work.parameters) for job, work in works.items()}
            measured = None
            if all(rates.values()):
                hours = [works[job].needed / (1e12 * entry.rate * HOUR) for job, entry in rates.items() if entry]
                measured = sum(hours)
            found.append(GoalUtilisation(goal, needed / capacity, measured))
    return found


def _trainings(jobs: Collection[Job], entry: Published | Goal, suite: Suite) -> list[Job] | None:
    """Return both trainings of the entry's run; None if the jobs lack them or use another language model."""
    tune = Job("tune", entry.run)
    if tune not in jobs or suite.run(entry.run).config.model.language_model != entry.language_model:
        return None
    return [Job("align", suite.run(entry.run).stage1_key or ""), tune]
