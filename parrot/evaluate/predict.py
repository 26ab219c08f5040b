"""`parrot predict`: a model's predictions for all benchmarks, languages and controls of a run, in one job."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from parrot.config.benchmarks import list_file
from parrot.config.catalog import BackboneFolder
from parrot.config.stages import PredictSettings
from parrot.config.staleness import code_of, key
from parrot.data.tsv import decode_image, write_list, write_tsv
from parrot.errors import UserError, one_line
from parrot.evaluate.items import PredictionTable, read_tables, shards
from parrot.evaluate.model_source import ModelSource
from parrot.evaluate.predictions import Predicted, benchmark_sha256, predicted, remove_manifest, write_manifest
from parrot.evaluate.predictor import Generation, GenerationSettings, Item, Predictor, Processor
from parrot.evaluate.translate import translate
from parrot.io.digests import append_line, read_lines
from parrot.io.files import atomic_write, check_folder, make_folder, read_json, real_path
from parrot.io.lock import exclusive_lock
from parrot.io.progress import Progress

ROUTER_DECIMALS = 6
ITEMS = "items.json"
Report = Callable[[int], object]


def predict(
    settings: PredictSettings, source: ModelSource, output: Path, work: Path, batch: int, processes: int = 1
) -> None:
    """Predict by the model of `source`, `batch` items at a time, in so many processes.

    Each process loads its own model, on a GPU of its own where there are any. Predictions are kept in `work` as they
    are made: killed at any moment, the job goes on at the batch it was at, and ends with the same files.

    Writes ``{benchmark file}.tsv`` and ``{benchmark file}.{control}.tsv`` into `output`: the benchmark's columns
    without the image, in its row order, then image_sha256, prediction, prompt_sha256, stop_reason and router_weights.
    Rows that a benchmark's entry lets be rejected are listed in ``{the same name}.rejected.tsv``. ``manifest.json``,
    which completes the folder, says what each file holds the predictions for (`parrot.evaluate.predictions`).
    Nothing is written there before everything is predicted.

    Raises:
        UserError: the model's folder is not whole, a benchmark is malformed or holds an unreadable image, or another
            process predicts the same in `work`.
    """
    check_folder(output)
    if isinstance(settings.translator, BackboneFolder):
        translate(settings, work, batch)
    tables = read_tables(settings, output, work)
    for table in tables:
        if real_path(table.file) == real_path(table.source):
            raise UserError(f"{output}: expected another folder for predictions than the benchmark's own")
    sources = {table.source: benchmark_sha256(table.source) for table in tables}
    items = [item for table in tables for item in table.items]
    predictor = source.load() if processes == 1 else None
    processor = source.load_processor() if predictor is None else predictor.processor
    model = source.sha256()
    folder = work / "predict" / f"{settings_key(settings)}-{_key(items, processor, model)}"
    with exclusive_lock(folder, "predicting"):
        with Progress(len(items)) as progress:
            progress.skip(len(PredictionCache(folder).generations))
            if predictor is not None:
                _predict_share(predictor, items, folder, batch, 0, 1, progress.add)
            else:
                write_items(items, folder / ITEMS)
                _in_processes(source, folder, batch, processes, progress.add)
        generations = PredictionCache(folder).generations
        make_folder(output)
        remove_manifest(output)
        places = iter(range(len(items)))
        files = {
            table.file.name: _write(
                table, sources[table.source], processor, [generations[next(places)] for _ in table.items]
            )
            for table in tables
        }
        write_manifest(output, model, files)
        shutil.rmtree(folder)


class PredictionCache:
    """The predictions under one folder, written by one process each into `{name}.jsonl`, read by all.

    A line is one batch: the items' places and their generations. Whoever is killed loses at most the batch at hand.
    """

    def __init__(self, folder: Path, name: str = "0"):
        make_folder(folder)
        self.folder = folder
        self.path = folder / f"{name}.jsonl"
        self.generations = self._read()

    def add(self, places: Sequence[int], generations: Sequence[Generation]) -> None:
        """Append a batch, on disk when this returns."""
        self.generations |= dict(zip(places, generations, strict=True))
        append_line(self.path, {"places": list(places), "generations": [asdict(each) for each in generations]})

    def _read(self) -> dict[int, Generation]:
        found: dict[int, Generation] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for batch in read_lines(path, mine=path == self.path):
                generations = (Generation(**each) for each in batch["generations"])
                found |= dict(zip(batch["places"], generations, strict=True))
        return found


def write_items(items: Sequence[Item], path: Path) -> None:
    """Write what a job predicts, for the processes that predict it: every image once."""
    images = list(dict.fromkeys(image for item in items for image in item.images))
    place = {image: number for number, image in enumerate(images)}
    rows = [asdict(item) | {"images": [place[image] for image in item.images]} for item in items]
    make_folder(path.parent)
    atomic_write(path, json.dumps({"images": images, "items": rows}))


def read_items(path: Path) -> list[Item]:
    """Read what `write_items` wrote."""
    content = read_json(path)
    images = content["images"]
    return [
        Item(
            **row
            | {
                "images": tuple(images[number] for number in row["images"]),
                "generation": GenerationSettings(**row["generation"]),
                "options": tuple(row["options"]),
            }
        )
        for row in content["items"]
    ]


def _predict_share(
    predictor: Predictor, items: Sequence[Item], folder: Path, batch: int, process: int, processes: int, report: Report
) -> None:
    """Predict what is this process's and not predicted yet."""
    cache = PredictionCache(folder, str(process))
    items = predictor.prepare(items)
    where = {image: item.where for item in items for image in item.images}
    for shard in shards(items, predictor.lengths(items), batch, predictor.images_at_once, processes)[process]:
        left = [places for places in shard.batches if not cache.generations.keys() >= set(places)]
        shown = {image for places in left for place in places for image in items[place].images}
        images = {image: partial(decode_image, image, where[image]) for image in shard.images if image in shown}
        predictor.encode_images(images, batch)
        for places in left:
            generations = predictor.generate([items[place] for place in places])
            report(sum(place not in cache.generations for place in places))
            cache.add(places, generations)


def _in_processes(source: ModelSource, folder: Path, batch: int, processes: int, report: Report) -> None:
    said = multiprocessing.get_context("spawn").Queue()
    arguments = (processes, source, folder, batch, said)
    # A terminal's Ctrl-C goes to all processes; this one ends the others.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    context = multiprocessing.spawn(_process, arguments, nprocs=processes, join=False)
    signal.signal(signal.SIGINT, handler)
    assert context is not None
    try:
        running = True
        while running:
            running = not context.join(timeout=1)
            while True:
                try:
                    message = said.get_nowait()
                except queue.Empty:
                    break
                if isinstance(message, str):
                    raise UserError(message)
                report(message)
    finally:
        for child in context.processes:
            child.terminate()
        for child in context.processes:
            child.join()


def _process(process: int, processes: int, source: ModelSource, folder: Path, batch: int, said: Any) -> None:
    parent = os.getppid()

    def report(count: int) -> None:
        if os.getppid() != parent:
            raise SystemExit(1)  # the parent was killed
        said.put(count)

    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(process % torch.cuda.device_count())
        _predict_share(source.load(), read_items(folder / ITEMS), folder, batch, process, processes, report)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        said.put(line)


def settings_key(settings: PredictSettings) -> str:
    """Digest of what predictions depend on that is known without model and items: the settings and the code.

    Unlike a checkpoint, a half-done prediction of other code is not gone on with: no record tells one program's rows
    from the other's in a file that is compared row by row, and it is hours that are lost, not days.
    """
    return key([settings.model_dump(mode="json"), code_of(settings)])


def _key(items: Sequence[Item], processor: Processor, model: str) -> str:
    """Digest of what else they depend on: prompts, images and the model."""
    digests = {image: hashlib.sha256(image.encode()).digest() for item in items for image in item.images}
    digest = hashlib.sha256()
    for item in items:
        prompt = processor.format_prompt(item.query)
        digest.update(hashlib.sha256(prompt.encode()).digest())
        for image in item.images:
            digest.update(digests[image])
    return key([digest.hexdigest(), model])


def _write(
    table: PredictionTable, source_sha256: str, processor: Processor, generations: Sequence[Generation]
) -> Predicted:
    """Write a prediction file and the list of its rejected rows; what the manifest says of it."""
    texts = processor.tokenizer.batch_decode([each.tokens for each in generations], skip_special_tokens=True)
    prompts = [processor.format_prompt(item.query) for item in table.items]
    written = table.table.assign(
        prediction=texts,
        prompt_sha256=[hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts],
        stop_reason=[each.stop_reason for each in generations],
        router_weights=[json.dumps([round(w, ROUTER_DECIMALS) for w in each.router_weights]) for each in generations],
    )
    write_tsv(written, table.file)
    listed = list_file(table.file)
    write_list(table.rejected, listed)
    if table.rejected:
        rows = len(table.rejected) + len(written)
        print(f"parrot: {table.file.name}: {len(table.rejected)} of {rows} rows rejected: {listed}", file=sys.stderr)
    return predicted(written, source_sha256, table.language, table.control, len(table.rejected))
