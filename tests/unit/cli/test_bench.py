"""The benchmark of `tests/bench` compares like with like, and runs; its figures are not tested."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from parrot.cluster.plan.facts import Facts, read_facts
from parrot.config.base import validate
from parrot.config.suite import Suite
from tests.bench import prediction, training
from tests.bench.calibration import entry
from tests.bench.evaluation import counted, made_up, released_way
from tests.bench.gpu import measure
from tests.bench.mix import INSTRUCTIONS, draw
from tests.bench.settings import CONFIGURED, on_gpu, on_processor
from tests.bench.steps import Result, Runner, interleaved
from tests.bench.subjects import (
    LLAVA,
    NO_EXPERTS,
    OURS,
    PLAIN,
    backward,
    batch,
    build,
    gradient_norm,
    operations,
    small,
    tiny,
)
from tests.bench.variants import padded_and_packed


@pytest.mark.parametrize(("ours", "other"), [(OURS, PLAIN), (NO_EXPERTS, LLAVA)])
def test_subjects_of_the_same_equations_agree(ours, other):
    size = tiny()
    results = []
    for name in (ours, other):
        model = build(name, size)
        results.append((backward(model, batch(size)).item(), gradient_norm(model)))
        assert not any(p.requires_grad for n, p in model.named_parameters() if "vision_tower" in n)
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_experts_make_a_difference():
    size = tiny()
    losses = [backward(build(name, size), batch(size)).item() for name in (OURS, NO_EXPERTS)]
    assert abs(losses[0] - losses[1]) > 1e-4


def test_packed_and_padded_batches_are_of_the_same_samples():
    size = tiny()
    padded, packed = padded_and_packed(size, [30, 61, 24])
    assert packed["input_ids"].shape == (1, 30 + 61 + 24 + 3 * 10)
    assert padded["input_ids"].shape == (3, 61 + 10)
    model = build(OURS, size)
    torch.testing.assert_close(backward(model, padded), backward(model, packed))


def test_operations_of_the_transcription_are_all_logits_and_one_more_encoder_layer():
    size = small(8_000)
    samples, length, supervised, width = 16, 145, 40, 256
    logits = 3 * 2 * (length - supervised) * width * 8_000
    layer = 2 * 65 * (4 * width**2 + 2 * width * 1024) + 2 * 2 * 65**2 * width
    assert operations(PLAIN, size) - operations(OURS, size) == samples * (logits + layer)


def test_the_gpu_s_steps_run_in_bfloat16():
    steps = [measure(name, tiny(), "sdpa", compiled=False, device="cpu", rounds=1) for name in (PLAIN, OURS)]
    torch.testing.assert_close(steps[0].result, steps[1].result, rtol=0.02, atol=0)


def test_operations_counted_are_those_of_products_and_attention():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    assert counted(lambda: a @ b) == 2 * 3 * 5 * 7
    tokens, heads, width = 6, 2, 8
    states = torch.ones(1, heads, tokens, width)
    attend = torch.nn.functional.scaled_dot_product_attention
    scores_and_values = 2 * (2 * heads * tokens * tokens * width)
    assert counted(lambda: attend(states, states, states, is_causal=True)) == scores_and_values


def test_prediction_at_the_papers_sizes_runs(capsys):
    size = tiny()
    size = replace(size, text=size.text | {"vocab_size": 9_000})
    prediction.run(
        {"tiny": size}, lambda processor: made_up(16, processor, 4), released_way, "cpu", batch=4, product_side=64
    )
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "way |" in line or "ours |" in line]
    ways = [row[:2] for row in rows if row[0] != "| dtype"]
    assert ways == [[f"| {dtype}", way] for dtype in ("float32", "bfloat16") for way in ("released way", "ours")]
    # In the same dtype both ways give the same answers.
    assert [row[-1] for row in rows if row[0] == "| float32"] == ["0 of 2 |", "0 of 16 |"]


def test_all_settings_of_a_training_step_give_the_same_loss(tmp_path):
    for job in on_processor(try_only=True):
        runners = [Runner(job, setting, "cpu", tmp_path) for setting in job.settings if not setting.workers]
        results = interleaved(runners, rounds=1)
        assert len(results) == 4
        for result in results:
            torch.testing.assert_close(result.loss, results[0].loss, rtol=1e-5, atol=0)
        padding = [result.padding for result in results]
        assert padding[0] > padding[1] > padding[2] == 0


def test_a_setting_that_fails_leaves_the_others_measured(tmp_path, monkeypatch):
    job = on_processor(try_only=True)[0]
    runners = [Runner(job, setting, "cpu", tmp_path) for setting in job.settings[:2]]
    monkeypatch.setattr(runners[0], "step", lambda wait: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    failed, measured = interleaved(runners, rounds=1)
    assert failed == "out of memory"
    assert measured.samples > 0


def test_llava_s_samples_with_an_image_are_as_long_as_its_file_says():
    llava = {name: INSTRUCTIONS[name] for name in list(INSTRUCTIONS)[:10]}
    lengths = [sample.text for sample in draw(llava, 10_000, 577, 2048) if sample.images]
    assert sum(lengths) / len(lengths) == pytest.approx(200, rel=0.1)


def test_the_plan_s_rates_are_of_what_the_paper_s_config_runs():
    config = Suite.load(("config/config.yaml", "config/paper.yaml")).config
    hardware = config.hardware
    for rule, recipe, stage in (("align", config.align, hardware.align), ("tune", config.tune, hardware.tune)):
        setting = CONFIGURED[rule]
        assert (setting.micro.size, setting.micro.packed) == (stage.micro_batch, recipe.packing)
        assert (setting.attention, setting.compile) == (stage.attention, stage.compile)
        assert (setting.checkpointing, setting.stored) == (recipe.gradient_checkpointing, stage.features == "disk")
        assert setting.workers == hardware.threads // hardware.gpus - 1  # what training leaves of a GPU's cores
        assert stage.workers is None
        assert (setting.shuffled, recipe.precision) == (False, "bf16")
        assert all(setting in job.settings for job in on_gpu(try_only=True) if job.rule == rule)


def test_a_step_of_the_paper_s_config_gives_the_same_loss(tmp_path):
    for job in on_gpu(try_only=True)[:2]:
        configured = replace(CONFIGURED[job.rule], workers=0)
        runners = [Runner(job, setting, "cpu", tmp_path) for setting in (job.settings[0], configured)]
        plain, ours = interleaved(runners, rounds=1)
        torch.testing.assert_close(ours.loss, plain.loss, rtol=0.02, atol=0)


def result(**fields) -> Result:
    made_up = Result(10.0, 4321.0, 4e14, 0.0, (1.0, 1.0, 1.0, 1.0), 0, torch.tensor(1.0), 2_000_000_000)
    return made_up._replace(**fields)


def test_the_fastest_settings_are_not_the_plan_s():
    job = on_gpu(try_only=True)[0]
    fastest = next(setting for setting in job.settings if setting.micro.packed)
    results = {fastest: result(operations=6e14), CONFIGURED["tune"]: result(), job.settings[0]: result(operations=1e14)}
    lines = "\n".join(["measured:", *entry(job, results, "NVIDIA A100-SXM4-80GB")])
    facts = yaml.safe_load(Path("config/plan.yaml").read_text(encoding="utf-8"))
    (measured,) = validate(Facts, facts | yaml.safe_load(lines), "here").measured
    assert (measured.device, measured.rule, measured.rate, measured.parameters) == ("a100", "tune", 400, 2)
    assert "micro-batch 4, as config/paper.yaml but on one GPU, without DeepSpeed" in measured.sizes
    del results[CONFIGURED["tune"]]
    assert entry(job, results, "NVIDIA H200") == [
        "  # Stage 2, Qwen1.5-1.8B: the settings as config/paper.yaml has them did not run"
    ]
    assert entry(job, results, "K80") == ["  # Stage 2, Qwen1.5-1.8B: K80 is none of the devices above"]


@pytest.mark.parametrize(
    ("name", "device"),
    [("NVIDIA GeForce RTX 4090", "rtx4090"), ("Tesla V100-SXM2-32GB", "v100"), ("NVIDIA H100 80GB HBM3", "h100")],
)
def test_devices_by_the_driver_s_names(name, device):
    assert read_facts().device(name) == device


def test_nothing_is_compared_with_plain_settings_that_did_not_run():
    fast = result(samples=20.0)
    assert training.cells(fast, result(), 1e15).startswith("20.0 | 4321 | 2.00 | 0.0 | 25.0 | ")
    assert training.cells(fast, None, 1e15).startswith("20.0 | 4321 |  | 0.0 | 25.0 | ")
