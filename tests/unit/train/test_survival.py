"""What training does when something goes wrong: memory, signals, bad steps, other hardware."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import TrainingArguments

from parrot.config.hardware import TrainingHardware
from parrot.config.staleness import code_of
from parrot.errors import UserError, one_line
from parrot.train import stages, trainer
from parrot.train.callbacks import non_finite_samples, step_fault
from parrot.train.checkpoints import check_parallelism, mark_complete
from parrot.train.memory import record_out_of_memory, reduced_micro_batch
from parrot.train.stages import align
from parrot.train.strategy import training_arguments
from tests.helpers.tiny_runs import at_step, interrupt, metrics, sigterm
from tests.helpers.tiny_training import align_settings, write_backbones, write_set

BY_4 = TrainingHardware(micro_batch=4)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("survival")
    write_backbones(folder)
    return align_settings(folder, (write_set(folder, "captions"),), max_steps=6, save_steps=2)


@pytest.fixture(scope="module")
def aligned(settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aligned")
    align(settings, folder / "run", folder / "work", BY_4)
    return folder / "run"


# --- memory ----------------------------------------------------------------------------------------------------------


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_halves_the_next_attempt_which_goes_on(settings, aligned, tmp_path, monkeypatch, capsys):
    arguments = (settings, tmp_path / "run", tmp_path / "work", BY_4)
    with monkeypatch.context() as patch:
        at_step(patch, 4, out_of_memory)
        told = r"^hardware\.align\.micro_batch: 4 ran out of GPU memory; the next attempt resumes .* checkpoint with 2$"
        with pytest.raises(UserError, match=told):
            align(*arguments)
    align(*arguments)
    assert "align: micro_batch 2 in place of 4, which ran out of GPU memory" in capsys.readouterr().err
    facts = json.loads((tmp_path / "run/provenance.json").read_text())
    assert (facts["hardware"]["micro_batch"], facts["resumed_from_step"]) == (2, 2)
    for ours, theirs in zip(metrics(tmp_path / "run"), metrics(aligned), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_halves_divide_a_process_share_and_end_at_one(tmp_path):
    by_12 = TrainingHardware(micro_batch=12)
    record_out_of_memory(tmp_path, by_12, 2, 24, "tune")
    assert reduced_micro_batch(tmp_path, by_12, 2, "tune").micro_batch == 6
    record_out_of_memory(
        tmp_path, TrainingHardware(micro_batch=5), 2, 30, "tune"
    )  # 15 a process: of 2 and 1, only 1 divides it
    assert reduced_micro_batch(tmp_path, TrainingHardware(micro_batch=5), 2, "tune").micro_batch == 1
    (tmp_path / "out_of_memory.json").unlink()
    error = record_out_of_memory(tmp_path, TrainingHardware(micro_batch=1), 2, 24, "tune")
    assert "1 ran out of GPU memory; expected another strategy, offload" in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("processes", "changed"), [(4, {}), (2, {"strategy": "zero2"}), (2, {"micro_batch": 1}), (2, {"compile": True})]
)
def test_other_hardware_keeps_its_micro_batch(processes, changed, tmp_path):
    record_out_of_memory(tmp_path, BY_4, 2, 24, "tune")
    other = BY_4.model_copy(update=changed)
    assert reduced_micro_batch(tmp_path, other, processes, "tune") == other


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["build", "load", "_write"])
def test_sigterm_outside_of_training_ends_at_once_and_loses_nothing(
    moment, settings, aligned, tmp_path, monkeypatch, capsys
):
    arguments = (settings, tmp_path / "run", tmp_path / "work", BY_4)
    requeued = []
    with monkeypatch.context() as patch:
        patch.setattr(stages, "requeue", lambda: requeued.append(moment))
        original = getattr(stages, moment)

        def interrupted(*given):
            sigterm()
            return original(*given)

        patch.setattr(stages, moment, interrupted)
        with pytest.raises(SystemExit) as stopped:
            align(*arguments)
    assert stopped.value.code == 143
    assert requeued == [moment]
    assert not list(tmp_path.rglob("*partial*"))
    assert not (tmp_path / "run/projector").exists()
    align(*arguments)
    resumed_from = json.loads((tmp_path / "run/provenance.json").read_text())["resumed_from_step"]
    assert resumed_from == (6 if moment == "_write" else None)
    assert metrics(tmp_path / "run") == metrics(aligned)
    saved = "projector/model.safetensors"
    assert (tmp_path / "run" / saved).read_bytes() == (aligned / saved).read_bytes()


# --- bad steps -------------------------------------------------------------------------------------------------------


EXPLODED = "the gradient's norm is 501 and that of the steps before 5"


def steps(*norms: float) -> list[dict[str, float]]:
    return [{"loss": 1.0, "grad_norm": norm} for norm in norms]


@pytest.mark.parametrize(
    ("step", "before", "found"),
    [
        ({"loss": math.nan, "grad_norm": 1.0}, [], "the loss is nan"),
        ({"loss": math.inf, "grad_norm": 1.0}, [], "the loss is inf"),
        ({"loss": 1.0, "grad_norm": math.inf}, [], "the gradient's norm is inf"),
        ({"loss": 1.0, "grad_norm": -1.0}, [], "the gradient's norm is -1.0"),
        ({"loss": 1.0, "grad_norm": 501.0}, steps(*[5.0] * 10), EXPLODED),
        ({"loss": 1.0, "grad_norm": 499.0}, steps(*[5.0] * 10), None),
        ({"loss": 1.0, "grad_norm": 501.0}, steps(*[5.0] * 9), None),  # too few to know what is usual
        ({"loss": 1.0, "grad_norm": 90.0}, steps(*[0.01] * 50), None),  # clipping to 1 takes care of it
        ({"loss": 1.0, "grad_norm": 501.0}, steps(*[900.0] * 101, *[5.0] * 100), EXPLODED),
        ({"loss": 1.0, "grad_norm": 501.0}, [*steps(*[5.0] * 9), {"eval_loss_en": 2.0}], None),
    ],
)
def test_a_step_is_bad_by_its_loss_and_its_gradient(step, before, found):
    assert step_fault(step, before, clipped_at=1.0) == found


def test_the_samples_of_a_broken_micro_batch_are_named_else_all():
    fine, broken = torch.tensor(1.0), torch.tensor(math.nan)
    assert non_finite_samples([(fine, ["a", "b"]), (broken, ["c", "d"])]) == ["c", "d"]
    assert non_finite_samples([(fine, ["a", "b"]), (fine, ["c", "d"])]) == ["a", "b", "c", "d"]


# --- hardware --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "here", "fits"),
    [
        (("ddp", 2), ("ddp", 1), True),
        (("fsdp2", 2), ("fsdp2", 8), True),
        (("zero3", 2), ("zero3", 2), True),
        (("zero3", 2), ("zero3", 4), False),
        (("zero2", 2), ("zero3", 2), False),
        (("ddp", 2), ("zero2", 2), False),
    ],
)
def test_a_checkpoint_knows_who_can_load_it(saved, here, fits, tmp_path):
    mark_complete(tmp_path, *saved, files={})
    if fits:
        check_parallelism(tmp_path, *here)
        return
    told = f"was saved by {saved[1]} processes with strategy {saved[0]}, found {here[1]} with {here[0]}"
    with pytest.raises(UserError, match=told):
        check_parallelism(tmp_path, *here)


@pytest.mark.parametrize(
    ("strategy", "offload", "needed"),
    [("ddp", "optimizer", "zero2 or zero3"), ("fsdp2", "optimizer", "zero2 or zero3"), ("zero2", "all", "zero3")],
)
def test_offload_that_a_strategy_cannot_do_is_refused(strategy, offload, needed):
    with pytest.raises(ValueError, match=f"offload: {offload} needs strategy {needed}, found {strategy}"):
        TrainingHardware(micro_batch=1, strategy=strategy, offload=offload)


def test_a_process_that_sees_several_gpus_trains_on_one(settings, tmp_path, monkeypatch):
    found = TrainingArguments.__post_init__

    def find_two(self):
        found(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", find_two)
    assert training_arguments(settings.recipe, BY_4, 0, 1, tmp_path).train_batch_size == BY_4.micro_batch


def test_a_strategy_for_several_processes_is_refused_in_one(settings, tmp_path):
    hardware = TrainingHardware(micro_batch=4, strategy="zero2")
    with pytest.raises(UserError, match=r"^hardware\.align\.strategy: zero2 is for processes that `parrot launch"):
        align(settings, tmp_path / "run", tmp_path / "work", hardware)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_and_the_next_start_goes_on(settings, aligned, tmp_path, monkeypatch, capsys):
    interrupts = [interrupt]  # one, though the step has two micro-batches
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: interrupts and interrupts.pop()())
        with pytest.raises(SystemExit) as stopped:
            align(settings, tmp_path / "run", tmp_path / "work", BY_4)
    assert stopped.value.code == 130
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "interrupted" in line]
    assert line == "parrot: interrupted; a checkpoint is saved after this step, another Ctrl-C ends at once"
    align(settings, tmp_path / "run", tmp_path / "work", BY_4)
    assert json.loads((tmp_path / "run/provenance.json").read_text())["resumed_from_step"] == 3
    assert metrics(tmp_path / "run") == metrics(aligned)


def interrupted_at_3(arguments, monkeypatch) -> None:
    interrupts = [interrupt]
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: interrupts and interrupts.pop()())
        with pytest.raises(SystemExit):
            align(*arguments)


def test_a_corrected_program_goes_on_and_provenance_records_both(settings, aligned, tmp_path, monkeypatch, capsys):
    arguments = (settings, tmp_path / "run", tmp_path / "work", BY_4)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "code_of", lambda settings: "another")
        interrupted_at_3(arguments, patch)
    align(*arguments)
    assert "code changed since step 3; continuing, provenance records both" in capsys.readouterr().err.splitlines()
    facts = json.loads((tmp_path / "run/provenance.json").read_text())
    assert facts["resumed_from_step"] == 3
    assert facts["code"] == [
        {"digest": "another", "from_step": 0},
        {"digest": code_of(settings), "from_step": 3},
    ]
    alone = json.loads((aligned / "provenance.json").read_text())["code"]
    assert alone == [{"digest": code_of(settings), "from_step": 0}]
    assert metrics(tmp_path / "run") == metrics(aligned)


@pytest.mark.parametrize(("restarts", "resumed_from"), [(0, None), (1, 3)])
def test_fresh_starts_anew_but_for_a_job_that_was_requeued(
    restarts, resumed_from, settings, aligned, tmp_path, monkeypatch
):
    arguments = (settings, tmp_path / "run", tmp_path / "work", BY_4)
    interrupted_at_3(arguments, monkeypatch)
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    align(*arguments, fresh=True)
    assert json.loads((tmp_path / "run/provenance.json").read_text())["resumed_from_step"] == resumed_from
    assert metrics(tmp_path / "run") == metrics(aligned)


def test_a_second_ctrl_c_ends_at_once(settings, tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, 3, lambda: (interrupt(), interrupt()))
    with pytest.raises(SystemExit) as stopped:
        align(settings, tmp_path / "run", tmp_path / "work", BY_4)
    assert stopped.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "parrot: interrupted"
    assert [path.name for path in tmp_path.glob("work/align/*/checkpoint-*")] == ["checkpoint-2"]


def test_a_full_disk_names_the_checkpoint_and_the_next_start_goes_on_from_the_one_before(
    settings, aligned, tmp_path, monkeypatch
):
    save_file = trainer.save_file

    def full(state, path) -> None:
        save_file(state, path)
        if path.parent.name == "checkpoint-4":
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "save_file", full)
        with pytest.raises(OSError, match="No space left on device") as raised:
            align(settings, tmp_path / "run", tmp_path / "work", BY_4)
    (checkpoint,) = tmp_path.glob("work/align/*/checkpoint-4")
    assert one_line(raised.value) == f"{checkpoint}: No space left on device"
    align(settings, tmp_path / "run", tmp_path / "work", BY_4)
    assert json.loads((tmp_path / "run/provenance.json").read_text())["resumed_from_step"] == 2
    assert metrics(tmp_path / "run") == metrics(aligned)
