"""A seventh language in the mini scale's evaluation, by files alone: a TSV and entries of the catalogue."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import pytest

from parrot.cli import app as cli
from parrot.config.settings import load_config
from parrot.config.suite import Suite
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.prompts import instructions
from tests.helpers.project import ROOT
from tests.helpers.tiny_questions import rows
from tests.helpers.tiny_results import write_records
from tests.helpers.tiny_training import talkative_model

FILE = "    ru: MMMB_ru.tsv\n"
GERMAN = '    de: "Antworte mit dem Text der Option."\n'
SENTENCE = '    ru: "Ответьте текстом варианта."\n'
CONFIG = ("config/config.yaml", "seven.yaml")
OVERLAY = """
evaluate: {benchmarks: [mini_mmmb], controls: [none], resamples: 20}
report: {runs: [parrot], tables: [table1, bars], samples: 2, notes: []}
"""
SUFFIXES = ("en", "cn", "pt", "ar", "tr", "ru", "de")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with seven languages' files, which is the working directory."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "seven.yaml").write_text(OVERLAY, encoding="utf-8")
    add(tmp_path, FILE, "    de: MMMB_de.tsv\n")
    add(tmp_path, SENTENCE, GERMAN)
    with open(tmp_path / "config/tables.yaml", "a", encoding="utf-8") as file:
        file.write("bars: {kind: bars, title: By language, benchmarks: [MMMB]}\n")
    for suffix in SUFFIXES:
        write_tsv(rows("Welche Farbe?"), tmp_path / f"data/mini/benchmarks/MMMB_{suffix}.tsv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(folder: Path, after: str, line: str) -> None:
    path = folder / "config/benchmarks.yaml"
    text = path.read_text(encoding="utf-8")
    assert after in text
    path.write_text(text.replace(after, after + line, 1), encoding="utf-8")


def parrot(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    configfiles = [part for name in CONFIG for part in ("--configfile", name)]
    monkeypatch.setattr(sys, "argv", ["parrot", *arguments, *configfiles])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0


def suite() -> Suite:
    return Suite(load_config(*CONFIG))


def test_it_is_predicted_scored_and_a_column_of_the_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in talkative_model(folder / "backbones"):
        part.save_pretrained(folder / "model")
    results = folder / "results/mini/parrot"
    parrot(
        monkeypatch,
        *("predict", "--run", "parrot", "--model", "model", "--batch", "8", "--work", "work"),
        *("--output", str(results / "predictions")),
    )
    assert len(read_tsv(results / "predictions/MMMB_de.tsv")) == 7
    parrot(
        monkeypatch,
        *("score", "--run", "parrot", "--predictions", str(results / "predictions")),
        *("--output", str(results / "scores.csv")),
    )
    write_records(results, stage2=True, samples=192)
    write_records(results.parent / "align" / str(suite().run("parrot").stage1_key), stage2=False, samples=192)
    parrot(
        monkeypatch,
        *("report", "build", "--scores", str(results / "scores.csv"), "--results", "results/mini", "--output", "out"),
    )
    with open("out/tables/table1.csv", encoding="utf-8") as file:
        columns = [(line["benchmark"], line["language"]) for line in csv.DictReader(file) if line["value"]]
    shown = ("en", "zh", "pt", "ar", "tr", "ru", "de", "non_english")
    assert columns == [("MMMB", language) for language in shown]
    assert "German" in Path("out/figures/bars.svg").read_text(encoding="utf-8")


def test_a_language_without_a_sentence_is_named_before_any_prediction(folder: Path) -> None:
    path = folder / "config/benchmarks.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(GERMAN, ""), encoding="utf-8")
    settings = suite().run("parrot").predict
    with pytest.raises(UserError, match=r"benchmarks.yaml: MMMB: instruction: no sentence for de$"):
        instructions(settings.benchmarks[0], settings)


def test_a_router_that_goes_by_the_language_knows_those_it_is_trained_on(folder: Path) -> None:
    runs = folder / "config/runs.yaml"
    runs.write_text("oracle: {model: {router: language}}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"run oracle: .*MMMB: expected languages .*en, zh, pt, ar, tr, ru, found de"):
        suite().run("oracle").resolve()
    trained = "{languages: [de, en], instructions: {en: [mini_sft_en], de: [mini_sft_de]}}"
    runs.write_text(f"oracle: {{model: {{router: language}}, data: {trained}}}\n", encoding="utf-8")
    sets = folder / "config/datasets.yaml"
    entry = "{kind: conversations, file: d.json, images: ., language: de, licence: '', source: local}"
    sets.write_text(f"{sets.read_text(encoding='utf-8')}\nmini_sft_de: {entry}\n", encoding="utf-8")
    assert suite().run("oracle").tune.router_languages == ("en", "zh", "pt", "ar", "tr", "ru", "de")


@pytest.mark.parametrize(
    ("code", "near"),
    [("german", "de (German)"), ("deu", "de (German)"), ("he", "iw (Hebrew)"), ("zh-CN", "zh (Chinese)")],
)
def test_a_code_that_no_row_has_is_refused_with_near_ones(folder: Path, code: str, near: str) -> None:
    add(folder, FILE, f"    {code}: MMMB_more.tsv\n")
    with pytest.raises(UserError) as raised:
        suite()
    assert str(raised.value) == (
        f"config/benchmarks.yaml: mini_mmmb: files.{code}: expected a language of parrot/languages.csv, "
        f"found '{code}'; did you mean {near}?"
    )
