"""What mini_mmmb_tr.yaml calls: images, prompts and hits as `parrot predict` and `parrot score` have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import load_catalogue
from parrot.data.tsv import LETTERS, decode_rgb, options
from parrot.evaluate.matching import infer
from parrot.evaluate.prompts import build_prompt

CATALOGUE = Path(__file__).parents[2] / "config" / "benchmarks.yaml"
SENTENCES = load_catalogue(CATALOGUE, Benchmark)["mini_mmmb"].instruction


def images(row: Mapping[str, str]) -> list[Image.Image]:
    return [decode_rgb(row["image"], f"row {row['index']}")]


def prompt(row: Mapping[str, object]) -> str:
    return build_prompt(_texts(row), SENTENCES, "tr")


def result(row: Mapping[str, object], answers: list[str]) -> dict[str, float]:
    return {"accuracy": float(infer(answers[0], options(_texts(row))) == row["answer"])}


def _texts(row: Mapping[str, object]) -> dict[str, str]:
    return {name: str(row[name]) for name in ("question", "hint", *LETTERS) if name in row}
