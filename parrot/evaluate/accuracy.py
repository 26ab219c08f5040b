"""From graded rows to what is counted: a question (vanilla), a group of rotations (circular), or a yes/no pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from parrot.config.catalog import Benchmark, Scoring
from parrot.config.settings import Conventions
from parrot.data.tsv import L2, ROTATION
from parrot.evaluate.grading import read_rows


def load_units(benchmark: Benchmark, folder: Path, conventions: Conventions) -> pd.DataFrame:
    """The counted units, in all languages, of what was predicted in `folder`, by the scoring that tables show.

    ConfigError when a prediction file is missing or malformed.
    """
    groups = units(read_rows(benchmark, folder, conventions), benchmark.scoring, benchmark.scoring)
    return groups[groups["counted"]].reset_index(drop=True)


def scorings(rows: pd.DataFrame, shown: Scoring) -> tuple[Scoring, ...]:
    """Every scoring that graded `rows` allow, beginning with the one that tables show."""
    allowed: dict[Scoring, bool] = {
        "vanilla": True,
        "circular": _rotated(rows),
        "pairs": bool((rows["pair_id"] != "").any()),
    }
    return (shown, *(name for name, is_allowed in allowed.items() if is_allowed and name != shown))


def units(rows: pd.DataFrame, scoring: Scoring, shown: Scoring) -> pd.DataFrame:
    """One line a unit: the columns of its first row as `parrot.evaluate.grading.grade` gives them, incomplete, counted.

    vanilla: each row. circular: rotations of a question, all of which must be right. pairs: the rows of a pair_id, both
    of which must be right. Where tables show (`shown`) circular, vanilla and pairs take the first rotations alone (the
    VanillaEval of MMBench).

    `unmatched` and `other_language` are shares of the unit's rows. As in VLMEvalKit a circular group that lacks a
    rotation counts by the others (`incomplete`), and a unit without a first rotation does not count. No pair counts
    that has not two rows.
    """
    rotated = "circular" in (scoring, shown)
    if scoring == "pairs":
        rows = rows[rows["pair_id"] != ""]
        unit = rows["pair_id"]
    else:
        unit = rows["index"] % ROTATION if rotated else rows["index"]
    rows = rows.assign(unit=unit, first=(rows["index"] < ROTATION) | (not rotated))
    if scoring != "circular":
        # A unit without any first rotation stays, to be told as one that does not count.
        rows = rows[rows["first"] | ~rows.groupby(["language", "unit"])["first"].transform("any")]
    grouped = rows.sort_values("index", kind="stable").groupby(["language", "unit"], sort=False)
    found = grouped.first()
    found["hit"] = grouped["hit"].min()
    found[["unmatched", "other_language"]] = grouped[["unmatched", "other_language"]].mean()
    size = grouped.size()
    found["incomplete"] = (size < found["options"]) & (scoring == "circular")
    found["counted"] = found["first"] & ((size == 2) | (scoring != "pairs"))
    return found.reset_index().drop(columns=["unit", "first"])


def by_kind(units: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which of the units are of each kind of question, as scores.csv names kinds: (units,) of bool each."""
    return {
        "all": np.full(len(units), True),
        "four_option": (units["options"] == 4).to_numpy(),
        "easy": (units["difficulty"] == "easy").to_numpy(),
        "hard": (units["difficulty"] == "hard").to_numpy(),
        "seen_in_language": (units["unseen_in_language"] == "0").to_numpy(),
        "unseen_in_language": (units["unseen_in_language"] == "1").to_numpy(),
        **by_value(units["category"]),
        **{f"{L2}{name}": members for name, members in by_value(units["l2-category"]).items()},
    }


def by_value(column: pd.Series) -> dict[str, np.ndarray]:
    """Where a column has each of its values, in order; "" is none."""
    return {value: (column == value).to_numpy() for value in sorted(set(column) - {""})}


def _rotated(rows: pd.DataFrame) -> bool:
    """Whether any row is a rotation of another one."""
    rotations = rows["index"][rows["index"] >= ROTATION] % ROTATION
    return bool(rotations.isin(rows["index"]).any())
