"""`parrot.integrations.vlmeval` asks and answers as VLMEvalKit's Parrot wrapper does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from parrot.evaluate.predictor import Generation, Item
from parrot.integrations.vlmeval import Parrot, prepare_inputs


class Said:
    """Stands in for the model: predicts `text`, whose characters are its tokens."""

    text = ""

    @property
    def processor(self) -> Said:
        return self

    @property
    def tokenizer(self) -> Said:
        return self

    def encode_images(self, images: object, batch: int) -> None:
        assert not images

    def generate(self, items: list[Item]) -> list[Generation]:
        return [Generation([ord(character) for character in self.text]) for _ in items]

    def batch_decode(self, texts: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(map(chr, tokens)) for tokens in texts]


def read(golden: Path, name: str) -> object:
    return json.loads((golden / "eval" / name).read_text(encoding="utf-8"))


@pytest.fixture
def wrapper(monkeypatch: pytest.MonkeyPatch) -> Parrot:
    """Without a model, beside a VLMEvalKit that knows data sets' types and nothing else."""
    datasets = ModuleType("vlmeval.dataset")
    datasets.DATASET_TYPE = lambda name: {"MME": "Y/N", "LLaVABench": "VQA"}.get(name, "MCQ")
    monkeypatch.setitem(sys.modules, "vlmeval", ModuleType("vlmeval"))
    monkeypatch.setitem(sys.modules, "vlmeval.dataset", datasets)
    monkeypatch.setattr("parrot.integrations.vlmeval.load_predictor", lambda folder, dtype: Said())
    parrot = Parrot("no/such/folder")
    parrot.set_dump_image(lambda line: ["1.png", "2.png"][: line.get("images", 1)])
    return parrot


def test_multiple_choice_prompts(wrapper: Parrot, golden: Path) -> None:
    for case in read(golden, "prompts.json")["multi_choice"]:
        line = pd.Series({"index": 1, **case["row"]}, dtype=object)
        message = [{"type": "text", "value": case["prompt"]}, {"type": "image", "value": "1.png"}]
        assert wrapper.build_prompt(line, case["dataset"]) == message


def test_yes_no_prompts(wrapper: Parrot, golden: Path) -> None:
    for case in read(golden, "prompts.json")["yes_no"]:
        line = pd.Series({"index": 1, "question": case["question"], "images": 2})
        text, *images = wrapper.build_prompt(line, "MME")
        assert text == {"type": "text", "value": case["prompt"]}
        assert [image["value"] for image in images] == ["1.png", "2.png"]


def test_other_data_sets_word_their_own_prompts(wrapper: Parrot) -> None:
    assert [wrapper.use_custom_prompt(name) for name in ("MMMB_tr", "MME", "LLaVABench")] == [True, True, False]


def test_inputs(golden: Path) -> None:
    for case in read(golden, "prompts.json")["prepare_inputs"]:
        assert prepare_inputs(case["message"]) == (case["query"], case["image_paths"])


def test_postprocessed_answers(wrapper: Parrot, golden: Path) -> None:
    for case in read(golden, "postprocess.json"):
        wrapper.predictor.text = case["response"]
        assert wrapper.generate_inner([{"type": "text", "value": case["query"]}]) == case["answer"]
