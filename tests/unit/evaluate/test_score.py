"""From prediction files to scores.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.stages import ScoreSettings
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.score import score
from parrot.evaluate.scores_csv import COLUMNS
from tests.helpers.tiny_manifest import sign

BENCHMARK = Benchmark(
    name="MMMB",
    folder="data",
    files={"en": "MMMB_en.tsv", "zh": "MMMB_cn.tsv"},
    instruction={"en": "?", "zh": "?"},
    scoring="vanilla",
    generation=BenchmarkGeneration(max_new_tokens=4),
    controls=("none", "text"),
)
SETTINGS = ScoreSettings(
    run="parrot",
    seed=3,
    benchmarks=(BENCHMARK,),
    controls=("none", "shuffled", "text"),
    matcher="current",
    prompt_language="dataset",
    resamples=200,
)


def predictions(path: Path, answers: str) -> None:
    """Ten four-option questions on five images, answered with the letters `answers`; A is always right."""
    rows = [
        {
            "index": str(n),
            "question": "?",
            "A": "one",
            "B": "two",
            "C": "three",
            "D": "four" if n < 8 else "",
            "answer": "A",
            "category": "naming" if n < 6 else "colour",
            "l2-category": "recognition" if n < 2 else "",
            "split": "dev" if n < 4 else "test",
            "pair_id": str(n // 2) if n < 4 else "",
            "image_source": "near" if n % 2 else "far",
            "difficulty": "hard" if n < 3 else "",
            "unseen_in_language": "1" if n == 9 else "0",
            "image_sha256": f"p{n // 2}",
            "prediction": answer,
            "prompt_sha256": "",
        }
        for n, answer in enumerate(answers)
    ]
    write_tsv(pd.DataFrame(rows, dtype=str), path)


@pytest.fixture(autouse=True)
def _benchmarks_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for stem, answers in (("MMMB_en", "AAAAABBBB?"), ("MMMB_cn", "A?????????")):
        predictions(tmp_path / f"{stem}.tsv", answers)
        predictions(tmp_path / f"{stem}.text.tsv", "A" * 10)
    sign(tmp_path, BENCHMARK)
    return tmp_path


def test_rows(folder: Path) -> None:
    output = folder / "out" / "scores.csv"
    score(SETTINGS, folder, None, output)
    table = pd.read_csv(output)
    assert tuple(table.columns) == COLUMNS
    assert set(table["control"]) == {"none", "text"}
    assert set(table["run"]) == {"parrot"}
    assert list(table["scoring"].unique()) == ["vanilla", "pairs"]
    plain = table[(table["control"] == "none") & (table["scoring"] == "vanilla") & (table["split"] == "all")]
    plain = plain.set_index(["language", "image_source", "kind"])
    expected = {
        ("en", "all", "all"): (50, 10),
        ("zh", "all", "all"): (10, 10),
        ("en", "near", "all"): (40, 5),
        ("en", "far", "all"): (60, 5),
        ("en", "all", "four_option"): (62.5, 8),
        ("en", "all", "hard"): (100, 3),
        ("en", "all", "unseen_in_language"): (0, 1),
        ("en", "all", "seen_in_language"): (55.5556, 9),
        ("en", "all", "naming"): (83.3333, 6),
        ("en", "near", "naming"): (66.6667, 3),
        ("en", "all", "colour"): (0, 4),
        ("zh", "all", "l2-category/recognition"): (50, 2),
    }
    for label, values in expected.items():
        assert tuple(plain.loc[label, ["accuracy", "questions"]]) == values, label
    assert ("en", "all", "easy") not in plain.index
    assert plain.loc[("en", "all", "all"), "unmatched"] == 10
    assert plain.loc[("zh", "all", "all"), "unmatched"] == 90
    assert plain.loc[("en", "all", "all"), "low"] < 50 < plain.loc[("en", "all", "all"), "high"]
    assert (table["low"] <= table["accuracy"] + 1e-9).all()
    assert (table["accuracy"] <= table["high"] + 1e-9).all()


def test_splits_pairs_and_conventions_are_rows_and_columns(folder: Path) -> None:
    output = folder / "scores.csv"
    score(SETTINGS.model_copy(update={"postprocess": "none"}), folder, None, output)
    table = pd.read_csv(output)
    table = table[(table["control"] == "none") & (table["image_source"] == "all") & (table["language"] == "en")]
    found = table[table["kind"] == "all"].set_index(["scoring", "split"])[["accuracy", "questions"]]
    assert found.loc[("vanilla", "dev")].tolist() == [100, 4]
    assert found.loc[("vanilla", "test")].tolist() == [16.6667, 6]
    assert found.loc[("pairs", "all")].tolist() == [100, 2]
    # All pairs are of one split.
    assert ("pairs", "dev") not in found.index
    values = table[["matcher", "prompt_language", "postprocess", "missing_values"]].drop_duplicates().values.tolist()
    assert values == [["current", "dataset", "none", "strings"]]


def test_a_benchmark_s_own_prompt_language_is_what_is_named_and_what_answers_are_read_by(tmp_path: Path) -> None:
    own = BENCHMARK.model_copy(update={"name": "own", "files": {"zh": "own.tsv"}, "prompt_language": "group"})
    own = own.model_copy(update={"instruction": {}})
    theirs = own.model_copy(update={"name": "theirs", "prompt_language": None})
    predictions(tmp_path / "own.tsv", "B" * 10)
    table = read_tsv(tmp_path / "own.tsv")
    # The letter is found only where the prompt, with the English instruction, has the answer shortened.
    write_tsv(table.assign(prediction="A cup, which stands on a table"), tmp_path / "own.tsv")
    sign(tmp_path, own)
    settings = SETTINGS.model_copy(update={"benchmarks": (own, theirs), "controls": ("none",)})
    score(settings, tmp_path, None, tmp_path / "scores.csv")
    scores = pd.read_csv(tmp_path / "scores.csv")
    found = scores[(scores["image_source"] == "all") & (scores["kind"] == "all") & (scores["scoring"] == "vanilla")]
    found = found[(found["split"] == "all") & (found["language"] == "zh")].set_index("benchmark")[
        ["prompt_language", "accuracy"]
    ]
    assert found.to_dict("index") == {
        "own": {"prompt_language": "group", "accuracy": 100},
        "theirs": {"prompt_language": "dataset", "accuracy": 0},
    }


def test_groups_without_rotations_and_pairs_without_rows_are_counted_in_columns(tmp_path: Path) -> None:
    benchmark = BENCHMARK.model_copy(update={"files": {"en": "b.tsv"}, "scoring": "circular"})
    predictions(tmp_path / "b.tsv", "AAAAAAAAA")
    table = read_tsv(tmp_path / "b.tsv")
    # Four rotations of 0; two of the four of 10; 20 without its first.
    table["index"] = ["0", "1000000", "2000000", "3000000", "10", "1000010", "1000020", "2000020", "3000020"]
    write_tsv(table, tmp_path / "b.tsv")
    sign(tmp_path, benchmark)
    settings = SETTINGS.model_copy(update={"benchmarks": (benchmark,), "controls": ("none",)})
    score(settings, tmp_path, None, tmp_path / "scores.csv")
    scores = pd.read_csv(tmp_path / "scores.csv")
    whole = scores[(scores["image_source"] == "all") & (scores["kind"] == "all") & (scores["split"] == "all")]
    columns = ["accuracy", "questions", "incomplete", "uncounted"]
    assert whole.set_index("scoring").loc["circular", columns].tolist() == [100, 2, 1, 1]
    assert whole.set_index("scoring").loc["vanilla", columns].tolist() == [100, 2, 0, 1]
    # Of the pairs, which are made of first rotations, one has a single one, and the other none.
    alone = whole.set_index("scoring").loc["pairs"]
    assert pd.isna(alone["accuracy"])
    assert alone[["questions", "uncounted"]].tolist() == [0, 2]


def test_an_index_twice_in_predictions_is_one_line(folder: Path) -> None:
    table = read_tsv(folder / "MMMB_en.tsv")
    table.loc[3, "index"] = "2"
    write_tsv(table, folder / "MMMB_en.tsv")
    with pytest.raises(UserError, match=r"MMMB_en\.tsv: index: 2 occurs more than once"):
        score(SETTINGS, folder, None, folder / "scores.csv")


def test_same_input_same_bytes_and_stage_one_apart(folder: Path) -> None:
    stage1 = folder / "0123abcd" / "predictions"
    for stem in ("MMMB_en", "MMMB_cn"):
        predictions(stage1 / f"{stem}.text.tsv", "B" * 10)
    sign(stage1, BENCHMARK)
    score(SETTINGS, folder, stage1, folder / "a.csv")
    score(SETTINGS, folder, stage1, folder / "b.csv")
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    table = pd.read_csv(folder / "a.csv")
    before = table[table["run"] == "align/0123abcd"]
    assert set(before["control"]) == {"text"}
    assert (before["accuracy"] == 0).all()
    assert len(before) == len(table[(table["run"] == "parrot") & (table["control"] == "text")])


def test_missing_predictions_are_one_line(folder: Path) -> None:
    (folder / "MMMB_cn.text.tsv").unlink()
    with pytest.raises(UserError, match=r"MMMB_cn\.text\.tsv: cannot be read"):
        score(SETTINGS, folder, None, folder / "scores.csv")
    assert not (folder / "scores.csv").exists()
