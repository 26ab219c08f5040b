"""Predictions in VLMEvalKit's files: where it looks for them, its columns in its order, every text as it stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pytest

from parrot.cli import app as cli
from parrot.config.benchmarks import Benchmark
from parrot.config.settings import JudgeSettings
from parrot.config.stages import ScoreSettings
from parrot.config.staleness import canonical
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.prompts import LETTER_INSTRUCTION
from parrot.integrations.predictions import export_predictions
from tests.helpers.tiny_manifest import sign

# A prediction file's columns: the benchmark's without the image, then those that prediction adds.
COLUMNS = ["index", "question", "hint", "A", "B", "answer", "category"]
ADDED = ["image_sha256", "prediction", "prompt_sha256", "stop_reason", "router_weights"]
NEWEST = 1_790_000_000  # 2026-09-21, 14:13:20 UTC
FOLDER = "mine/T20260921-141320"
TEXTS = ["None", "NA", "", "=1+1", "+5", "007", "a\tb\nc", "http://a.b/c", '"quoted"', "猫。", "#N/A", "\u3000B. kedi"]


def prediction_table(answers: list[str]) -> pd.DataFrame:
    rows = [
        [str(n), "What?", "NA", "None", "dog", "A", "c", "0f", answer, "00", "eos", "[]"]
        for n, answer in enumerate(answers)
    ]
    return pd.DataFrame(rows, columns=COLUMNS + ADDED, dtype=str)


@pytest.fixture
def settings(tmp_path: Path) -> ScoreSettings:
    """Two benchmarks of one file a language, predicted in `tmp_path`/predictions."""
    for stem, answers in (("mmmb_en", ["A. cat", "None"]), ("mmmb_cn", ["A. 猫"]), ("Other_tr", TEXTS)):
        path = tmp_path / "predictions" / f"{stem}.tsv"
        path.parent.mkdir(exist_ok=True)
        write_tsv(prediction_table(answers), path)
        os.utime(path, (NEWEST, NEWEST - (stem == "mmmb_en")))
    fields = {
        "folder": str(tmp_path / "x"),
        "instruction": LETTER_INSTRUCTION,
        "scoring": "vanilla",
        "generation": {"max_new_tokens": 1},
    }
    benchmarks = (
        Benchmark(name="MMMB", files={"en": "mmmb_en.tsv", "zh": "mmmb_cn.tsv"}, **fields),
        Benchmark(name="Other", files={"tr": "Other_tr.tsv"}, **fields),
    )
    sign(tmp_path / "predictions", *benchmarks)
    return ScoreSettings(run="parrot", seed=0, benchmarks=benchmarks, controls=("none",), resamples=1)


def test_files_are_where_and_as_vlmevalkit_looks_for_them(settings: ScoreSettings, tmp_path: Path) -> None:
    for prefix in ("", "mini_"):
        written = export_predictions(settings, tmp_path / "predictions", tmp_path / "out", "mine", "xlsx", prefix)
        names = [f"mine_{prefix}{dataset}.xlsx" for dataset in ("MMMB_en", "MMMB_cn", "Other_tr")]
        assert written == [tmp_path / "out" / FOLDER / name for name in names]
        assert all(list(pd.read_excel(path).columns) == [*COLUMNS, "prediction"] for path in written)


def test_every_text_is_kept(settings: ScoreSettings, tmp_path: Path) -> None:
    arguments = (settings, tmp_path / "predictions", tmp_path / "out", "mine")
    sheet, table = (export_predictions(*arguments, file_format)[-1] for file_format in ("xlsx", "tsv"))
    cells = pd.read_excel(sheet, keep_default_na=False, dtype=dict.fromkeys(COLUMNS[1:] + ["prediction"], str))
    assert list(cells["index"]) == list(range(len(TEXTS)))
    assert list(cells["prediction"]) == TEXTS
    assert set(cells["A"]) == {"None"}
    assert list(read_tsv(table).columns) == [*COLUMNS, "prediction"]
    assert list(read_tsv(table)["prediction"]) == TEXTS


@pytest.mark.parametrize(("postprocess", "english"), [("vlmevalkit", ["A", "None"]), ("none", ["A. cat", "None"])])
def test_answers_are_those_that_scoring_matches(
    settings: ScoreSettings, tmp_path: Path, postprocess: str, english: list[str]
) -> None:
    settings = settings.model_copy(update={"postprocess": postprocess})
    written = export_predictions(settings, tmp_path / "predictions", tmp_path / "out", "mine", "tsv")
    assert [list(read_tsv(path)["prediction"]) for path in written[:2]] == [english, ["A. 猫"]]


def test_a_text_too_long_for_a_spreadsheet_is_refused_and_not_cut(settings: ScoreSettings, tmp_path: Path) -> None:
    write_tsv(prediction_table(["x" * 32_767, "y" * 32_768]), tmp_path / "predictions" / "Other_tr.tsv")
    sign(tmp_path / "predictions", *settings.benchmarks)
    arguments = (settings, tmp_path / "predictions", tmp_path / "out", "mine")
    with pytest.raises(
        UserError, match=r"prediction: expected at most 32767 characters, found 32768; use --format tsv"
    ):
        export_predictions(*arguments, "xlsx")
    assert list(read_tsv(export_predictions(*arguments, "tsv")[-1])["prediction"].str.len()) == [32_767, 32_768]


def test_the_command_prints_what_it_wrote(
    settings: ScoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text(canonical(settings), encoding="utf-8")
    folders = [str(tmp_path / "predictions"), str(tmp_path / "out")]
    options = ["--settings", str(tmp_path / "settings.json"), "--format", "tsv"]
    monkeypatch.setattr(sys, "argv", ["parrot", "export-predictions", *folders, *options])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    printed = [Path(line) for line in capsys.readouterr().out.split()]
    assert sorted(printed) == sorted((tmp_path / "out").glob("parrot/T*/*.tsv"))
    assert len(printed) == 3


def test_a_judged_benchmark_has_no_right_answer_and_keeps_what_its_judge_reads(tmp_path: Path) -> None:
    fields = {"folder": str(tmp_path / "x"), "files": {"en": "LLaVABench.tsv"}, "generation": {"max_new_tokens": 5}}
    benchmark = Benchmark(name="LLaVABench", kind="judged", scoring="relative", **fields)
    columns = ["index", "question", "caption", "gpt4_ans", "category"]
    row = ["1", "What?", "A cat.", "Cat", "conv", "0f", " A. It is a cat.\n", "00", "eos", "[]"]
    write_tsv(pd.DataFrame([row], columns=columns + ADDED, dtype=str), tmp_path / "LLaVABench.tsv")
    sign(tmp_path, benchmark)
    judge = JudgeSettings(name="rater", url="http://127.0.0.1:9")
    settings = ScoreSettings(
        run="parrot", seed=0, benchmarks=(benchmark,), controls=("none",), resamples=1, judge=judge
    )
    (path,) = export_predictions(settings, tmp_path, tmp_path / "out", "mine", "xlsx")
    assert path.name == "mine_LLaVABench.xlsx"
    cells = pd.read_excel(path)
    assert list(cells.columns) == [*columns, "prediction"]
    assert cells["prediction"].item() == "A. It is a cat."


@pytest.mark.parametrize("name", ["../out", "a/b", "/out", "a\\b", "..", "a\nb"])
def test_no_name_leads_out_of_the_work_directory(settings: ScoreSettings, tmp_path: Path, name: str) -> None:
    for option, model, prefix in (("--model", name, ""), ("--prefix", "mine", name)):
        with pytest.raises(UserError, match=rf"^{option}: expected a name, without folders, found "):
            export_predictions(settings, tmp_path / "predictions", tmp_path / "out", model, "tsv", prefix)
    assert not (tmp_path / "out").exists()
