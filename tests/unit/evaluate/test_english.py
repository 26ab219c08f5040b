"""Questions put into English before they are asked: by parallel rows and by a model, and what comes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.catalog import BackboneFolder
from parrot.config.settings import Conventions
from parrot.config.stages import PredictSettings
from parrot.config.suite import Suite
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate import translate as translating
from parrot.evaluate.grading import stored_predictions
from parrot.evaluate.items import read_tables
from parrot.evaluate.kinds import read_rows
from parrot.evaluate.predict import predict
from parrot.evaluate.prompts import LETTER_INSTRUCTION
from parrot.evaluate.translate import Translations, load_translator, translate
from parrot.report.settings import report_stage
from tests.helpers.tiny_manifest import sign
from tests.helpers.tiny_nllb import write_nllb
from tests.helpers.tiny_questions import COLOURS, image, in_memory
from tests.helpers.tiny_training import talkative_model, write_backbones

TEXTS = {
    "en": ("Which colour?", "A hint.", "red", "green", "An image."),
    "zh": ("什么颜色？\n\n红", "什么", "红", "绿", "红绿"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    return talkative_model(tmp_path_factory.mktemp("backbones"))


def write(folder: Path, language: str, name: str, **changes: str) -> None:
    question, hint, first, second, scene = TEXTS[language]
    rows = [
        {
            "index": str(n),
            "question": question,
            "hint": hint if n else "",
            "A": first,
            "B": second,
            "answer": "AB"[n % 2],
            "image": image(COLOURS[n % 3]),
            "image_text": scene,
            "shuffled": str((n + 1) % 4),
        }
        for n in range(4)
    ]
    rows[2] |= changes
    write_tsv(pd.DataFrame(rows, dtype=str), folder / name)


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    write(tmp_path, "en", "MMMB_en.tsv")
    write(tmp_path, "zh", "MMMB_cn.tsv")
    return Benchmark(
        name="MMMB",
        folder=str(tmp_path),
        files={"en": "MMMB_en.tsv", "zh": "MMMB_cn.tsv"},
        instruction=LETTER_INSTRUCTION,
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=4),
        controls=("none", "shuffled", "text"),
    )


def settings(benchmark: Benchmark, translator: str | BackboneFolder = "parallel_rows") -> PredictSettings:
    return PredictSettings(
        benchmarks=(benchmark,),
        controls=("none", "shuffled", "text"),
        prompt_language="dataset",
        dtype="fp32",
        translator=translator,
    )


@pytest.fixture
def nllb(tmp_path: Path) -> BackboneFolder:
    write_nllb(tmp_path / "nllb")
    return BackboneFolder(kind="backbone", path=str(tmp_path / "nllb"), licence="", source="local")


def test_parallel_rows_are_asked_in_english_and_stay_their_languages_files(benchmark, tmp_path: Path) -> None:
    sheets = {sheet.file.name: sheet for sheet in read_tables(settings(benchmark), tmp_path / "out")}
    for ending in ("", ".shuffled", ".text"):
        english, chinese = (sheets[f"MMMB_{language}{ending}.tsv"] for language in ("en", "cn"))
        assert [q.query for q in chinese.items] == [q.query for q in english.items]
        assert [q.images for q in chinese.items] == [q.images for q in english.items]
        assert {q.language for q in chinese.items} == {"en"}
        assert chinese.table.equals(english.table)
    assert sheets["MMMB_cn.text.tsv"].items[1].query.startswith("An image.\nA hint.\nWhich colour?\nA. red\n")
    assert str(tmp_path / "MMMB_cn.tsv") in sheets["MMMB_cn.tsv"].items[0].where


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"index": "9"}, "row 9"), ({"answer": "B"}, "row 2")],
    ids=["index", "answer"],
)
def test_rows_that_are_not_parallel_are_named(benchmark, tmp_path: Path, changes, expected: str) -> None:
    write(tmp_path, "zh", "MMMB_cn.tsv", **changes)
    with pytest.raises(UserError, match=rf"MMMB_cn\.tsv: {expected}: expected a row with that index and answer in "):
        read_tables(settings(benchmark), tmp_path)


def test_rows_that_are_not_parallel_are_listed_where_the_entry_says_so(benchmark, tmp_path: Path) -> None:
    write(tmp_path, "en", "MMMB_en.tsv", answer="E")
    listing = benchmark.model_copy(update={"rejected_rows": "list", "controls": ("none",)})
    sheets = read_tables(settings(listing), tmp_path)
    assert [[row["index"] for row in sheet.table.to_dict("records")] for sheet in sheets] == [["0", "1", "3"]] * 2
    assert [[row.place for row in sheet.rejected] for sheet in sheets] == [[2], [2]]
    assert sheets[1].rejected[0].why == f"expected a row with that index and answer in {tmp_path / 'MMMB_en.tsv'}"
    table = read_tsv(tmp_path / "MMMB_cn.tsv")
    write_tsv(table.assign(index=["5", "6", "7", "8"]), tmp_path / "MMMB_cn.tsv")
    with pytest.raises(UserError, match=r"MMMB_cn\.tsv: all 4 rows are rejected; the first: row 5: expected a row"):
        read_tables(settings(listing), tmp_path)


def test_parallel_rows_need_an_english_file(benchmark, tmp_path: Path) -> None:
    chinese = benchmark.model_copy(update={"files": {"zh": "MMMB_cn.tsv"}})
    with pytest.raises(UserError, match=r"MMMB_cn\.tsv: translator parallel_rows: expected an English file in MMMB"):
        read_tables(settings(chinese), tmp_path)


def test_a_model_translates_each_line_as_alone_and_once(benchmark, nllb, tmp_path: Path, monkeypatch) -> None:
    asked = settings(benchmark, nllb)
    monkeypatch.setattr(translating, "MAX_NEW_TOKENS", 12)
    translate(asked, tmp_path / "work", 3)
    known = Translations(nllb, tmp_path / "work").known
    assert known["zh"].keys() == {"什么颜色？", "红", "什么", "绿", "红绿"}
    assert not known["en"]
    model = AutoModelForSeq2SeqLM.from_pretrained(nllb.path)
    tokenizer = AutoTokenizer.from_pretrained(nllb.path, src_lang="zho_Hans")
    for line, english in known["zh"].items():
        start = tokenizer.convert_tokens_to_ids("eng_Latn")
        limits = {"forced_bos_token_id": start, "max_new_tokens": 12, "do_sample": False}
        tokens = model.generate(**tokenizer(line, return_tensors="pt"), **limits)
        assert english == tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert len(set(known["zh"].values())) > 2
    monkeypatch.setattr(translating, "load_translator", lambda folder: pytest.fail("translated again"))
    translate(asked, tmp_path / "work", 3)


def test_a_translation_that_was_cut_off_goes_on(benchmark, nllb, tmp_path: Path, monkeypatch) -> None:
    asked = settings(benchmark, nllb)
    monkeypatch.setattr(translating, "MAX_NEW_TOKENS", 12)
    translate(asked, tmp_path / "whole", 2)
    translate(asked, tmp_path / "work", 2)
    (file,) = (tmp_path / "work/translations").glob("*/*.jsonl")
    file.rename(file.with_name("killed.jsonl")).write_bytes(file.with_name("killed.jsonl").read_bytes()[:-5])
    left = {
        line
        for lines in map(json.loads, file.with_name("killed.jsonl").read_text().splitlines()[:-1])
        for line in lines["value"]["lines"]
    }
    translated = []
    whole = translating._translate
    monkeypatch.setattr(translating, "_translate", lambda *given: translated.extend(given[2]) or whole(*given))
    translate(asked, tmp_path / "work", 2)
    known = Translations(nllb, tmp_path / "whole").known
    assert sorted(translated) == sorted(known["zh"].keys() - left)
    assert Translations(nllb, tmp_path / "work").known == known


def test_translated_rows_keep_lines_and_what_the_model_made_nothing_of(benchmark, nllb, tmp_path: Path) -> None:
    translations = Translations(nllb, tmp_path)
    translations.known["zh"] = {"什么颜色？": "Which colour?", "红": " ", "什么": "What", "绿": "green", "红绿": "both"}
    table = read_tsv(tmp_path / "MMMB_cn.tsv")
    english = translations.rows(table, benchmark, "zh")
    assert list(english.iloc[1][["question", "hint", "A", "B", "image_text"]]) == [
        "Which colour?\n\n红",
        "What",
        "红",
        "green",
        "both",
    ]
    kept = ["index", "answer", "image", "shuffled"]
    assert english[kept].equals(table[kept])
    assert english["hint"][0] == ""


def test_predictions_hold_what_was_asked(built, benchmark, nllb, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(translating, "MAX_NEW_TOKENS", 12)
    for name, translator in (("rows", "parallel_rows"), ("model", nllb)):
        predict(settings(benchmark, translator), in_memory(built), tmp_path / name, tmp_path / "work", 3)
    english, rows, model = (
        read_tsv(tmp_path / file) for file in ("rows/MMMB_en.tsv", "rows/MMMB_cn.tsv", "model/MMMB_cn.tsv")
    )
    assert rows.equals(english)
    known = Translations(nllb, tmp_path / "work").known["zh"]
    assert set(model["A"]) == {known["红"].strip() or "红"}
    assert set(model["prompt_sha256"]).isdisjoint(english["prompt_sha256"])


def test_translated_questions_need_the_english_instruction_alone(benchmark, tmp_path: Path) -> None:
    entry = benchmark.model_copy(update={"instruction": {"en": "Say it."}})
    sheets = read_tables(settings(entry), tmp_path)
    assert all(question.query.endswith("\nSay it.") for sheet in sheets for question in sheet.items)
    for sheet in sheets:
        write_tsv(sheet.table.assign(prediction="A", prompt_sha256=""), sheet.file)
    sign(tmp_path, entry)
    assert list(read_rows(entry, tmp_path, Conventions(translator="parallel_rows"))["hit"]) == [1, 0, 1, 0] * 2
    with pytest.raises(UserError, match="MMMB: instruction: no sentence for zh"):
        read_rows(entry, tmp_path, Conventions())


@pytest.mark.parametrize(("translator", "hits"), [("none", 2), ("parallel_rows", 0)])
def test_answers_are_read_as_those_to_english_questions(benchmark, tmp_path: Path, translator, hits: int) -> None:
    # The wrapper shortens "I think B" to "I", and does so after the English instruction alone.
    for language, file in (("en", "MMMB_en"), ("zh", "MMMB_cn")):
        write(tmp_path, language if translator == "none" else "en", f"{file}.in.tsv")
        table = read_tsv(tmp_path / f"{file}.in.tsv").assign(prediction="I think B", prompt_sha256="0")
        (tmp_path / "out").mkdir(exist_ok=True)
        write_tsv(table, tmp_path / "out" / f"{file}.tsv")
    sign(tmp_path / "out", benchmark)
    conventions = Conventions(translator=translator)
    graded = read_rows(benchmark, tmp_path / "out", conventions)
    assert graded["hit"][graded["language"] == "en"].sum() == 0
    assert graded["hit"][graded["language"] == "zh"].sum() == hits
    stored = stored_predictions(read_tsv(tmp_path / "out/MMMB_cn.tsv"), "zh", conventions, LETTER_INSTRUCTION)
    assert set(stored) == {"I think B" if hits else "I"}


def test_a_folder_that_translates_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        load_translator(tmp_path / "nothing")
    write_backbones(tmp_path)
    with pytest.raises(UserError, match=r"qwen/config\.json: model_type: expected a translation model, found qwen2"):
        load_translator(tmp_path / "qwen")


def test_the_run_shares_its_training_and_says_who_translated() -> None:
    suite = Suite.load()
    english, translated, by_model = map(suite.run, ("english", "translate_test", "translate_test_nllb"))
    assert {suite.trained_as[name] for name in ("english", "translate_test", "translate_test_nllb")} == {"english"}
    assert translated.predict == english.predict.model_copy(update={"translator": "parallel_rows"})
    assert translated.predict_stage1 == english.predict_stage1
    assert english.scores_before
    assert not translated.scores_before
    assert translated.score.translator == "parallel_rows"
    assert by_model.predict.translator == by_model.fetch.datasets["data/hub/nllb-200-distilled-600M"]
    labels = [report_stage(suite, run.name).runs[0].label for run in (english, translated, by_model)]
    plain = "English data only, no experts"
    assert labels == [plain, f"{plain}, translated: parallel rows", f"{plain}, translated by nllb_600m"]


def test_an_unknown_translator_lists_the_known_models() -> None:
    suite = Suite.load()
    suite.overrides["odd"] = {"evaluate": {"translator": "nllb"}}
    with pytest.raises(UserError, match=r"^run odd: evaluate\.translator: no folder nllb, .* which has .*nllb_600m"):
        suite.run("odd").check()
