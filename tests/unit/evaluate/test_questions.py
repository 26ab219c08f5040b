"""What a benchmark file becomes when it is asked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.stages import PredictSettings
from parrot.data.tsv import write_tsv
from parrot.evaluate.items import read_tables


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    row = {"index": "1", "question": "Which?", "hint": "n/a", "A": "None", "B": "NA", "C": "x", "answer": "A"}
    write_tsv(pd.DataFrame([row | {"image": "i" * 100}], dtype=str), tmp_path / "b.tsv")
    benchmark = Benchmark(
        name="b",
        folder=str(tmp_path),
        files={"pt": "b.tsv"},
        instruction={},
        scoring="vanilla",
        generation=BenchmarkGeneration(max_new_tokens=1),
    )
    return PredictSettings(benchmarks=(benchmark,), controls=("none",), prompt_language="dataset", dtype="fp32")


@pytest.mark.parametrize(
    ("changed", "query"),
    [
        (
            {},
            "<image>\nn/a\nWhich?\nA. None\nB. NA\nC. x\nResponda diretamente com a letra da opção das escolhas dadas.",
        ),
        (
            {"missing_values": "vlmevalkit", "prompt_language": "group"},
            "<image>\nWhich?\nC. x\nAnswer with the option's letter from the given choices directly.",
        ),
    ],
)
def test_conventions_word_the_prompt_and_the_row_stays_as_it_is(
    settings: PredictSettings, tmp_path: Path, changed: dict[str, str], query: str
) -> None:
    (table,) = read_tables(settings.model_copy(update=changed), tmp_path)
    assert [question.query for question in table.items] == [query]
    assert table.table[["hint", "A", "B", "C"]].to_numpy().tolist() == [["n/a", "None", "NA", "x"]]
