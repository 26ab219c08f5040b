"""Every strategy on two processes: what one process computes, kept and resumed, whoever dies of what."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from parrot.config.hardware import TrainingHardware
from parrot.config.settings import LoraSettings
from parrot.config.stages import TuneSettings
from parrot.model.checkpoint import load_parrot
from parrot.train.stages import tune
from tests.distributed.jobs import checkpoints, metrics, provenance, start, weights
from tests.helpers.tiny_training import align_settings, tune_settings, write_backbones, write_set

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

ALONE = TrainingHardware(micro_batch=4)
VARIANTS = {
    "full": {"eval_steps": 4},
    "lora": {"language_model": "lora", "lora": LoraSettings(rank=2, alpha=4, dropout=0.0), "packing": True},
    "frozen": {"language_model": "frozen", "gradient_checkpointing": True},
}


def by(strategy: str, micro_batch: int = 2, **fields: str) -> TrainingHardware:
    return TrainingHardware(micro_batch=micro_batch, strategy=strategy, **fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbones, and stage 1 by two ZeRO-2 processes in `folder`/aligned."""
    folder = tmp_path_factory.mktemp("distributed")
    write_backbones(folder)
    settings = align_settings(folder, (write_set(folder, "captions"),), max_steps=3)
    done = start(settings, folder, folder / "aligned", by("zero2"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def sets(folder: Path):
    """Training sets, a fifth of them text alone, and held-out sets of 11 and 4 batches of 2 for 2 processes."""
    tuned = write_set(folder, "sft_en"), write_set(folder, "sft_zh", "zh")
    return tuned, (write_set(folder, "val_en", count=21), write_set(folder, "val_zh", "zh", count=7))


@pytest.fixture(scope="module")
def alone(folder: Path, sets):
    """What one process makes of a variant: its settings and output folder."""
    made: dict[str, tuple[TuneSettings, Path]] = {}

    def of(variant: str) -> tuple[TuneSettings, Path]:
        if variant not in made:
            settings = tune_settings(folder, *sets, **VARIANTS[variant])
            output = folder / f"alone_{variant}"
            tune(settings, folder / "aligned/projector", output, folder / "alone.work", ALONE)
            made[variant] = settings, output
        return made[variant]

    return of


def assert_agree(ours: Path, theirs: Path) -> None:
    """The same losses, gradients, held-out losses and weights, rounding aside; all tensors, with shapes and dtypes."""
    rows, expected = metrics(ours), metrics(theirs)
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    found, wanted = weights(ours / "model"), weights(theirs / "model")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert (ours / "model/config.json").read_bytes() == (theirs / "model/config.json").read_bytes()
    load_parrot(ours / "model")


def test_stage_1_writes_the_projector_that_it_trained(folder):
    saved, facts = weights(folder / "aligned/projector"), provenance(folder / "aligned")
    assert {name: tuple(tensor.shape) for name, tensor in saved.items()} == {
        f"linear_{n}.{kind}": shape for n in (1, 2) for kind, shape in (("weight", (16, 16)), ("bias", (16,)))
    }
    assert (facts["processes"], facts["trained_parameters"]) == (2, 2 * (16 * 16 + 16))
    assert [row["step"] for row in metrics(folder / "aligned")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("strategy", "variant", "deed", "damaged", "resumed_from", "processes"),
    [
        ("ddp", "full", ("sigterm", 6, 1), None, 6, 1),
        ("zero2", "lora", ("sigkill", 8, 0), None, 5, 2),
        ("zero3", "full", ("sigterm", 6, 1), None, 6, 2),
        ("fsdp2", "frozen", ("sigkill", 11, 1), "checkpoint-10/shards/__1_0.distcp", 5, 1),
    ],
    ids=["ddp", "zero2", "zero3", "fsdp2"],
)
def test_stopped_and_resumed_equals_one_process(
    strategy, variant, deed, damaged, resumed_from, processes, folder, alone
):
    settings, expected = alone(variant)
    output = folder / strategy
    stopped = start(settings, folder, output, by(strategy), deed=deed)
    assert stopped.returncode != 0
    assert f"checkpoint-{resumed_from}" in checkpoints(output), stopped.stderr
    assert len(checkpoints(output)) <= 2
    if damaged:
        (share,) = output.with_name(f"{output.name}.work").glob(f"tune/*/{damaged}")
        share.write_bytes(share.read_bytes()[:-1] + b"?")
    done = start(settings, folder, output, by(strategy), processes)
    assert done.returncode == 0, done.stderr
    assert ("damaged; training resumes from checkpoint-5" in done.stderr) == bool(damaged)
    assert_agree(output, expected)
    facts = provenance(output)
    assert (facts["resumed_from_step"], facts["processes"]) == (resumed_from, processes)
    assert facts["projector_sha256"] == provenance(folder / "aligned")["projector_sha256"]
    assert facts["parameters"] == provenance(expected)["parameters"]
    assert facts["trained_parameters"] == provenance(expected)["trained_parameters"]
    assert not checkpoints(output)


@pytest.mark.parametrize("strategy", ["zero3", "fsdp2"])
def test_bfloat16_with_recomputed_activations_is_near_float32(strategy, folder, sets, alone):
    """The paper's stage 2: what is trained and the recorded loss keep float32's digits."""
    settings = tune_settings(folder, *sets, eval_steps=4, precision="bf16", gradient_checkpointing=True)
    output, (_, expected) = folder / f"{strategy}_bf16", alone("full")
    done = start(settings, folder, output, by(strategy))
    assert done.returncode == 0, done.stderr
    rows, wanted = metrics(output), metrics(expected)
    assert [row["step"] for row in rows] == [row["step"] for row in wanted]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses == pytest.approx([row["loss"] for row in wanted if "loss" in row], rel=0.05)
    coarse = [loss for loss in losses if loss == float(np.float16(loss))]
    assert not coarse, "sums of a few bfloat16 numbers fit into float16"
    assert {tensor.dtype for tensor in weights(output / "model").values()} == {torch.float32}
    load_parrot(output / "model")


def test_features_from_disk_and_another_strategy_in_the_way(folder, alone):
    """ZeRO-3 encodes its images before training; its checkpoints are refused by others, before anything is loaded."""
    settings, expected = alone("lora")
    output, hardware = folder / "disk", by("zero3", features="disk")
    stopped = start(settings, folder, output, hardware, deed=("sigterm", 2, 0))
    assert checkpoints(output) == {"checkpoint-2"}, stopped.stderr
    refused = start(settings, folder, output, by("zero3", 4), processes=1)
    assert refused.returncode == 1
    told = r"checkpoint-2: was saved by 2 processes with strategy zero3, found 1 with zero3; expected the same"
    assert re.search(told, refused.stderr)
    assert "Traceback" not in refused.stderr
    done = start(settings, folder, output, hardware)
    assert done.returncode == 0, done.stderr
    assert_agree(output, expected)


def test_out_of_memory_in_one_process_halves_the_next_attempt_of_all(folder, alone):
    settings, expected = alone("full")
    output = folder / "memory"
    stopped = start(settings, folder, output, by("zero3"), deed=("out_of_memory", 7, 1))
    told = (
        "hardware.tune.micro_batch: 2 ran out of GPU memory; the next attempt resumes from the latest checkpoint with 1"
    )
    assert told in stopped.stderr
    done = start(settings, folder, output, by("zero3"))
    assert done.returncode == 0, done.stderr
    assert_agree(output, expected)
    facts = provenance(output)
    assert (facts["resumed_from_step"], facts["hardware"]["micro_batch"]) == (5, 1)


def test_a_fault_that_the_first_process_finds_ends_the_waiting_ones_too(folder, sets):
    broken = write_set(folder, "broken")
    Path(broken.file).write_text('[{"id": 7}]')
    stopped = start(tune_settings(folder, (broken,)), folder, folder / "broken", by("ddp"))
    assert stopped.returncode == 1
    assert stopped.stderr.count(f"parrot: error: {broken.file}: sample 7: conversations: ") == 1


def test_a_bad_step_stops_all_processes_and_names_their_samples(folder, sets):
    settings = tune_settings(folder, *sets, save_steps=1)
    stopped = start(settings, folder, folder / "bad", by("zero2"), deed=("lose_weights", 3, "every"))
    assert stopped.returncode == 1
    found = re.search(
        r"step (\d+): the .* is .*; the batch's samples are (.*); the last good .*/checkpoint-(\d+)\n", stopped.stderr
    )
    assert found, stopped.stderr
    assert int(found[3]) == int(found[1]) - 1
    names = found[2].split(", ")
    known = {sample["id"] for entry in sets[0] for sample in json.loads(Path(entry.file).read_text())}
    assert set(names) <= known
    assert len(names) == 8  # the global batch: both processes' micro-batches
