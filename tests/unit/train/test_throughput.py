"""What a training's hardware may change: who loads images, whose features are read, which kernels run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from parrot.config.hardware import TrainingHardware
from parrot.data.collate import Collator
from parrot.data.conversations import load
from parrot.data.feature_store import Features, digests_of, remember
from parrot.errors import UserError
from parrot.model.build import build
from parrot.train import precompute, strategy
from parrot.train.distributed import workers
from parrot.train.stages import align, tune
from tests.helpers.tiny_runs import at_step, metrics
from tests.helpers.tiny_training import align_settings, tune_settings, write_backbones, write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbones and one finished alignment, in `folder`/aligned."""
    folder = tmp_path_factory.mktemp("throughput")
    write_backbones(folder)
    settings = align_settings(folder, (write_set(folder, "captions"),), max_steps=3)
    align(settings, folder / "aligned", folder / "work", TrainingHardware(micro_batch=2))
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Any:
    """Short ones, by twos: some micro-batches are of text alone."""
    data, held_out = (write_set(folder, "sft_en"), write_set(folder, "sft_zh", "zh")), (write_set(folder, "val_en"),)
    return tune_settings(folder, data, held_out, max_steps=5, eval_steps=4)


def trained(folder: Path, settings: Any, output: Path, **hardware: Any) -> list[dict]:
    work = output.parent / "work"
    tune(settings, folder / "aligned/projector", output, work, TrainingHardware(micro_batch=2, **hardware))
    return metrics(output)


@pytest.fixture(scope="module")
def plain(folder: Path, settings: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    return trained(folder, settings, tmp_path_factory.mktemp("plain") / "run")


# --- features on disk ------------------------------------------------------------------------------------------------


def test_stored_features_change_no_loss_and_are_computed_once(folder, settings, plain, tmp_path, monkeypatch):
    for ours, theirs in zip(trained(folder, settings, tmp_path / "run", features="disk"), plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    blocks = list((tmp_path / "work/features").glob("*/*.safetensors"))
    assert len(blocks) == 1
    assert len(precompute.stored(blocks[0].parent)) == len(contents(settings))
    monkeypatch.setattr(precompute, "_compute", lambda *_: pytest.fail("computed again"))
    trained(folder, settings, tmp_path / "again", features="disk")


def contents(settings: Any) -> set[bytes]:
    """The image files' bytes, equal ones once."""
    found = set()
    for entry in (*settings.data, *settings.validation):
        samples = json.loads(Path(entry.file).read_text())
        found |= {Path(entry.images, sample["image"]).read_bytes() for sample in samples if "image" in sample}
    return found


def test_alignment_reads_stored_features_too(folder, tmp_path):
    settings = align_settings(folder, (write_set(folder, "captions"),), max_steps=3)
    for name in ("compute", "disk"):
        align(settings, tmp_path / name, tmp_path / "work", TrainingHardware(micro_batch=2, features=name))
    for ours, theirs in zip(metrics(tmp_path / "disk"), metrics(tmp_path / "compute"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_computing_features_goes_on_where_it_stopped(folder, settings, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(precompute, "BLOCK", 2)
    written = []
    write = precompute.write_block

    def interrupted(*arguments: Any) -> None:
        if len(written) == 2:
            raise RuntimeError("power cut")
        written.append(arguments[1])
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(precompute, "write_block", interrupted)
        with pytest.raises(RuntimeError, match="power cut"):
            trained(folder, settings, tmp_path / "run", features="disk")
    monkeypatch.setattr(precompute, "write_block", lambda *a: (written.append(a[1]), write(*a)))
    for ours, theirs in zip(trained(folder, settings, tmp_path / "run", features="disk"), plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    digests = [digest for block in written for digest in block]
    assert len(digests) == len(set(digests)) == len(contents(settings))


def test_features_that_do_not_fit_on_disk_are_refused(folder, settings, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(100))
    with pytest.raises(
        UserError, match=r"^features: disk: those of \d+ images take 0\.0 GiB in .*features/\w+, where 0\.0 GiB are"
    ):
        trained(folder, settings, tmp_path / "run", features="disk")


def test_other_encoders_and_settings_have_features_of_their_own(folder, settings):
    model, processor = build(settings)
    first = precompute._identity(model, processor, torch.float32)
    assert precompute._identity(*build(settings), torch.float32) == first
    others = [precompute._identity(model, processor, torch.bfloat16)]
    model.config.vision_feature_layer = -1
    others.append(precompute._identity(model, processor, torch.float32))
    model.config.vision_feature_layer = -2
    processor.image_processor.image_aspect_ratio = "crop"
    others.append(precompute._identity(model, processor, torch.float32))
    processor.image_processor.image_aspect_ratio = "pad"
    with torch.no_grad():
        next(model.model.vision_tower.parameters()).add_(1e-3)
    others.append(precompute._identity(model, processor, torch.float32))
    assert first not in others


def test_an_image_that_changed_has_other_features(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    remember(digests_of([str(tmp_path / "a")], tmp_path / "known"), tmp_path / "known")
    before = digests_of([str(tmp_path / "a")], tmp_path / "known")
    (tmp_path / "a").write_bytes(b"another")
    after = digests_of([str(tmp_path / "a")], tmp_path / "known")
    assert before != after
    assert after == digests_of([str(tmp_path / "a")], tmp_path / "none")


def test_a_batch_of_text_alone_has_features_of_no_image(folder, settings, tmp_path):
    model, processor = build(settings)
    rows = load(settings.data, processor, tmp_path, 512)
    none = Features({}, (model.config.num_image_tokens, 16), torch.float32)
    batch = Collator(processor, "text", 512, features=none)(rows.__getitems__([4]))
    assert batch["image_features"].shape == (0, 5, 16)
    del batch["ids"]
    model.model.vision_tower.embeddings.forward = lambda *_: pytest.fail("the encoder ran")
    model.train()(**batch).loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "projector" in n or "expert" in n)


# --- loading processes -----------------------------------------------------------------------------------------------


def test_loading_processes_change_nothing_and_outlive_a_sigterm_to_all(folder, settings, plain, tmp_path, monkeypatch):
    def sigterm_to_all() -> None:
        children = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(os.getpid())], text=True).split()
        assert len(children) >= 3  # two loading processes, and ps
        # From another process, as Slurm's is: the loading processes obey their own training's.
        subprocess.run(["sh", "-c", "kill -TERM $*; sleep 0.5", "sh", *children, str(os.getpid())], check=False)

    for step in (2, 4):
        with monkeypatch.context() as patch:
            at_step(patch, step, sigterm_to_all)
            with pytest.raises(SystemExit) as stopped:
                trained(folder, settings, tmp_path / "run", workers=2)
        assert stopped.value.code == 143
    assert trained(folder, settings, tmp_path / "run", workers=2) == plain


def test_a_loading_process_s_error_is_one_line(folder, settings, tmp_path):
    broken = tmp_path / "images"
    shutil.copytree(folder / "images", broken)
    (broken / "sft_en-1.png").write_bytes(b"noise")
    data = tuple(entry.model_copy(update={"images": str(broken)}) for entry in settings.data)
    with pytest.raises(UserError, match=r"^\S+sft_en\.json: sample sft_en-1: image: \S+ cannot be decoded: unknown"):
        trained(folder, settings.model_copy(update={"data": data}), tmp_path / "run", workers=1)


def test_loading_processes_are_what_is_asked_or_by_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert (workers(None, on_gpu=True), workers(None, on_gpu=False), workers(3, on_gpu=False)) == (8, 0, 3)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert (workers(None, on_gpu=True), workers(0, on_gpu=True)) == (1, 0)


# --- kernels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "flex_attention", "sdpa"])
def test_what_runs_is_the_attention_that_was_asked_for(folder, settings, attention, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model, _ = build(settings)
    strategy.choose_kernels(model, TrainingHardware(micro_batch=1, attention=attention), "fp32", "hardware.tune")
    assert model.model.language_model.config._attn_implementation == attention
    assert model.config.text_config._attn_implementation == attention
    assert model.model.vision_tower.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("attention", "on_gpu", "installed", "precision", "lack"),
    [
        ("flash_attention_2", False, True, "bf16", "a GPU"),
        ("flash_attention_2", True, False, "bf16", "the package flash-attn"),
        ("flash_attention_2", True, True, "fp32", "precision bf16, found fp32"),
        ("flex_attention", False, True, "bf16", "a GPU"),
    ],
)
def test_attention_is_refused_where_it_cannot_run(settings, attention, on_gpu, installed, precision, lack, monkeypatch):
    model, _ = build(settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    monkeypatch.setattr(strategy, "is_flash_attn_2_available", lambda: installed)
    hardware = TrainingHardware(micro_batch=1, attention=attention)
    with pytest.raises(UserError, match=rf"^hardware\.tune\.attention: {attention} needs {lack}; expected sdpa"):
        strategy.choose_kernels(model, hardware, precision, "hardware.tune")


def test_compiled_layers_change_no_loss_and_are_compiled_once_for_all_lengths(folder, settings, plain, tmp_path):
    # Graphs are captured and guarded as ever; only their code is torch's own.
    seen = []

    def backend(graph: Any, inputs: Any) -> Any:
        seen.append(graph)
        return graph.forward

    compile_layer = torch.nn.Module.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda self: compile_layer(self, backend=backend))
        for ours, theirs in zip(trained(folder, settings, tmp_path / "run", compile=True), plain, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
    assert 1 <= len(seen) <= 4
