"""`parrot predict`: a model's answers to all benchmarks, languages and controls of a run, in one job."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from parrot.config.catalog import BackboneFolder, list_file
from parrot.config.stages import PredictSettings
from parrot.config.staleness import code_of, key
from parrot.data.tsv import write_list, write_tsv
from parrot.errors import ConfigError, told
from parrot.evaluate.any_model import AnyModelAsker
from parrot.evaluate.asker import Asker
from parrot.evaluate.generate import Answer
from parrot.evaluate.journal import Journal
from parrot.evaluate.machine_translation import translate
from parrot.evaluate.predictions import Predicted, benchmark_sha256, predicted, remove_manifest, write_manifest
from parrot.evaluate.progress import Progress
from parrot.evaluate.questions import Question, Sheet, read_sheets
from parrot.evaluate.shares import shares
from parrot.io.files import check_folder, make_folder, real_path
from parrot.io.lock import only_one
from parrot.model import ParrotProcessor
from parrot.model.vlm import OwnWords

ROUTER_DECIMALS = 6
Words = ParrotProcessor | OwnWords
Built = tuple[Any, Words]
EitherAsker = Asker | AnyModelAsker
Report = Callable[[int], object]


def predict(
    settings: PredictSettings, build: Callable[[], Built], output: Path, work: Path, batch: int, processes: int = 1
) -> None:
    """Ask the model that `build` gives, `batch` questions at a time, in so many processes.

    Each process builds its own model, on a GPU of its own where there are any, so that `build` must be picklable if
    there is more than one. Answers are kept in `work` as they are given: killed at any moment, prediction goes on at
    the batch it was at, and ends with the same files.

    Writes ``{benchmark file}.tsv`` and ``{benchmark file}.{control}.tsv`` into `output`: the benchmark's columns
    without the image, in its row order, then picture, prediction, prompt_sha256, stop_reason and router_weights. Rows
    that a benchmark's entry lets be rejected are listed in ``{the same name}.rejected.tsv``. ``manifest.json``, which
    makes the folder whole, says what each file holds the answers to (`parrot.evaluate.predictions`).
    Nothing is written there before everything is answered. ConfigError for a model folder without weights, and for a
    benchmark that is malformed or holds an unreadable picture; also where another process asks the same in `work`.
    """
    check_folder(output)
    if isinstance(settings.translator, BackboneFolder):
        translate(settings, work, batch)
    sheets = read_sheets(settings, output, work)
    for sheet in sheets:
        if real_path(sheet.file) == real_path(sheet.source):
            raise ConfigError(f"{output}: expected another folder for predictions than the benchmark's own")
    sources = {sheet.source: benchmark_sha256(sheet.source) for sheet in sheets}
    questions = _questions(sheets)
    model, processor = build()
    weights = _weights_sha256(model)
    folder = work / "predict" / f"{settings_key(settings)}-{_key(questions, processor, weights)}"
    with only_one(folder, "predicting"):
        with Progress(len(questions)) as progress:
            progress.skip(len(Journal(folder).answers))
            if processes == 1:
                _ask_share(_asker((model, processor), questions), folder, batch, 0, 1, progress.add)
            else:
                del model
                _in_processes(settings, build, work, folder, batch, processes, progress.add)
        answers = Journal(folder).answers
        make_folder(output)
        remove_manifest(output)
        places = iter(range(len(questions)))
        files = {
            sheet.file.name: _write(
                sheet, sources[sheet.source], processor, [answers[next(places)] for _ in sheet.questions]
            )
            for sheet in sheets
        }
        write_manifest(output, weights, files)
        shutil.rmtree(folder)


def _asker(built: Built, questions: Sequence[Question]) -> EitherAsker:
    model, processor = built
    if isinstance(processor, OwnWords):
        return AnyModelAsker(model, processor, questions)
    return Asker(model, processor, questions)


def _ask_share(asker: EitherAsker, folder: Path, batch: int, process: int, processes: int, report: Report) -> None:
    """Ask what is this process's and not answered yet."""
    journal = Journal(folder, str(process))
    for share in shares(asker.questions, asker.lengths, batch, asker.pictures_at_once, processes)[process]:
        left = [places for places in share.batches if not journal.answers.keys() >= set(places)]
        shown = {asker.questions[place].picture for places in left for place in places}
        asker.see([picture for picture in share.pictures if picture in shown], batch)
        for places in left:
            answered = asker.ask(places)
            report(sum(place not in journal.answers for place in places))
            journal.add(places, answered)


def _in_processes(
    settings: PredictSettings,
    build: Callable[[], Built],
    work: Path,
    folder: Path,
    batch: int,
    processes: int,
    report: Report,
) -> None:
    said = multiprocessing.get_context("spawn").Queue()
    arguments = (processes, settings, build, work, folder, batch, said)
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
                    raise ConfigError(message)
                report(message)
    finally:
        for child in context.processes:
            child.terminate()
        for child in context.processes:
            child.join()


def _process(
    process: int,
    processes: int,
    settings: PredictSettings,
    build: Callable[[], Built],
    work: Path,
    folder: Path,
    batch: int,
    said: Any,
) -> None:
    parent = os.getppid()

    def report(questions: int) -> None:
        if os.getppid() != parent:
            raise SystemExit(1)  # the parent was killed
        said.put(questions)

    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(process % torch.cuda.device_count())
        questions = _questions(read_sheets(settings, Path(), work))
        _ask_share(_asker(build(), questions), folder, batch, process, processes, report)
    except Exception as error:
        line = told(error)
        if line is None:
            raise
        said.put(line)


def _questions(sheets: Sequence[Sheet]) -> list[Question]:
    return [question for sheet in sheets for question in sheet.questions]


def _weights_sha256(model: Any) -> str:
    weights = hashlib.sha256()
    for parameter in model.parameters():
        weights.update(parameter.detach().reshape(-1).view(torch.uint8).cpu().numpy())
    return weights.hexdigest()


def settings_key(settings: PredictSettings) -> str:
    """Digest of what answers depend on that is known without model and questions: the settings and the code.

    Unlike a checkpoint, a half-done prediction of other code is not gone on with: no record tells one program's rows
    from the other's in a file that is compared row by row, and it is hours that are lost, not days.
    """
    return key([settings.model_dump(mode="json"), code_of(settings)])


def _key(questions: Sequence[Question], processor: Words, weights: str) -> str:
    """Digest of what else they depend on: prompts, pictures and weights."""
    digests = {question.picture: hashlib.sha256((question.picture or "").encode()).digest() for question in questions}
    asked = hashlib.sha256()
    for question in questions:
        prompt = processor.format_prompt(question.query)
        asked.update(hashlib.sha256(prompt.encode()).digest() + digests[question.picture])
    return key([asked.hexdigest(), weights])


def _write(sheet: Sheet, source_sha256: str, processor: Words, answers: Sequence[Answer]) -> Predicted:
    """Write the prediction file of `sheet`, and the list of its rejected rows; what the manifest says of it."""
    texts = processor.tokenizer.batch_decode([answer.tokens for answer in answers], skip_special_tokens=True)
    prompts = [processor.format_prompt(question.query) for question in sheet.questions]
    table = sheet.table.assign(
        prediction=texts,
        prompt_sha256=[hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts],
        stop_reason=[answer.stop_reason for answer in answers],
        router_weights=[json.dumps([round(w, ROUTER_DECIMALS) for w in answer.router_weights]) for answer in answers],
    )
    write_tsv(table, sheet.file)
    listed = list_file(sheet.file)
    write_list(sheet.rejected, listed)
    if sheet.rejected:
        rows = len(sheet.rejected) + len(table)
        print(f"parrot: {sheet.file.name}: {len(sheet.rejected)} of {rows} rows rejected: {listed}", file=sys.stderr)
    return predicted(table, source_sha256, sheet.language, sheet.control, len(sheet.rejected))
