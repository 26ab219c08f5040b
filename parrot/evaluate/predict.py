"""`parrot predict`: a model's answers to all benchmarks, languages and controls of a run, in one job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parrot.config import LANGUAGES
from parrot.evaluate.generate import Answer, generate, use_accelerator
from parrot.evaluate.progress import Progress
from parrot.evaluate.questions import Question, Sheet, read_sheets
from parrot.evaluate.tsv import decode_picture, write_tsv
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor
from parrot.model.build import load
from parrot.runs import PredictSettings

ROUTER_DECIMALS = 6


def predict(
    settings: PredictSettings,
    model: str | Path | tuple[ParrotForConditionalGeneration, ParrotProcessor],
    output: Path,
    batch: int,
) -> None:
    """Ask `model` (a run's model folder, or a model and its processor), `batch` questions at a time.

    Writes ``{benchmark file}.tsv`` and ``{benchmark file}.{control}.tsv`` into `output`: the benchmark's columns
    without the image, in its row order, then picture, prediction, prompt_sha256, stop_reason and router_weights.
    Nothing is written before everything is answered. ConfigError for a model folder without weights, and for a
    benchmark that is malformed or holds an unreadable picture.
    """
    sheets = read_sheets(settings, output)
    network, processor = model if isinstance(model, tuple) else load(model)
    questions = [question for sheet in sheets for question in sheet.questions]
    with Progress(len(questions)) as progress:
        answers = iter(answer_questions(use_accelerator(network), processor, questions, batch, progress.add))
    output.mkdir(parents=True, exist_ok=True)
    for sheet in sheets:
        _write(sheet, processor, list(islice(answers, len(sheet.questions))))


def answer_questions(
    model: ParrotForConditionalGeneration,
    processor: ParrotProcessor,
    questions: Sequence[Question],
    batch: int,
    report: Callable[[int], object] = lambda answered: None,
) -> list[Answer]:
    """Answers to `questions`, in their order; `report` is told of every batch how many it answered.

    They are batched with others of about their length, whatever benchmark, language or control they are of, and
    every distinct picture is encoded once.
    """
    prompts = [np.array(processor.encode(processor.format_prompt(q.query)), dtype=np.int32) for q in questions]
    texts = _router_texts(model.config.router, processor, questions, prompts)
    languages = [LANGUAGES.index(question.language) for question in questions]
    features, position = encode_pictures(model, processor, questions, batch)
    answers = [Answer() for _ in questions]
    for places in _batches(questions, prompts, batch):
        pictures = [position[picture] for place in places if (picture := questions[place].picture) is not None]
        batch_answers = generate(
            model,
            [prompts[place] for place in places],
            features[pictures].to(model.device) if pictures else None,
            questions[places[0]].max_new_tokens,
            [texts[place] for place in places] if texts and pictures else None,
            [languages[place] for place in places] if pictures else None,
        )
        for place, answer in zip(places, batch_answers, strict=True):
            answers[place] = answer
        report(len(places))
    return answers


def _router_texts(
    router: str, processor: ParrotProcessor, questions: Sequence[Question], prompts: Sequence[np.ndarray]
) -> list[np.ndarray] | None:
    """What the router reads for each question; None where that is the prompt.

    The router `shuffled_text` reads the prompt of another question with a picture, of whatever language: each one is
    read once, by the fixed seed 0.
    """
    if router != "shuffled_text" and processor.router_text == "prompt":
        return None
    texts = [prompt[processor.router_reads(prompt.tolist())] for prompt in prompts]
    if router == "shuffled_text":
        pictured = [place for place, question in enumerate(questions) if question.picture is not None]
        order = np.random.default_rng(0).permutation(pictured)
        partner = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        texts = [texts[partner.get(place, place)] for place in range(len(texts))]
    return texts


@torch.inference_mode()
def encode_pictures(
    model: ParrotForConditionalGeneration, processor: ParrotProcessor, questions: Iterable[Question], batch: int
) -> tuple[Tensor, dict[str, int]]:
    """The encoder's features (D, 1 + P, d_vision) of the D distinct pictures, and each picture's place among them.

    Pictures are the same where their base64 content is: over languages, rotations and the shuffled control.
    """
    where = {q.picture: q.where for q in questions if q.picture is not None}
    distinct = iter(where.items())
    parts = []
    while some := list(islice(distinct, batch)):
        pictures = [decode_picture(picture, place) for picture, place in some]
        pixels = processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        parts.append(model.encode_images(pixels.to(model.device)).cpu())
    features = torch.cat(parts) if parts else torch.empty(0)
    return features, {picture: place for place, picture in enumerate(where)}


def _batches(questions: Sequence[Question], prompts: Sequence[np.ndarray], batch: int) -> Iterator[list[int]]:
    """Places of questions to ask together: all with a picture or none, one limit, lengths close; longest first."""
    kinds: dict[tuple[bool, int], list[int]] = {}
    for place, question in enumerate(questions):
        kinds.setdefault((question.picture is None, question.max_new_tokens), []).append(place)
    for places in kinds.values():
        places.sort(key=lambda place: len(prompts[place]), reverse=True)
        for start in range(0, len(places), batch):
            yield places[start : start + batch]


def _write(sheet: Sheet, processor: ParrotProcessor, answers: Sequence[Answer]) -> None:
    texts = processor.tokenizer.batch_decode([answer.tokens for answer in answers], skip_special_tokens=True)
    prompts = [processor.format_prompt(question.query) for question in sheet.questions]
    table = sheet.table.assign(
        prediction=[text.strip() for text in texts],
        prompt_sha256=[hashlib.sha256(prompt.encode()).hexdigest() for prompt in prompts],
        stop_reason=[answer.stop_reason for answer in answers],
        router_weights=[json.dumps([round(w, ROUTER_DECIMALS) for w in answer.router_weights]) for answer in answers],
    )
    write_tsv(table, sheet.file)
