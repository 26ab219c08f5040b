"""What would overwrite another file's predictions, or be scored as another benchmark, is refused before any job."""

from __future__ import annotations

from pathlib import Path

import pytest

from parrot.config.benchmarks import Benchmark, check_distinct, prediction_file
from parrot.config.runs import Run
from parrot.config.suite import Suite
from parrot.errors import UserError


def entry(name: str, *files: str, folder: str = "data", controls: tuple[str, ...] = ("none", "text")) -> Benchmark:
    by_language = dict(zip(("en", "zh"), files, strict=False))
    fields = {"folder": folder, "scoring": "vanilla", "generation": {"max_new_tokens": 1}, "controls": controls}
    return Benchmark(name=name, files=by_language, **fields)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (("A", "x.tsv"), ("B", "x.tsv"), "one (en: x.tsv, control none) and two (en: x.tsv, control none)"),
        (("A", "x.tsv"), ("B", "X.TSV"), "two (en: X.TSV, control none) would overwrite"),
        (("A", "x.tsv"), ("B", "x.txt"), "two (en: x.txt, control none) would overwrite"),
        (("A", "x.tsv"), ("B", "X.text.tsv"), "one (en: x.tsv, control text) and two (en: X.text.tsv, control none)"),
        (("A", "x.tsv"), ("B", "x.rejected.tsv"), "two (en: x.rejected.tsv, control none) would overwrite"),
        (("A", "caf\u00e9.tsv"), ("B", "cafe\u0301.tsv"), "would overwrite each other's predictions"),
        (("A", "x.tsv", "x.tsv"), ("B", "y.tsv"), "one (en: x.tsv, control none) and one (zh: x.tsv, control none)"),
        (("A", "x.tsv"), ("A", "y.tsv"), "one and two are both called A in scores"),
    ],
)
def test_what_shares_a_name_is_refused_by_both_names(first, second, message: str) -> None:
    suite = Suite.load()
    evaluate = suite.config.evaluate.model_copy(update={"benchmarks": ("one", "two"), "controls": ("none", "text")})
    config = suite.config.model_copy(update={"evaluate": evaluate})
    run = Run("mine", config, suite.datasets, {"one": entry(*first), "two": entry(*second)}, {})
    with pytest.raises(UserError) as caught:
        run.check()
    assert str(caught.value).startswith("run mine: evaluate.benchmarks: ")
    assert message in str(caught.value)


def test_names_that_no_control_makes_equal_are_let_pass() -> None:
    plain = entry("A", "x.tsv", controls=("none",)), entry("B", "x.text.tsv", controls=("none",))
    check_distinct(dict(zip("ab", plain, strict=True)), ("none", "text"), "")


def test_file_names_stay() -> None:
    assert prediction_file(Path("p"), "sub/MMMB_en.tsv", "none") == Path("p/MMMB_en.tsv")
    assert prediction_file(Path("p"), "MMMB_en.tsv", "shuffled") == Path("p/MMMB_en.shuffled.tsv")
