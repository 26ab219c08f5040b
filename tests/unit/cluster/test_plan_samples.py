"""How the plan counts data that is on this machine."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from parrot.cluster.plan.cost import Group, QuestionGroup, groups, question_groups
from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.catalog import ConversationEstimate, ConversationSet, SampleEstimate
from parrot.data.conversations import load
from parrot.data.tsv import write_tsv
from parrot.model.flops import Question, Sample
from tests.helpers.tiny_model import VISUAL_TOKENS, tiny_processor
from tests.helpers.tiny_training import write_set

ESTIMATE = ConversationEstimate(groups=(SampleEstimate(samples=9, text=70, supervised=30),), source="made up")


@pytest.fixture
def written(tmp_path: Path) -> ConversationSet:
    """Sixteen samples with an image and four without, and an estimate that nobody needs."""
    return write_set(tmp_path, "squares").model_copy(update={"estimate": ESTIMATE})


def mean(values) -> int:
    values = list(values)
    return round(sum(values) / len(values))


@pytest.mark.parametrize("max_length", [2048, 100])
def test_a_tokenised_set_is_counted(written: ConversationSet, tmp_path: Path, max_length: int):
    rows = load((written,), tiny_processor(), tmp_path / "cache", 2048).to_list()
    with_image = [row for row in rows if row["image"]]
    words = [row for row in rows if not row["image"]]
    found = groups(written, tmp_path / "cache", VISUAL_TOKENS, max_length)
    assert [group.samples for group in found] == [16, 4]
    for group, some, visual in zip(found, (with_image, words), (VISUAL_TOKENS, 0), strict=True):
        text = mean(min(row["length"], max_length) for row in some) - visual
        supervised = mean(sum(label != -100 for label in row["labels"]) for row in some)
        assert group.sample == Sample(text, text - supervised, supervised, int(visual > 0))


def test_an_estimate_stands_for_what_is_not_tokenised(written: ConversationSet, tmp_path: Path):
    assert groups(written, tmp_path / "cache", VISUAL_TOKENS, 2048) == [Group(9, Sample(70, 40, 30))]


def test_a_json_file_is_read_where_there_is_no_estimate(written: ConversationSet, tmp_path: Path):
    with_image, words = groups(write_set(tmp_path, "squares"), tmp_path / "cache", VISUAL_TOKENS, 2048)
    assert (with_image.samples, with_image.sample.images) == (16, 1)
    assert (words.samples, words.sample.images) == (4, 0)
    # 18 letters, one to eight question marks and an answer of one word, at three letters a token, and 25 of markers.
    assert 25 + 6 < words.sample.text < 25 + 13
    assert groups(written.model_copy(update={"file": "none.json", "estimate": None}), tmp_path, 1, 1) == []


def image(shade: int) -> str:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), shade).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def quiz(tmp_path: Path) -> Benchmark:
    """Six questions about three images in each of two languages, under three controls."""
    rows = [
        {"index": str(n), "question": "Which?" * 5, "A": "red", "B": "sky", "answer": "A", "category": "c"}
        | {"image": image(n % 3), "shuffled": str((n + 1) % 6), "image_text": "A square."}
        for n in range(6)
    ]
    for name in ("en", "cn"):
        write_tsv(pd.DataFrame(rows, dtype=str), tmp_path / f"quiz_{name}.tsv")
    return Benchmark(
        name="Quiz",
        folder=str(tmp_path),
        files={"en": "quiz_en.tsv", "zh": "quiz_cn.tsv"},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=8),
        controls=("none", "shuffled", "text"),
    )


def test_a_benchmark_on_disk_is_counted(quiz: Benchmark):
    text = 25 + 36 // 3
    shown, words = question_groups(quiz, ("none", "shuffled", "text"))
    assert shown == QuestionGroup(24, Question(text, 3), 3)
    assert words == QuestionGroup(12, Question(text, 3, images=0), 0)
    assert question_groups(quiz, ("none",)) == [QuestionGroup(12, Question(text, 3), 3)]


def test_controls_that_a_benchmark_lacks_ask_nothing(quiz: Benchmark):
    assert question_groups(quiz.model_copy(update={"controls": ("none",)}), ("text",)) == []
    assert question_groups(quiz.model_copy(update={"folder": "none"}), ("none",)) == []
