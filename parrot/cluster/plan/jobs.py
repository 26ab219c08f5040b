"""The jobs of a target, what they wait for, and which of them are left to do.

This repeats what `workflow/rules` say, without Snakemake, so that it takes no time; a test holds the two in step.
Whether what exists is out of date only Snakemake knows: here a job is done when its outputs exist and none that it
waits for is to be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from parrot.config.hardware import TrainingHardware
from parrot.config.runs import Run, Suite
from parrot.config.settings import Recipe
from parrot.errors import ConfigError, nearest
from parrot.report.settings import report_stage

Stage = Literal["align", "tune"]
TRAININGS = ("project", "tune")
ON_GPUS = (*TRAININGS, "predict", "predict_before")
RECORDS = ("metrics.jsonl", "provenance.json")


class Job(NamedTuple):
    """A rule and the value of its wildcard: a run, a target, a stage-1 or a data key; "" for a rule without one."""

    rule: str
    name: str = ""


class Step(NamedTuple):
    """What a job writes, relative to the scale's results, and the jobs that it waits for."""

    outputs: tuple[str, ...]
    after: tuple[Job, ...] = ()


class Training(NamedTuple):
    """What a training job is, and what it reads: names of conversation sets."""

    run: Run
    stage: Stage
    recipe: Recipe
    hardware: TrainingHardware
    sets: tuple[str, ...]


def training(suite: Suite, job: Job) -> Training:
    """The training that `job`, of a rule of `TRAININGS`, is."""
    if job.rule == "project":
        run = suite.with_stage1(job.name)
        return Training(run, "align", run.config.align, run.config.hardware.align, run.config.data.align)
    run = suite.run(job.name)
    data = run.config.data
    sets = tuple(name for language in data.languages for name in data.instructions[language])
    return Training(run, "tune", run.config.tune, run.config.hardware.tune, sets)


class Jobs:
    """All jobs of some targets, `steps` in an order in which each comes behind those that it waits for."""

    def __init__(self, suite: Suite, targets: Iterable[str], results: Path = Path("results")):
        self.suite = suite
        self.folder = results / suite.config.scale
        self.requested = list(dict.fromkeys(job for target in targets for job in _ends(suite, target)))
        self.steps: dict[Job, Step] = {}
        for job in self.requested:
            self._add(job)

    def _add(self, job: Job) -> None:
        if job not in self.steps:
            step = _step(self.suite, job)
            for other in step.after:
                self._add(other)
            self.steps[job] = step

    def is_there(self, job: Job) -> bool:
        """Whether everything that `job` writes exists."""
        return all((self.folder / output).exists() for output in self.steps[job].outputs)

    def to_do(self) -> list[Job]:
        """What would run, in order: what is asked for and missing, what that needs and misses, and all behind it."""
        waiting = [job for job in self.requested if not self.is_there(job)]
        found: set[Job] = set()
        while waiting:
            job = waiting.pop()
            if job not in found:
                found.add(job)
                waiting += [other for other in self.steps[job].after if not self.is_there(other)]
                waiting += [other for other, behind in self.steps.items() if job in behind.after]
        return [job for job in self.steps if job in found]


def count(to_do: Iterable[Job]) -> str:
    """Jobs and trainings, in words."""
    to_do = list(to_do)
    trainings = sum(job.rule in TRAININGS for job in to_do)
    return f"{len(to_do)} job{'s' * (len(to_do) != 1)} ({trainings} training{'s' * (trainings != 1)})"


def known_targets(suite: Suite) -> tuple[str, ...]:
    """Every word that `snakemake` takes for a target."""
    return ("all", "align", "tables", "figures", *suite.targets)


def compared(suite: Suite, target: str) -> tuple[str, ...]:
    """The runs in a target's tables: its own, then its baselines."""
    return (*suite.target(target), *suite.against(target))


def _ends(suite: Suite, target: str) -> Iterator[Job]:
    """The jobs whose outputs are what is asked for; ConfigError for an unknown target."""
    reported = suite.config.report.runs
    match target:
        case "all":
            yield Job("report")
            yield from (Job("browse", run) for run in reported)
            yield Job("track")
        case "tables" | "figures":
            yield Job("report")
        case "align":
            yield from (Job("project", key) for key in _stage1_keys(suite, reported))
        case _ if target in suite.targets:
            yield Job("by_target", target)
            yield from (Job("browse", run) for run in suite.target(target))
            yield Job("track_target", target)
        case _:
            if target in (*suite.overrides, *suite.families):
                suite.check(target)
            raise ConfigError(f"unknown target {target}; {nearest(target, known_targets(suite))}")


def _step(suite: Suite, job: Job) -> Step:
    """The rule `job.rule` for the wildcard value `job.name`."""
    reported, name = suite.config.report.runs, job.name
    match job.rule:
        case "fetch":
            return Step((f"data/{name}.json",))
        case "project":
            outputs = [f"align/{name}/{file}" for file in ("projector/model.safetensors", "projector/config.json")]
            records = [f"align/{name}/{file}" for file in RECORDS]
            return Step((*outputs, *records), (_data(suite, _first(suite, name)),))
        case "predict_before":
            return Step((f"align/{name}/predictions",), (Job("project", name), _data(suite, _first(suite, name))))
        case "tune":
            stage1 = Job("project", suite.run(name).stage1_key or "")
            return Step(_model(name), (_data(suite, name), stage1))
        case "reuse":
            return Step(_model(name), (_training(suite, suite.trained_as[name]),))
        case "predict":
            return Step((f"{name}/predictions",), (*_trainings(suite, [name]), _data(suite, name)))
        case "score":
            run = suite.run(name)
            before = (Job("predict_before", run.stage1_key or ""),) if run.scores_before else ()
            return Step((f"{name}/scores.csv",), (Job("predict", name), *before))
        case "scores":
            return Step(("scores.csv",), tuple(Job("score", run) for run in reported))
        case "report":
            return Step(tuple(report_stage(suite).outputs()), (Job("scores"), *_shown(suite, reported)))
        case "browse":
            return Step((f"{name}/predictions.html",), (Job("predict", name), _data(suite, name)))
        case "by_target":
            files = report_stage(suite, suite.targets[0]).outputs()
            return Step(tuple(f"by_target/{name}/{file}" for file in files), _shown(suite, compared(suite, name)))
        case "track":
            return Step(("tracked",), (Job("report"), *_tracked(suite, reported)))
        case "track_target":
            after = (Job("by_target", name), *_tracked(suite, compared(suite, name)))
            return Step((f"by_target/{name}/tracked",), after)
        case _:
            raise AssertionError(job)


def _shown(suite: Suite, runs: Iterable[str]) -> tuple[Job, ...]:
    runs = tuple(runs)
    data = dict.fromkeys(_data(suite, run) for run in runs)
    return (*data, *(Job(rule, run) for run in runs for rule in ("predict", "score")), *_trainings(suite, runs))


def _tracked(suite: Suite, runs: Iterable[str]) -> tuple[Job, ...]:
    runs = tuple(runs)
    shown = [Job(rule, run) for run in runs for rule in ("score", "browse")]
    return (*shown, *_trainings(suite, runs))


def _training(suite: Suite, run: str) -> Job:
    return Job("tune" if suite.trained_as[run] == run else "reuse", run)


def _trainings(suite: Suite, runs: Iterable[str]) -> list[Job]:
    return [_training(suite, run) for run in suite.trained(runs)]


def _model(run: str) -> tuple[str, ...]:
    return tuple(f"{run}/{file}" for file in ("model/model.safetensors", *RECORDS))


def _data(suite: Suite, run: str) -> Job:
    return Job("fetch", suite.run(run).data_key)


def _first(suite: Suite, stage1_key: str) -> str:
    return suite.with_stage1(stage1_key).name


def _stage1_keys(suite: Suite, runs: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(suite.run(run).stage1_key or "" for run in suite.trained(runs)))
