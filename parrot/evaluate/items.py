"""The items of a run: every row of every benchmark file, under every control, and how they are dealt out."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from parrot.config.benchmarks import Benchmark, Control, prediction_file
from parrot.config.catalog import Language
from parrot.config.stages import PredictSettings
from parrot.constants import IMAGE_TOKEN
from parrot.data.benchmarks import read_language, without_control
from parrot.data.tsv import Rejection, as_vlmevalkit_reads, image_id, records, reject
from parrot.errors import UserError
from parrot.evaluate.kinds import word_row
from parrot.evaluate.predictor import GenerationSettings, Item
from parrot.evaluate.prompts import instructions, settings_for
from parrot.evaluate.translate import Translate, translator


@dataclass(frozen=True)
class PredictionTable:
    """The items of one benchmark file under one control, and the prediction file that their predictions go to.

    Attributes:
        file: the prediction file.
        source: the benchmark's file, in `language`.
        table: the file's columns without the image, and `image_sha256`, the id of each row's own image.
        rejected: the rows of the file that are left out.
    """

    file: Path
    source: Path
    language: Language
    control: Control
    table: pd.DataFrame
    items: list[Item]
    rejected: list[Rejection]


def read_tables(settings: PredictSettings, output: Path, work: Path = Path("work")) -> list[PredictionTable]:
    """Read all tables of a run; a benchmark has the controls that both the run and its entry list.

    Where the run has its questions put into English, a table holds them in English. What a model makes of them is read
    from `work`, where `parrot.evaluate.translate` wrote it.

    Raises:
        UserError: a benchmark file is missing or malformed, or lacks what a control or a translator needs.
    """
    translate = translator(settings, work)
    tables = []
    for benchmark in settings.benchmarks:
        controls = [control for control in settings.controls if control in benchmark.controls]
        for language in benchmark.files if controls else ():
            tables += _read(benchmark, language, controls, settings, translate, output)
    return tables


def _read(
    benchmark: Benchmark,
    language: Language,
    controls: list[Control],
    settings: PredictSettings,
    translate: Translate | None,
    output: Path,
) -> list[PredictionTable]:
    path = Path(benchmark.folder, benchmark.files[language])
    table, rejected = read_language(benchmark, language)
    lists = benchmark.rejected_rows == "list"
    sentences = instructions(benchmark, settings)
    if translate is not None:
        table = translate(table, benchmark, language, rejected if lists else None)
    text_language: Language = language if translate is None else "en"
    rows = records(table)
    read = records(as_vlmevalkit_reads(table)) if settings.missing_values == "vlmevalkit" else rows
    prompt_language = settings_for(benchmark, settings).prompt_language
    prompts = [word_row(benchmark, row, sentences, text_language, prompt_language) for row in read]
    kept = table.drop(columns="image").assign(image_sha256=[image_id(image) for image in table["image"]])
    by_index = {row["index"]: row for row in rows}
    generation = GenerationSettings(**benchmark.generation.model_dump())
    made = []
    for control in controls:
        lacking = without_control(table, control)
        left_out = list(rejected)
        reject(lacking, path, left_out if lists else None)
        if len(lacking) == len(rows):
            raise UserError(f"{path}: all {len(left_out)} rows are rejected; the first: {left_out[0]}")
        is_predicted = ~table.index.isin([row.place for row in lacking])
        items = [
            _item(row, prompt, control, by_index, path, generation, text_language)
            for row, prompt, one in zip(rows, prompts, is_predicted, strict=True)
            if one
        ]
        file = prediction_file(output, path.name, control)
        made.append(PredictionTable(file, path, language, control, kept[is_predicted], items, left_out))
    return made


def _item(
    row: Mapping[str, str],
    prompt: str,
    control: Control,
    by_index: Mapping[str, Mapping[str, str]],
    path: Path,
    generation: GenerationSettings,
    language: Language,
) -> Item:
    if control == "text":
        return Item(f"{row['image_text']}\n{prompt}", (), f"{path}: row {row['index']}", generation, language)
    shown = by_index[row["shuffled"]] if control == "shuffled" else row
    where = f"{path}: row {shown['index']}"
    return Item(f"{IMAGE_TOKEN}\n{prompt}", (shown["image"],), where, generation, language)


@dataclass(frozen=True)
class Shard:
    """Some images, each once, and the batches of all items about them, as places among the items."""

    images: list[str]
    batches: list[list[int]]


def shards(
    items: Sequence[Item], lengths: Sequence[int], batch: int, images_at_once: int, processes: int = 1
) -> list[list[Shard]]:
    """Deal items out: the shards of each of `processes`, to be predicted one after the other.

    All items about an image are in one shard, so that it is encoded once whatever the languages, rotations and
    controls; a shard holds about `images_at_once` images, whose encodings have to fit into memory. Shards cost about
    the same, in prompt (`lengths`) and generated tokens: items about one image go, costliest first, to the shard that
    is cheapest so far. Items of several images stand for the first of them.
    """
    about: dict[str | int, list[int]] = {}
    for place, item in enumerate(items):
        about.setdefault(item.images[0] if item.images else place, []).append(place)
    costs = {key: sum(lengths[p] + items[p].generation.max_new_tokens for p in places) for key, places in about.items()}
    images = sum(isinstance(key, str) for key in about)
    count = processes * max(1, -(-images // (images_at_once * processes)))
    cheapest = [(0, number) for number in range(count)]
    members: list[list[str | int]] = [[] for _ in range(count)]
    for key in sorted(about, key=lambda key: costs[key], reverse=True):
        cost, number = heapq.heappop(cheapest)
        members[number].append(key)
        heapq.heappush(cheapest, (cost + costs[key], number))
    order = {key: number for number, key in enumerate(about)}
    made = [_shard(sorted(keys, key=order.__getitem__), about, items, lengths, batch) for keys in members]
    return [made[process::processes] for process in range(processes)]


def _shard(
    keys: list[str | int],
    about: Mapping[str | int, list[int]],
    items: Sequence[Item],
    lengths: Sequence[int],
    batch: int,
) -> Shard:
    places = sorted(place for key in keys for place in about[key])
    images = dict.fromkeys(image for key in keys for place in about[key] for image in items[place].images)
    return Shard(list(images), list(_batches(places, items, lengths, batch)))


def _batches(places: list[int], items: Sequence[Item], lengths: Sequence[int], batch: int) -> Iterator[list[int]]:
    """Items to predict together: of as many images and the same settings, lengths close; longest first."""
    kinds: dict[tuple[int, GenerationSettings], list[int]] = {}
    for place in places:
        kinds.setdefault((len(items[place].images), items[place].generation), []).append(place)
    for alike in kinds.values():
        alike.sort(key=lambda place: lengths[place], reverse=True)
        for start in range(0, len(alike), batch):
            yield alike[start : start + batch]
