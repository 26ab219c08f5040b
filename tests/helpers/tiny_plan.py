"""Catalogues of a suite whose model can be reckoned by hand: one layer everywhere, a width of 4."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from parrot.cluster.jobs import Job
from parrot.config.settings import load_config, overlay
from parrot.config.suite import Suite

CONFIG = Path(__file__).parents[2] / "config/config.yaml"
VISION = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 2,  # the features are those of the first
    "num_attention_heads": 1,
    "image_size": 2,
    "patch_size": 1,  # 4 patches and the class token
}
TEXT = {
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 10,
}
OVER = {
    "scale": "tiny",
    "model": {"vision_tower": "eye", "language_model": "words", "num_experts": 0},
    "data": {
        "align": ["captions"],
        "languages": ["en", "zh"],
        "instructions": {"en": ["answers"], "zh": ["answers_zh"]},
        "validation": {"en": [], "zh": []},
    },
    "align": {"max_steps": None, "epochs": 1, "precision": "bf16", "gradient_checkpointing": True},
    "tune": {"max_steps": 3, "global_batch": 50},
    "evaluate": {"benchmarks": ["quiz"], "controls": ["none"]},
    "report": {"runs": ["parrot"], "tables": []},
    "hardware": {"gpus": 2, "nodes": 2},
}


def conversations(name: str, gigabytes: float, *groups: dict[str, int]) -> dict[str, Any]:
    estimate = {"groups": list(groups), "gigabytes": gigabytes, "source": "made up"}
    entry = {"kind": "conversations", "file": f"none/{name}.json", "images": f"none/{name}", "licence": ""}
    return {**entry, "source": "local", "estimate": estimate}


def backbone(shape: dict[str, int]) -> dict[str, Any]:
    return {"kind": "backbone", "path": "none/backbone", "licence": "", "source": "local", "shape": shape}


def tiny_suite(folder: Path, runs: str = "parrot: {}\nasked: {model: {hf: words}}\n", **over: Any) -> Suite:
    """Captions and answers of 7 text tokens each, some without an image; a quiz of 10 questions in two languages."""
    sample = {"text": 7, "supervised": 3}
    datasets = {
        "eye": backbone(VISION),
        "words": backbone(TEXT),
        "captions": conversations("captions", 2, {"samples": 100, **sample}),
        "answers": conversations("answers", 1, {"samples": 30, **sample}, {"samples": 10, "images": 0, **sample}),
        "answers_zh": conversations("answers_zh", 0, {"samples": 10, **sample}) | {"language": "zh"},
    }
    quiz = {"name": "Quiz", "folder": "none", "files": {"en": "q_en.tsv", "zh": "q_cn.tsv"}, "scoring": "vanilla"}
    estimate = {"rows": 10, "images": 5, "text": 6, "answer": 2, "source": "made up"}
    for name, content in (
        ("datasets", datasets),
        ("images", {}),
        ("benchmarks", {"quiz": {**quiz, "generation": {"max_new_tokens": 8}, "estimate": estimate}}),
        ("tables", {}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    (folder / "runs.yaml").write_text(runs)
    return Suite(overlay(overlay(load_config(CONFIG) | {"data": {}}, OVER), over), folder)


def tiny_jobs(suite: Suite, *runs: str) -> list[Job]:
    """The jobs of training and evaluating runs, none of them done."""
    found: dict[Job, None] = {}
    for run in runs:
        data, stage1 = Job("fetch", suite.run(run).data_key), Job("align", suite.run(run).stage1_key or "")
        tune, predict, score, browse = (Job(rule, run) for rule in ("tune", "predict", "score", "predictions_page"))
        shown, tracked = Job("by_target", run), Job("track_target", run)
        after = {data: (), stage1: (data,), tune: (data, stage1), predict: (tune, data), score: (predict,)}
        after |= {shown: (data, predict, score, tune), browse: (predict, data), tracked: (shown, score, browse, tune)}
        found |= dict.fromkeys(replace(job, after=before, reason="missing") for job, before in after.items())
    return list(found)
