"""Make a results folder of one scale: three runs' known predictions for eight items per image source and language."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration, Scoring
from parrot.config.catalog import Language, load_catalogue
from parrot.config.settings import Conventions
from parrot.config.stages import ScoreSettings
from parrot.constants import PAPER_LANGUAGES
from parrot.data.tsv import image_id, write_tsv
from parrot.evaluate.score import score
from parrot.report.settings import ReportedRun, ReportItem, ReportStage
from tests.helpers.tiny_manifest import sign

KEY = "0123456789ab"
NAMES = {
    "en": ["cat", "dog", "house", "tree", "fish", "bread", "clock", "ship"],
    "zh": ["猫", "狗", "房子", "树", "鱼", "面包", "时钟", "船"],
    "pt": ["gato", "cão", "casa", "árvore", "peixe", "pão", "relógio", "navio"],
    "ar": ["قطة", "كلب", "منزل", "شجرة", "سمكة", "خبز", "ساعة", "سفينة"],
    "tr": ["kedi", "köpek", "ev", "ağaç", "balık", "ekmek", "saat", "gemi"],
    "ru": ["кошка", "собака", "дом", "дерево", "рыба", "хлеб", "часы", "корабль"],
}
QUESTIONS = {
    "en": "What is in the picture?",
    "zh": "图片里是什么？",
    "pt": "O que há na imagem?",
    "ar": "ماذا يوجد في الصورة؟",
    "tr": "Resimde ne var?",
    "ru": "Что на картинке?",
}
IMAGE_SOURCES = ("twemoji", "openmoji")
# Run: how many of an image source's eight questions it answers right in English, and in every other language.
RIGHT = {"parrot": (8, 6), "no_experts": (8, 5), "english": (8, 2)}
COMMON: dict[str, Any] = {
    "stage1_key": KEY,
    "benchmarks": ("MMMB", "MMBench_dev"),
    "conventions": Conventions(),
    "seed": 0,
}
RUNS = (
    ReportedRun(name="parrot", languages=PAPER_LANGUAGES, num_experts=2, recipe_key="a", **COMMON),
    ReportedRun(name="no_experts", languages=PAPER_LANGUAGES, num_experts=0, recipe_key="b", **COMMON),
    ReportedRun(name="english", languages=("en",), num_experts=0, recipe_key="c", **COMMON),
)
ASKED = ReportedRun(
    name="asked",
    pretrained="some/model",
    languages=(),
    num_experts=0,
    recipe_key="d",
    **(COMMON | {"stage1_key": None}),
)
ROUTER = {"en": [0.75, 0.25], "zh": [0.5, 0.5], "pt": [0.5, 0.5], "ar": [0.4, 0.6], "tr": [0.5, 0.5], "ru": [0.5, 0.5]}


def make(root: Path) -> ReportStage:
    """Write benchmarks, predictions, scores and records below `root`; results are in ``root/results``."""
    for benchmark in benchmarks(root):
        for language in benchmark.files:
            _write_files(root, benchmark, language)
    for folder in (*(root / "results" / name for name in RIGHT), root / "results" / "align" / KEY):
        sign(folder / "predictions", *benchmarks(root))
    score_runs(root)
    for run in RUNS:
        write_records(root / "results" / run.name, stage2=True, samples=64 if run.languages == ("en",) else 192)
    write_records(root / "results" / "align" / KEY, stage2=False, samples=192)
    catalogue = load_catalogue("config/tables.yaml", ReportItem)
    made = {benchmark.name for benchmark in benchmarks(root)}
    return ReportStage(
        scale="tiny",
        seed=0,
        runs=RUNS,
        benchmarks=benchmarks(root),
        items={
            name: item for name, item in catalogue.items() if set(item.benchmarks) <= made and item.kind != "published"
        },
        context=catalogue["published"],
        samples=10,
        resamples=50,
        notes=("A note from the config.",),
    )


def score_runs(root: Path) -> None:
    """Grade the predictions of all runs and write their scores."""
    before = root / "results" / "align" / KEY / "predictions"
    for run in RUNS:
        settings = ScoreSettings(
            run=run.name,
            seed=0,
            benchmarks=benchmarks(root),
            controls=("none", "shuffled", "text"),
            matcher="current",
            prompt_language="dataset",
            resamples=50,
        )
        folder = root / "results" / run.name
        score(settings, folder / "predictions", before if run is RUNS[0] else None, folder / "scores.csv")


def add_asked(root: Path) -> None:
    """The run `ASKED`, which trained nothing, with the answers of `english`."""
    folder = root / "results" / ASKED.name
    shutil.copytree(root / "results/english/predictions", folder / "predictions")
    for name in ("scores.csv", "graded.csv"):
        text = (root / "results/english" / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("\nenglish,", f"\n{ASKED.name},"), encoding="utf-8")


def benchmarks(root: Path) -> tuple[Benchmark, ...]:
    return _benchmark(root, "MMMB", "vanilla"), _benchmark(root, "MMBench_dev", "circular")


def score_files(root: Path) -> list[Path]:
    return [root / "results" / run.name / "scores.csv" for run in RUNS]


def _benchmark(root: Path, name: str, scoring: Scoring) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"tiny-{name}",
        folder=str(root / "benchmarks"),
        files={language: f"{name}_{language}.tsv" for language in PAPER_LANGUAGES},
        instruction=dict.fromkeys(PAPER_LANGUAGES, "?"),
        scoring=scoring,
        generation=BenchmarkGeneration(max_new_tokens=8),
        controls=("none", "shuffled", "text") if scoring == "vanilla" else ("none",),
    )


def _write_files(root: Path, benchmark: Benchmark, language: Language) -> None:
    rows = [_row(language, image_source, number) for image_source in range(len(IMAGE_SOURCES)) for number in range(8)]
    write_tsv(pd.DataFrame(rows, dtype=str), Path(benchmark.folder) / benchmark.files[language])
    stem = Path(benchmark.files[language]).stem
    for run, (english, others) in RIGHT.items():
        folder = root / "results" / run / "predictions"
        right = english if language == "en" else others
        weights = json.dumps(ROUTER[language]) if run == "parrot" else ""
        _write_predictions(folder / f"{stem}.tsv", rows, language, right, weights)
        if benchmark.scoring == "vanilla":
            _write_predictions(folder / f"{stem}.shuffled.tsv", rows, language, 1, weights)
            _write_predictions(folder / f"{stem}.text.tsv", rows, language, 7, weights)
    before = root / "results" / "align" / KEY / "predictions"
    if benchmark.scoring == "vanilla":
        _write_predictions(before / f"{stem}.text.tsv", rows, language, 4, "")


def _row(language: str, image_source: int, number: int) -> dict[str, str]:
    names = [NAMES[language][(number + step) % 8] for step in range(4)]
    return {
        "index": str(10 * image_source + number),
        "question": QUESTIONS[language],
        "hint": "",
        **dict(zip("ABCD", names, strict=True)),
        "answer": "A",
        "category": "naming" if number < 4 else "fine_naming",
        "l2-category": "recognition",
        "split": "test",
        "image": _image(image_source, number),
        "shuffled": str(10 * image_source + (number + 1) % 8),
        "image_source": IMAGE_SOURCES[image_source],
        "difficulty": "easy" if number % 2 else "hard",
        "concept": NAMES["en"][number],
        "image_text": names[0],
        "unseen_in_language": "1" if number == 7 and language != "en" else "0",
        "answer_names": json.dumps({other: NAMES[other][number] for other in PAPER_LANGUAGES}),
    }


def _write_predictions(path: Path, rows: list[dict[str, str]], language: str, right: int, weights: str) -> None:
    told = []
    for row in rows:
        number = int(row["index"]) % 10
        # The last item of an image source, predicted wrong, is predicted in English: the right name, another language.
        wrong = NAMES["en"][number] if number == 7 and language != "en" else row["B"]
        told.append(
            {key: cell for key, cell in row.items() if key != "image"}
            | {
                "image_sha256": image_id(row["image"]),
                "prediction": row["A"] if number < right else wrong,
                "prompt_sha256": "0",
                "stop_reason": "eos",
                "router_weights": weights,
            }
        )
    write_tsv(pd.DataFrame(told, dtype=str), path)


def _image(image_source: int, number: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (48, 48), (30 * number, 120 * image_source + 40, 160)).save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


def write_records(folder: Path, stage2: bool, samples: int) -> None:
    """Four steps a second apart, held-out losses after the second and the last, and a provenance."""
    lines = []
    for step in range(1, 5):
        loss = {"loss": 4.0 / step, "lr": 0.001, "grad_norm": 1.0, "samples": 48 * step}
        lines.append({"step": step, **loss, "time": 1_700_000_000.0 + step})
        if stage2 and step % 2 == 0:
            held_out = {f"eval_loss_{language}": 3.0 / step for language in PAPER_LANGUAGES}
            lines.append({"step": step, **held_out, "time": 1_700_000_000.5 + step})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    provenance = {
        "stage": "tune" if stage2 else "align",
        "git_commit": "f" * 40,
        "git_dirty": False,
        "seed": 0,
        "samples": samples,
        "data_pins": {"data.dvc: data/mini": "d" * 32},
        "packages": {"torch": "2.13.0"},
        "wall_seconds": 83.0,
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
