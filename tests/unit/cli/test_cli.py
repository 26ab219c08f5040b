"""The command line: settings by name or as JSON, and errors in one line."""

import sys
from pathlib import Path

import pytest
import torch

from parrot.cli import app as cli
from parrot.cli.options import stage_settings
from parrot.cluster.doctor.finding import failed, ok, warning
from parrot.config.stages import TuneSettings
from parrot.config.staleness import canonical
from parrot.config.suite import Suite


def run(monkeypatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["parrot", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_settings_by_name_and_from_a_file_are_the_same(tmp_path: Path):
    expected = Suite.load().run("no_experts").tune
    (tmp_path / "s.json").write_text(canonical(expected))
    assert stage_settings(TuneSettings, "tune", "no_experts", None, None) == expected
    assert stage_settings(TuneSettings, "tune", None, None, tmp_path / "s.json") == expected
    assert expected.experts.num_experts == 0


def test_config_files_are_laid_over_the_default(tmp_path: Path):
    (tmp_path / "over.yaml").write_text("tune: {max_steps: 7}\n")
    settings = stage_settings(TuneSettings, "tune", "parrot", [str(tmp_path / "over.yaml")], None)
    assert settings.recipe.max_steps == 7
    assert settings.experts.num_experts == 6


def test_what_is_well_is_said(monkeypatch, capsys):
    monkeypatch.setattr("parrot.fetch.fetch.fetch", lambda *_, **__: None)
    assert run(monkeypatch, "fetch", "--check", "--run", "qwen2_vl", "--run", "llava_onevision") == 0
    assert capsys.readouterr().out == "parrot: all is well: 2 data sets and models, 2 benchmarks\n"
    found = [ok("disk", "free"), warning("data", "not there yet", "fetch it"), ok("python", "3.11")]
    monkeypatch.setattr("parrot.cluster.doctor.examine.examine", lambda *_: found)
    assert run(monkeypatch, "doctor") == 0
    assert capsys.readouterr().err == "parrot: all is well: nothing failed, 1 of 3 checks warned\n"
    monkeypatch.setattr(
        "parrot.cluster.doctor.examine.examine", lambda *_: [*found, failed("disk", "full", "make room")]
    )
    assert run(monkeypatch, "doctor") == 1
    assert capsys.readouterr().err == ""


TRAIN = ("train", "align", "--output", "out", "--work", "work", "--hardware", "hardware.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*TRAIN, "--run", "parot"), "config/runs.yaml: unknown run parot; did you mean parrot?"),
        (TRAIN, "expected exactly one of --run and --settings"),
        ((*TRAIN, "--settings", "no.json"), "no.json: cannot be read: No such file or directory"),
        ((*TRAIN, "--settings", "LICENSE"), "LICENSE: expected JSON"),
        (
            (*TRAIN, "--settings", "config/config.schema.json"),
            "config/config.schema.json: seed: expected a value",
        ),
        (("overlap", "qwen2_vl", "--output", "out"), "run qwen2_vl: expected a run that trains; "),
        (("predict", "--output", "out", "--run", "parrot"), "expected exactly one of --model and --stage1"),
        (
            ("predict", "--output", "out", "--run", "parrot", "--gpus", "99"),
            "hardware.gpus: expected 99 visible GPUs on ",
        ),
    ],
)
def test_what_the_user_got_wrong_is_one_line(monkeypatch, capsys, arguments, said):
    assert run(monkeypatch, *arguments) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"parrot: error: {said}")
    assert output.err.count("\n") == 1
    assert output.out == ""


@pytest.mark.parametrize("command", ["align", "tune"])
@pytest.mark.parametrize(("given", "expected"), [((), 24), (("--micro-batch", "4"), 4)])
def test_the_micro_batch_is_given_or_the_configs(monkeypatch, tmp_path: Path, command, given, expected):
    (tmp_path / "over.yaml").write_text("hardware: {align: {micro_batch: 24}, tune: {micro_batch: 24}}\n")
    calls = []
    monkeypatch.setattr(f"parrot.train.stages.{command}", lambda *arguments: calls.append(arguments))
    projector = ("--projector", "p") if command == "tune" else ()
    options = ("--output", "out", "--work", "work", "--run", "parrot", "--configfile", str(tmp_path / "over.yaml"))
    assert run(monkeypatch, "train", command, *options, *projector, "--tracked-as", "mini/me", *given) == 0
    ((*_, hardware, tracked_as, fresh),) = calls
    assert (hardware.micro_batch, tracked_as, fresh) == (expected, "mini/me", False)


@pytest.mark.parametrize(("given", "expected"), [((), 7), (("--batch", "4"), 4)])
@pytest.mark.parametrize("model", ["--model", "--stage1"])
def test_the_batch_of_questions_is_given_or_the_configs(monkeypatch, tmp_path: Path, model, given, expected):
    (tmp_path / "over.yaml").write_text("hardware: {predict_batch: 7}\n")
    calls = []
    monkeypatch.setattr("parrot.evaluate.predict.predict", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr("parrot.evaluate.model_source.stage1", lambda settings, projector, dtype: projector)
    monkeypatch.setattr("parrot.evaluate.model_source.trained", lambda folder, dtype: folder)
    options = ("--output", "out", "--run", "parrot", "--configfile", str(tmp_path / "over.yaml"))
    assert run(monkeypatch, "predict", model, "m", *options, *given) == 0
    ((settings, source, output, work, batch, processes),) = calls
    assert (source, output, work, batch) == (Path("m"), Path("out"), Path("work"), expected)
    assert processes == max(1, torch.cuda.device_count())
    assert settings.controls == (("text",) if model == "--stage1" else ("none", "shuffled", "text"))


@pytest.mark.parametrize(
    ("stage", "command", "option"),
    [
        ("align", ("train", "align", "--work", "work"), "--hardware"),
        ("tune", ("train", "tune", "--work", "work", "--projector", "p"), "--hardware"),
        ("predict", ("predict", "--model", "m"), "--batch"),
    ],
)
def test_a_settings_file_holds_no_batch(monkeypatch, capsys, tmp_path: Path, stage, command, option):
    (tmp_path / "s.json").write_text(canonical(getattr(Suite.load().run("parrot"), stage)))
    assert run(monkeypatch, *command, "--output", "out", "--settings", str(tmp_path / "s.json")) == 1
    assert capsys.readouterr().err == f"parrot: error: expected {option} with --settings\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nope",), "No such command 'nope'; see parrot --help"),
        (("predict",), "Missing option '--output'; see parrot predict --help"),
        (
            ("predict", "--output=x", "--batch=0"),
            "Invalid value for '--batch': Input should be greater than or equal to 1; see parrot predict --help",
        ),
        (
            ("train", "align", "--output=x", "--work=w", "--micro-batch=0"),
            "Invalid value for '--micro-batch': Input should be greater than or equal to 1; "
            "see parrot train align --help",
        ),
    ],
)
def test_a_malformed_command_line_is_told_in_one_line(arguments, line, monkeypatch, capsys):
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == f"parrot: error: {line}\n"


@pytest.mark.parametrize("arguments", [(), ("train",)])
def test_a_command_that_asks_for_another_shows_its_help(arguments, monkeypatch, capsys):
    assert run(monkeypatch, *arguments) == 2
    shown = capsys.readouterr()
    assert "Usage: parrot" in shown.out
    assert "error" not in shown.err
