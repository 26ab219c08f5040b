"""What the jobs that need GPUs compute, by the one model of operations, `parrot.model.flops`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from parrot.cluster.plan.jobs import Job, Stage, Training, training
from parrot.cluster.plan.samples import Group, asked, groups, tokenised
from parrot.cluster.plan.shapes import Shapes
from parrot.config.catalog import ConversationSet
from parrot.config.runs import Run, Suite
from parrot.config.stages import PredictSettings
from parrot.model.flops import STAGE_2, Part, prediction_flops, recomputed_flops, training_flops

OPERATIONS_A_PARAMETER = 8  # and token: forward, forward again, and backward, as if every weight were trained


class Work(NamedTuple):
    """What one job computes.

    `needed` operations are those that utilisation counts; `recomputed` ones come on top where activations are not
    kept. `by_rule_of_thumb` is 8 operations a parameter of the language model and token. `parameters` are the model's.
    `estimated` names what is counted by a catalogue's estimate, `unknown` what could not be counted.
    """

    precision: Literal["bf16", "fp32"]
    parameters: int
    needed: int = 0
    recomputed: int = 0
    by_rule_of_thumb: int = 0
    estimated: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Costs:
    """The work of a suite's jobs."""

    def __init__(self, suite: Suite, work: Path = Path("work")):
        self.suite = suite
        self.shapes = Shapes(suite)
        self.tokenised = work / suite.config.scale / "datasets"

    def work(self, job: Job) -> Work:
        """What a job of `parrot.cluster.plan.jobs.ON_GPUS` computes."""
        match job.rule:
            case "project" | "tune":
                return self._training(training(self.suite, job))
            case "predict":
                run = self.suite.run(job.name)
                return self._prediction(run, "tune", run.predict)
            case _:
                run = self.suite.with_stage1(job.name)
                return self._prediction(run, "align", run.predict_before)

    def groups(self, asked_for: Training, name: str) -> list[Group]:
        """The samples of one conversation set, as long as the run's tokeniser and `max_length` make them."""
        visual = self.shapes.config(asked_for.run, asked_for.stage).num_image_tokens
        return groups(self.entry(name), self.tokenised, visual, asked_for.recipe.max_length)

    def entry(self, name: str) -> ConversationSet:
        entry = self.suite.datasets[name]
        assert isinstance(entry, ConversationSet)
        return entry

    def _is_estimated(self, name: str) -> bool:
        entry = self.entry(name)
        return entry.estimate is not None and tokenised(entry, self.tokenised) is None

    def _training(self, job: Training) -> Work:
        recipe, config = job.recipe, self.shapes.config(job.run, job.stage)
        by_set = {name: self.groups(job, name) for name in job.sets}
        every = [group for found in by_set.values() for group in found]
        there = sum(group.samples for group in every)
        seen = recipe.max_steps * recipe.global_batch if recipe.max_steps else round((recipe.epochs or 0) * there)

        def of_all(counts: Iterable[int]) -> int:
            """The sum over all samples that are seen, from each group's count a sample."""
            return sum(n * count for (n, _), count in zip(every, counts, strict=True)) * seen // max(there, 1)

        trained = _trained(job)
        tokens = of_all(sample.text + sample.pictures * config.num_image_tokens for _, sample in every)
        parameters = self.shapes.backbone_parameters(job.run.config.model.language_model)
        again = of_all(recomputed_flops(config, [sample]) for _, sample in every)
        return Work(
            precision=recipe.precision,
            parameters=self.shapes.parameters(job.run, job.stage).total,
            needed=of_all(sum(training_flops(config, [sample], trained).values()) for _, sample in every),
            recomputed=again if recipe.gradient_checkpointing else 0,
            by_rule_of_thumb=OPERATIONS_A_PARAMETER * parameters * tokens,
            estimated=tuple(name for name in job.sets if self._is_estimated(name)),
            unknown=tuple(f"data set {name}" for name, found in by_set.items() if not found),
        )

    def _prediction(self, run: Run, stage: Stage, settings: PredictSettings) -> Work:
        if run.pretrained_model is not None:
            return Work(settings.dtype, 1, unknown=(f"model {run.pretrained_model.path}, asked as it is",))
        config = self.shapes.config(run, stage)
        names = {benchmark.name for benchmark in settings.benchmarks}
        entries = {name: self.suite.benchmarks[name] for name in run.config.evaluate.benchmarks}
        entries = {name: entry for name, entry in entries.items() if entry.name in names}
        by_benchmark = {name: asked(entry, settings.controls) for name, entry in entries.items()}
        needed = sum(
            each.questions * sum(prediction_flops(config, [each.question], 0).values())
            + sum(prediction_flops(config, [], each.pictures).values())
            for found in by_benchmark.values()
            for each in found
        )
        return Work(
            precision=settings.dtype,
            parameters=self.shapes.parameters(run, stage).total,
            needed=needed,
            estimated=tuple(name for name, entry in entries.items() if entry.estimate is not None),
            unknown=tuple(f"benchmark {name}" for name, found in by_benchmark.items() if not found),
        )


def _trained(job: Training) -> tuple[Part, ...]:
    if job.stage == "align":
        return ("projector",)
    return STAGE_2 if job.run.config.tune.language_model == "full" else ("projector", "experts")
