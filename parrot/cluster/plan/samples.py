"""How much there is to read: samples of conversation sets and questions of benchmarks, by their average lengths.

What is on this machine is counted; what is not is what the catalogues estimate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from parrot.config.catalog import Benchmark, Control, ConversationSet
from parrot.constants import IGNORED
from parrot.data.benchmarks import read_language
from parrot.data.conversations import samples
from parrot.data.samples import Reading
from parrot.model.flops import Question, Sample

CHARACTERS_A_TOKEN = 3  # of text that is not tokenised and has no estimate
MARKERS = 25  # tokens of the system prompt and of one turn's role markers
LETTER = 3  # tokens of an answer where nothing says more, its end included
BLOCKS = 64  # of a tokenised set, whose answers' tokens are counted


class Group(NamedTuple):
    """So many samples that are alike."""

    samples: int
    sample: Sample


def groups(entry: ConversationSet, cache: Path, visual: int, max_length: int) -> list[Group]:
    """A set's samples, those with and those without a picture of `visual` tokens, each as long as they are on average.

    From the tokenised set in `cache`, else the catalogue's estimate, else the JSON file; empty where there is neither.
    """
    if (table := tokenised(entry, cache)) is not None:
        return _tokenised(table, visual, max_length)
    if entry.estimate is not None:
        return [
            Group(each.samples, Sample(each.text, each.text - each.supervised, each.supervised, each.pictures))
            for each in entry.estimate.groups
        ]
    return _json(entry) if Path(entry.file).is_file() else []


def tokenised(entry: ConversationSet, cache: Path) -> Path | None:
    """The set's newest Arrow file, where there is any."""
    files = cache.glob(f"{Path(entry.file).stem}.*.arrow")
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def _tokenised(path: Path, visual: int, max_length: int) -> list[Group]:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
        lengths = np.minimum(table["length"].to_numpy(), max_length)
        pictured = pc.is_valid(table["image"]).to_numpy()
        blocks = table.select(["labels", "image"]).to_batches()
        some = blocks[:: -(-len(blocks) // BLOCKS)]
        labels = [pc.list_flatten(block["labels"]).to_numpy(zero_copy_only=False) != IGNORED for block in some]
        owners = [pc.list_parent_indices(block["labels"]).to_numpy() for block in some]
        counts = [np.bincount(o, n, len(block)) for o, n, block in zip(owners, labels, some, strict=True)]
        supervised = np.concatenate(counts)
        with_picture = np.concatenate([block["image"].is_valid().to_numpy(zero_copy_only=False) for block in some])
    found = []
    for pictures in (1, 0):
        here, seen = pictured == bool(pictures), with_picture == bool(pictures)
        if here.any():
            text = round(lengths[here].mean()) - pictures * visual
            answers = round(supervised[seen].mean()) if seen.any() else 0
            found.append(Group(int(here.sum()), Sample(text, text - answers, answers, pictures)))
    return found


def _json(entry: ConversationSet) -> list[Group]:
    counts = {1: [0, 0, 0], 0: [0, 0, 0]}
    for sample in samples(entry, Reading(entry), images=False):
        sums = counts[int("image" in sample)]
        turns = [(turn["from"] == "gpt", len(turn["value"]) // CHARACTERS_A_TOKEN) for turn in sample["conversations"]]
        sums[0] += 1
        sums[1] += MARKERS + sum(tokens for _, tokens in turns)
        sums[2] += sum(tokens for is_answer, tokens in turns if is_answer)
    return [
        Group(number, Sample(text // number, (text - answers) // number, answers // number, pictures))
        for pictures, (number, text, answers) in counts.items()
        if number
    ]


class Asked(NamedTuple):
    """So many questions that are alike, under all languages and controls of a benchmark, and its distinct pictures."""

    questions: int
    question: Question
    pictures: int


def asked(benchmark: Benchmark, controls: tuple[Control, ...]) -> list[Asked]:
    """What a benchmark asks under those of `controls` that it has: with pictures, then in words alone."""
    here = [control for control in controls if control in benchmark.controls]
    with_pictures = sum(control != "text" for control in here)
    rows, pictures, text, answer = _benchmark(benchmark) if here else (0, 0, 0, 0)
    shown = Asked(with_pictures * rows, Question(text, answer), pictures)
    words = Asked((len(here) - with_pictures) * rows, Question(text, answer, pictures=0), 0)
    return [each for each in (shown, words) if each.questions]


def _benchmark(benchmark: Benchmark) -> tuple[int, int, int, int]:
    """Rows of all languages, distinct pictures, and the tokens of a question and of an answer."""
    if (estimate := benchmark.estimate) is not None:
        return estimate.rows * len(benchmark.files), estimate.pictures, estimate.text, estimate.answer
    files = [Path(benchmark.folder, file) for file in benchmark.files.values()]
    if not all(file.is_file() for file in files):
        return 0, 0, 0, 0
    tables: list[Any] = [read_language(benchmark, language)[0] for language in benchmark.files]
    rows, pictures = sum(map(len, tables)), len(set().union(*(table["image"] for table in tables)))
    texts = [table[table.columns.intersection(["question", *"ABCD"])].sum(axis=1).str.len().sum() for table in tables]
    return rows, pictures, MARKERS + int(sum(texts)) // max(rows, 1) // CHARACTERS_A_TOKEN, LETTER
