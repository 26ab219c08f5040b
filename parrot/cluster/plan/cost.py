"""The operations of jobs on GPUs, counted by `parrot.model.flops`.

Samples of conversation sets and questions of benchmarks count with their average lengths: measured if the data is on
this machine, else estimated by the catalogues.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from parrot.cluster.jobs import Job
from parrot.cluster.plan.shapes import Shapes, Stage, Training, training
from parrot.config.benchmarks import Benchmark, Control
from parrot.config.catalog import ConversationSet
from parrot.config.runs import Run
from parrot.config.stages import PredictSettings
from parrot.config.suite import Suite
from parrot.constants import IGNORE_INDEX
from parrot.data.benchmarks import read_language
from parrot.data.samples import Reading
from parrot.model.flops import STAGE_2, Part, Question, Sample, prediction_flops, recomputed_flops, training_flops

OPERATIONS_PER_PARAMETER = 8  # and token: forward, forward again, and backward, as if every weight were trained
CHARACTERS_PER_TOKEN = 3  # for text that is neither tokenised nor estimated
MARKERS = 25  # tokens of the system prompt and of one turn's role markers
LETTER = 3  # tokens of an answer without an estimate, end token included
BLOCKS = 64  # blocks of a tokenised set in which supervised tokens are counted


class Work(NamedTuple):
    """The operations of one job.

    Utilisation counts the `needed` operations; gradient checkpointing adds the `recomputed` ones. `by_rule_of_thumb` is
    8 operations per token and parameter of the language model. `parameters` are the model's. `estimated` names data
    counted by a catalogue's estimate, `unknown` data that could not be counted.
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
        """Return the work of a job of `parrot.cluster.jobs.ON_GPUS`."""
        match job.rule:
            case "align" | "tune":
                return self._training(training(self.suite, job))
            case "predict":
                run = self.suite.run(job.name)
                return self._prediction(run, "tune", run.predict)
            case _:
                run = self.suite.with_stage1(job.name)
                return self._prediction(run, "align", run.predict_stage1)

    def groups(self, job: Training, name: str) -> list[Group]:
        """Return the samples of one conversation set, with lengths by the run's tokeniser and `max_length`."""
        visual = self.shapes.config(job.run, job.stage).num_image_tokens
        return groups(self.entry(name), self.tokenised, visual, job.recipe.max_length)

    def entry(self, name: str) -> ConversationSet:
        """Return the catalogue's entry of a conversation set."""
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
            """Return the sum over all training samples, from each group's count per sample."""
            return sum(n * count for (n, _), count in zip(every, counts, strict=True)) * seen // max(there, 1)

        trained = _trained(job)
        tokens = of_all(sample.text + sample.images * config.num_image_tokens for _, sample in every)
        parameters = self.shapes.backbone_parameters(job.run.config.model.language_model)
        again = of_all(recomputed_flops(config, [sample]) for _, sample in every)
        return Work(
            precision=recipe.precision,
            parameters=self.shapes.parameters(job.run, job.stage).total,
            needed=of_all(sum(training_flops(config, [sample], trained).values()) for _, sample in every),
            recomputed=again if recipe.gradient_checkpointing else 0,
            by_rule_of_thumb=OPERATIONS_PER_PARAMETER * parameters * tokens,
            estimated=tuple(name for name in job.sets if self._is_estimated(name)),
            unknown=tuple(f"data set {name}" for name, found in by_set.items() if not found),
        )

    def _prediction(self, run: Run, stage: Stage, settings: PredictSettings) -> Work:
        if run.pretrained_model is not None:
            return Work(settings.dtype, 1, unknown=(f"model {run.pretrained_model.path}, evaluated zero-shot",))
        config = self.shapes.config(run, stage)
        names = {benchmark.name for benchmark in settings.benchmarks}
        entries = {name: self.suite.benchmarks[name] for name in run.config.evaluate.benchmarks}
        entries = {name: entry for name, entry in entries.items() if entry.name in names}
        by_benchmark = {name: question_groups(entry, settings.controls) for name, entry in entries.items()}
        needed = sum(
            each.questions * sum(prediction_flops(config, [each.question], 0).values())
            + sum(prediction_flops(config, [], each.images).values())
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


class Group(NamedTuple):
    """A number of samples with the same lengths."""

    samples: int
    sample: Sample


def groups(entry: ConversationSet, cache: Path, visual: int, max_length: int) -> list[Group]:
    """Return a set's samples with and without an image of `visual` tokens, with their average lengths.

    Lengths come from the tokenised set in `cache`, else the catalogue's estimate, else the JSON file; without any of
    them the list is empty.
    """
    if (table := tokenised(entry, cache)) is not None:
        return _tokenised(table, visual, max_length)
    if entry.estimate is not None:
        return [
            Group(each.samples, Sample(each.text, each.text - each.supervised, each.supervised, each.images))
            for each in entry.estimate.groups
        ]
    return _json(entry) if Path(entry.file).is_file() else []


def tokenised(entry: ConversationSet, cache: Path) -> Path | None:
    """Return the set's newest Arrow file; None if there is none."""
    files = cache.glob(f"{Path(entry.file).stem}.*.arrow")
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def _tokenised(path: Path, visual: int, max_length: int) -> list[Group]:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
        lengths = np.minimum(table["length"].to_numpy(), max_length)
        has_image = pc.is_valid(table["image"]).to_numpy()
        blocks = table.select(["labels", "image"]).to_batches()
        some = blocks[:: -(-len(blocks) // BLOCKS)]
        labels = [pc.list_flatten(block["labels"]).to_numpy(zero_copy_only=False) != IGNORE_INDEX for block in some]
        owners = [pc.list_parent_indices(block["labels"]).to_numpy() for block in some]
        counts = [np.bincount(o, n, len(block)) for o, n, block in zip(owners, labels, some, strict=True)]
        supervised = np.concatenate(counts)
        with_image = np.concatenate([block["image"].is_valid().to_numpy(zero_copy_only=False) for block in some])
    found = []
    for images in (1, 0):
        here, seen = has_image == bool(images), with_image == bool(images)
        if here.any():
            text = round(lengths[here].mean()) - images * visual
            answers = round(supervised[seen].mean()) if seen.any() else 0
            found.append(Group(int(here.sum()), Sample(text, text - answers, answers, images)))
    return found


def _json(entry: ConversationSet) -> list[Group]:
    from parrot.data.conversations import samples  # imports datasets, which few plans need

    counts = {1: [0, 0, 0], 0: [0, 0, 0]}
    for sample in samples(entry, Reading(entry), images=False):
        sums = counts[int("image" in sample)]
        turns = [
            (turn["from"] == "gpt", len(turn["value"]) // CHARACTERS_PER_TOKEN) for turn in sample["conversations"]
        ]
        sums[0] += 1
        sums[1] += MARKERS + sum(tokens for _, tokens in turns)
        sums[2] += sum(tokens for is_answer, tokens in turns if is_answer)
    return [
        Group(number, Sample(text // number, (text - answers) // number, answers // number, images))
        for images, (number, text, answers) in counts.items()
        if number
    ]


class QuestionGroup(NamedTuple):
    """A number of questions with the same lengths, over languages and controls, and the distinct images."""

    questions: int
    question: Question
    images: int


def question_groups(benchmark: Benchmark, controls: tuple[Control, ...]) -> list[QuestionGroup]:
    """Return a benchmark's questions under those of `controls` that it has: with images, then text-only."""
    here = [control for control in controls if control in benchmark.controls]
    with_image = sum(control != "text" for control in here)
    rows, images, text, answer = _benchmark(benchmark) if here else (0, 0, 0, 0)
    shown = QuestionGroup(with_image * rows, Question(text, answer), images)
    words = QuestionGroup((len(here) - with_image) * rows, Question(text, answer, images=0), 0)
    return [each for each in (shown, words) if each.questions]


def _benchmark(benchmark: Benchmark) -> tuple[int, int, int, int]:
    """Return the rows of all languages, the distinct images, and the tokens per question and per answer."""
    if (estimate := benchmark.estimate) is not None:
        return estimate.rows * len(benchmark.files), estimate.images, estimate.text, estimate.answer
    files = [Path(benchmark.folder, file) for file in benchmark.files.values()]
    if not all(file.is_file() for file in files):
        return 0, 0, 0, 0
    tables: list[Any] = [read_language(benchmark, language)[0] for language in benchmark.files]
    rows, images = sum(map(len, tables)), len(set().union(*(table["image"] for table in tables)))
    texts = [table[table.columns.intersection(["question", *"ABCD"])].sum(axis=1).str.len().sum() for table in tables]
    return rows, images, MARKERS + int(sum(texts)) // max(rows, 1) // CHARACTERS_PER_TOKEN, LETTER
