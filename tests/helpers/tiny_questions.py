"""Benchmark files of seven rows about three images of one colour each, and how prediction is to ask them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pandas as pd
from PIL import Image

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.stages import PredictSettings
from parrot.data.tsv import write_tsv
from parrot.evaluate.model_source import ModelSource
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predictor import GenerationSettings, Item
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor

COLOURS = ("red", "green", "blue")
LIMIT = 6


def image(colour: str) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def item(query: str, image: str | None, where: str = "here", limit: int = LIMIT, language: str = "en") -> Item:
    """An item of one base64 image, or of none."""
    return Item(query, () if image is None else (image,), where, GenerationSettings(limit), language)


def in_memory(built: tuple[ParrotForConditionalGeneration, ParrotProcessor]) -> ModelSource:
    """A model that is loaded already, as this process alone can predict by it."""
    return ModelSource((), lambda: ParrotPredictor(*built), lambda: built[1])


def rows(question: str) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "index": str(n),
                "question": question * (1 + n % 3),
                "hint": "None" if n == 4 else "",
                "A": "red",
                "B": "NA",
                "answer": "A",
                "image": image(COLOURS[n % 3]),
                "image_text": f"{COLOURS[n % 3]}.",
                "shuffled": str((n + 1) % 7),
            }
            for n in range(7)
        ],
        dtype=str,
    )


def predict_settings(folder: Path) -> PredictSettings:
    """49 questions about the files of two benchmarks, written into `folder`; 14 are without an image."""
    write_tsv(rows("Which colour?"), folder / "MMMB_en.tsv")
    write_tsv(rows("什么颜色？"), folder / "MMMB_cn.tsv")
    benchmark = Benchmark(
        name="MMMB",
        folder=str(folder),
        files={"en": "MMMB_en.tsv", "zh": "MMMB_cn.tsv"},
        instruction={"en": "Answer.", "zh": "请回答。"},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=LIMIT),
        controls=("none", "shuffled", "text"),
    )
    plain = benchmark.model_copy(update={"name": "plain", "files": {"en": "plain_en.tsv"}, "controls": ("none",)})
    write_tsv(rows("How many?").drop(columns=["image_text", "shuffled"]), folder / "plain_en.tsv")
    return PredictSettings(
        benchmarks=(benchmark, plain), controls=("none", "shuffled", "text"), prompt_language="dataset", dtype="fp32"
    )
