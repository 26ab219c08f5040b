"""Languages together in the report: a point and its interval are the same quantity."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from parrot.report.comparisons import of_kind


def asked(language: str, pictures: int, hit: int) -> pd.DataFrame:
    index = range(pictures)
    table = pd.DataFrame({"index": index, "picture": [f"p{n}" for n in index], "hit": hit})
    return table.assign(language=language, house="")


def test_the_interval_of_the_mean_over_languages_weighs_them_alike() -> None:
    """100 of 100 in Chinese and 0 of 10 in Turkish are 50, not 90.9, whatever is drawn; English is left out."""
    table = pd.concat([asked("en", 100, 0), asked("zh", 100, 1), asked("tr", 10, 0)], ignore_index=True)
    units = Units(SimpleNamespace(runs=(), benchmarks=(), resamples=200, seed=0), Path())
    units.load = lambda run, benchmark: table
    assert units.non_english_interval("parrot", "MMMB", "all") == (50, 50)


def test_it_follows_the_pictures_that_are_drawn() -> None:
    table = pd.concat([asked("zh", 4, 1), asked("tr", 4, 0)], ignore_index=True)
    table.loc[0, "hit"] = 0
    units = Units(SimpleNamespace(runs=(), benchmarks=(), resamples=2000, seed=0), Path())
    units.load = lambda run, benchmark: table
    low, high = units.non_english_interval("parrot", "MMMB", "all")
    # Of four pictures drawn the first is drawn at most three times in 97.5 % of cases, and often never.
    assert (low, high) == (12.5, 50)


def test_units_of_a_kind_are_those_that_scores_name_so() -> None:
    table = pd.DataFrame({"options": [4, 2, 4], "category": ["naming", "yes_no", "naming"], "l2-category": "seeing"})
    table = table.assign(difficulty=["easy", "", "hard"], unseen_in_language=["1", "0", "0"])
    for kind, members in {
        "all": [True, True, True],
        "four_option": [True, False, True],
        "yes_no": [False, True, False],
        "l2-category/seeing": [True, True, True],
        "hard": [False, False, True],
        "counting": [False, False, False],
    }.items():
        assert list(of_kind(table, kind)) == members
