"""The benchmark of `tests/bench` compares like with like, and runs; its figures are not tested."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import prediction
from evaluation import counted, made_up, released_way
from gpu import measure
from mix import INSTRUCTIONS, draw
from settings import on_processor
from steps import Runner, interleaved
from subjects import (
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
from variants import padded_and_packed


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


def test_llava_s_samples_with_a_picture_are_as_long_as_its_file_says():
    llava = {name: INSTRUCTIONS[name] for name in list(INSTRUCTIONS)[:10]}
    lengths = [sample.text for sample in draw(llava, 10_000, 577, 2048) if sample.pictures]
    assert sum(lengths) / len(lengths) == pytest.approx(200, rel=0.1)
