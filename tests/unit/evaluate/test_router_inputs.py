"""What the router reads besides a sample's own prompt, from data sets and benchmarks to the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from parrot.config.hardware import TrainingHardware
from parrot.config.settings import ExpertSettings
from parrot.config.stages import AlignSettings
from parrot.constants import PAPER_LANGUAGES
from parrot.data.collate import Collator, with_partners
from parrot.data.conversations import load
from parrot.model.build import build
from parrot.train.stages import align, tune
from tests.bench.asking import answer_questions
from tests.helpers.tiny_questions import image, item
from tests.helpers.tiny_training import tune_settings, write_backbones, write_set

STEPS = 3
ROUTERS = [{"router": router} for router in ("uniform", "shuffled_text", "language", "image")]
KINDS = [*ROUTERS, {"router_text": "user"}, {"top_k": 1}, {"router_balance": 0.1}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routers")
    write_backbones(folder)
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path):
    """Stage-2 settings on two languages, stage 1 being done; a function of the experts and of recipe fields."""
    sets = tuple(write_set(folder, name, language=name) for name in ("en", "zh"))
    made = tune_settings(folder, sets, sets[:1], max_steps=STEPS, eval_steps=STEPS)
    stage1 = {name: getattr(made, name) for name in ("seed", "vision_tower", "language_model", "projector")}
    stage1 |= {name: getattr(made, name) for name in ("vision_feature_layer", "vision_feature_select")}
    align(
        AlignSettings(**stage1, data=sets, recipe=made.recipe),
        folder / "align",
        folder / "work",
        TrainingHardware(micro_batch=8),
    )

    def change(experts: dict, recipe: dict):
        fields = {"num_experts": 2, "expert_intermediate_size": 8} | experts
        return made.model_copy(
            update={"experts": ExpertSettings(**fields), "recipe": made.recipe.model_copy(update=recipe)}
        )

    return change


def losses(folder: Path) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_router_trains_whatever_the_micro_batch_and_packing(folder, settings, tmp_path, kind):
    ways = {"whole": (8, {}), "parts": (2, {}), "packed": (4, {"packing": True})}
    if kind == {"router_balance": 0.1}:
        ways = {"whole": (8, {}), "packed": (8, {"packing": True})}  # the balance is one of each micro-batch
    for name, (micro_batch, recipe) in ways.items():
        hardware = TrainingHardware(micro_batch=micro_batch)
        tune(settings(kind, recipe), folder / "align/projector", tmp_path / name, tmp_path / "work", hardware)
    first, *others = [losses(tmp_path / name) for name in ways]
    assert len(first) == STEPS
    for other in others:
        assert other == pytest.approx(first, rel=1e-4)


def test_kinds_differ(folder, settings, tmp_path):
    seen = {}
    for kind in ({}, *(kind for kind in ROUTERS if kind != {"router": "shuffled_text"})):  # all prompts are alike here
        out = tmp_path / str(len(seen))
        tune(settings(kind, {}), folder / "align/projector", out, tmp_path / "work", TrainingHardware(micro_batch=8))
        seen[str(kind)] = tuple(losses(out))
    assert len(set(seen.values())) == len(seen)


def test_partners_are_others(folder, settings):
    _, processor = build(settings({}, {}))
    rows = load(settings({}, {}).data, processor, folder / "cache", 512)
    paired = with_partners(rows, len(rows), seed=1)
    partners = np.array(paired["partner"])
    assert (partners != np.arange(len(rows))).all()
    assert set(partners) <= set(range(len(rows)))
    assert len(set(partners)) > len(rows) // 3
    assert paired["partner"] == with_partners(rows, len(rows), seed=1)["partner"]
    row = next(row for row in paired if row["image"])
    batch = Collator(processor, "shuffled_text", 512, rows=paired)([row])
    other = paired[row["partner"]]
    prompt = [
        token
        for token, label in zip(other["input_ids"], other["labels"], strict=True)
        if label == -100 and token != processor.image_token_id
    ]
    assert batch["router_input_ids"].tolist() == [prompt]
    assert batch["language_ids"].tolist() == [PAPER_LANGUAGES.index(row["language"])]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_answers_do_not_depend_on_the_batch(settings, kind):
    model, processor = build(settings(kind, {}))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.3)

    questions = [
        item("<image>\n" + "what? " * (1 + n % 3), image(("red", "blue")[n % 2]), "here", 4, ("en", "zh")[n % 2])
        for n in range(6)
    ]
    questions.insert(2, item("no image", None, "here", 4, "en"))
    alone, together = (answer_questions(model, processor, questions, batch) for batch in (1, 4))
    assert [answer.tokens for answer in alone] == [answer.tokens for answer in together]
    np.testing.assert_allclose(
        [a.router_weights for a in alone if a.router_weights],
        [a.router_weights for a in together if a.router_weights],
        rtol=1e-5,
    )
    assert sum(bool(answer.router_weights) for answer in together) == 6
