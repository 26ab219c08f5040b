"""`parrot clean` finds what no run of the config can use, and removes nothing else."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from parrot.cli.clean import readable, tidy
from parrot.cli.leftovers import HOUR
from parrot.config.hardware import TrainingHardware
from parrot.config.suite import Suite
from parrot.data.conversations import file_name
from parrot.evaluate.predict import settings_key
from parrot.model.processing_parrot import processor_of
from parrot.train import stages
from tests.helpers.locks import held
from tests.helpers.tiny_plan import tiny_suite
from tests.helpers.tiny_training import write_backbones

DEAD = "0123456789ab"
HEX = 32 * "a"
WORK, RESULTS = Path("work/tiny"), Path("results/tiny")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.chdir(tmp_path)
    return tiny_suite(tmp_path)


def write(path: Path, age: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0123456789")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def fetch() -> None:
    """What names of tokenised sets depend on: conversations, an encoder and a tokenizer."""
    for name in ("captions", "answers", "answers_zh"):
        write(Path(f"none/{name}.json"))
    write_backbones(Path("made"))
    shutil.copytree("made/qwen", "none/backbone")
    shutil.copytree("made/clip", "none/backbone", dirs_exist_ok=True)


def projector(suite: Suite) -> Path:
    return write(RESULTS / f"align/{suite.run('parrot').stage1_key}/projector/model.safetensors").parent


def train(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start both stages of the run, as far as the folder of their checkpoints."""

    def begin(folder: Path, *_: object) -> None:
        write(folder / "checkpoint-1/model.safetensors")

    monkeypatch.setattr(stages, "_train_in", begin)
    run = suite.run("parrot")
    stages.align(run.align, Path("out"), WORK, TrainingHardware(micro_batch=1))
    stages.tune(run.tune, projector(suite), Path("out"), WORK, TrainingHardware(micro_batch=1))


def used(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """One of each of what the run leaves while it is not done."""
    run = suite.run("parrot")
    fetch()
    train(suite, monkeypatch)
    reader = processor_of("none/backbone", "none/backbone", run.align.vision_feature_select)
    names = [file_name(entry, reader, run.align.recipe.max_length) for entry in run.align.data]
    names += [file_name(entry, reader, run.tune.recipe.max_length) for entry in run.tune.data]
    for name in names:
        write(WORK / "datasets" / name)
        write(WORK / "datasets" / f"{name}.sha256.json")
    for asked in (run.predict, run.predict_stage1, suite.run("asked").predict):
        write(WORK / f"predict/{settings_key(asked)}-{DEAD}/0.jsonl")
    write(RESULTS / "parrot/predictions/manifest.json")
    write(RESULTS / "tracked")
    write(RESULTS / "by_target/parrot/tracked")
    return files()


def files() -> set[Path]:
    return {path for path in Path().rglob("*") if path.is_file()}


def paths(said: str) -> list[str]:
    return [line.partition(":")[0] for line in said.splitlines()]


def test_what_runs_can_use_is_no_leftover(suite, monkeypatch, capsys):
    before = used(suite, monkeypatch)
    capsys.readouterr()
    assert tidy(suite, yes=True) == ([], 0)
    assert capsys.readouterr().out == ""
    assert files() == before


def test_the_rest_is_listed_then_removed_then_gone(suite, monkeypatch, capsys):
    before = used(suite, monkeypatch)
    (tune,) = (WORK / "tune").iterdir()
    dead = [
        write(WORK / f"align/{DEAD}/checkpoint-1/model.safetensors").parents[1],
        write(WORK / f"tune/{tune.name[:-12]}{DEAD}/provenance.json").parent,  # another projector's
        write(WORK / f"datasets/captions.{DEAD}.arrow"),
        write(WORK / f"datasets/captions.{DEAD}.arrow.sha256.json"),
        write(WORK / f"features/{DEAD}/{DEAD}.safetensors").parent,
        write(WORK / "features/images.json"),
        write(WORK / f"predict/{DEAD}/0.jsonl").parent,  # named as before the settings' digest stood in front
        write(WORK / f"translations/{DEAD}/1.jsonl", 2 * HOUR).parent,
        write(WORK / f"fingerprints/training/{DEAD}/1.arrow", 2 * HOUR).parent,
        write(RESULTS / "tracking"),
        write(RESULTS / "parrot/tracked"),
        write(WORK / f"align/{DEAD}.lock"),
        write(WORK / f"datasets/.captions.{HEX}.partial.arrow", 2 * HOUR),
        write(RESULTS / "parrot/.model.partial/model.safetensors", 2 * HOUR).parent,
    ]
    there = files()
    capsys.readouterr()
    sizes, failed = tidy(suite, yes=False)
    assert sizes == [10] * len(dead)
    assert paths(capsys.readouterr().out) == list(map(str, dead))
    assert files() == there
    assert tidy(suite, yes=True) == (sizes, failed) == (sizes, 0)
    assert paths(capsys.readouterr().out) == [f"removed {path}" for path in dead]
    assert files() == before
    assert not any(path.exists() for path in dead)
    assert tidy(suite, yes=True) == ([], 0)


def test_what_cannot_be_told_without_data_and_stage_1_stays(suite, monkeypatch):
    train(suite, monkeypatch)
    shutil.rmtree(RESULTS)
    write(WORK / f"datasets/captions.{DEAD}.arrow")
    before = files()
    assert tidy(suite, yes=True) == ([], 0)
    assert files() == before


def test_features_stay_while_a_run_keeps_them_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(WORK / f"features/{DEAD}/{DEAD}.safetensors")
    assert tidy(tiny_suite(tmp_path, hardware={"tune": {"features": "disk"}}), yes=True) == ([], 0)


def test_nothing_goes_while_it_is_held(suite, capsys):
    fetch()
    folder = write(WORK / f"align/{DEAD}/checkpoint-1/model.safetensors").parents[1]
    write(WORK / f"datasets/captions.{DEAD}.arrow")
    with held(folder.absolute()) as holder:
        before = files()
        assert tidy(suite, yes=True) == ([], 0)
        assert files() == before
        first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"kept {folder}: 10 B: ")
    assert f"; held by process {holder.pid} on " in first
    assert second.endswith(f"; {folder} is locked, a training may read it")
    assert tidy(suite, yes=True)[0][:2] == [10, 10]
    assert not list(WORK.rglob("*.lock"))


def test_what_may_still_be_written_stays(suite, capsys):
    partial = write(RESULTS / f"parrot/.scores.{HEX}.partial.csv")
    assert tidy(suite, yes=True) == ([], 0)
    assert capsys.readouterr().out.startswith(f"kept {partial}: ")
    assert partial.exists()


@pytest.mark.parametrize(
    "name",
    [f"predict/{DEAD}/0.jsonl", "x.partial", f"scores.{HEX}.partial.csv", ".hidden", "align/notes.txt"],
)
def test_links_and_other_files_are_left_alone(suite, name):
    others = write(Path("elsewhere", name), 2 * HOUR)
    WORK.mkdir(parents=True)
    (WORK / "align").symlink_to(others.parent.absolute())
    (WORK / "predict").mkdir()
    (WORK / "predict" / DEAD).symlink_to(others.parent.absolute())
    write(WORK / "datasets" / Path(name).name, 2 * HOUR)
    before = files()
    assert tidy(suite, yes=True) == ([], 0)
    assert files() == before


def test_results_of_other_runs_are_told_and_stay(suite, capsys):
    other = [write(RESULTS / f"align/{DEAD}/metrics.jsonl"), write(RESULTS / "gone/metrics.jsonl")]
    assert tidy(suite, yes=True) == ([], 0)
    assert paths(capsys.readouterr().out) == [f"kept {path.parent}" for path in other]
    assert all(path.exists() for path in other)


def test_what_cannot_be_removed_is_told(suite, monkeypatch, capsys):
    folder = write(WORK / f"align/{DEAD}/provenance.json").parent

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("parrot.cli.clean.remove", refuse)
    assert tidy(suite, yes=True) == ([], 1)
    assert capsys.readouterr().out.startswith(f"kept {folder}: 10 B: ")


@pytest.mark.parametrize(
    ("size", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_340_000, "2.3 MB"), (5 * 10**15, "5000.0 TB")]
)
def test_sizes_are_readable(size, said):
    assert readable(size) == said
