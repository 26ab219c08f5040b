"""From judged rows to what is counted: a question (vanilla), a group of rotations (circular), or a yes/no pair."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from parrot.config import Benchmark, Control, Conventions, Scoring
from parrot.evaluate.judge import read_rows
from parrot.evaluate.tsv import ROTATION


def load_units(benchmark: Benchmark, folder: Path, conventions: Conventions, control: Control = "none") -> pd.DataFrame:
    """The counted units, in all languages, of what was predicted in `folder`, by the scoring that tables show.

    ConfigError when a prediction file is missing or malformed.
    """
    groups = units(read_rows(benchmark, folder, conventions, control), benchmark.scoring)
    return groups[groups["counted"]].reset_index(drop=True)


def scorings(rows: pd.DataFrame, shown: Scoring) -> tuple[Scoring, ...]:
    """Every scoring that judged `rows` allow, beginning with the one that tables show."""
    allowed: dict[Scoring, bool] = {
        "vanilla": True,
        "circular": _rotated(rows),
        "pairs": bool((rows["pair_id"] != "").any()),
    }
    return (shown, *(name for name, is_allowed in allowed.items() if is_allowed and name != shown))


def units(rows: pd.DataFrame, scoring: Scoring) -> pd.DataFrame:
    """One line a unit: the columns of its first row as `parrot.evaluate.judge.judge` gives them, incomplete, counted.

    vanilla: each row; of rows with rotations the first one only (the VanillaEval of MMBench). circular: rotations of a
    question, all of which must be right. pairs: the rows of a pair_id, both of which must be right.

    `unmatched` and `other_language` are shares of the unit's rows. As in VLMEvalKit a circular group that lacks a
    rotation counts by the others (`incomplete`), and one without its first rotation does not count. No pair counts
    that has not two rows.
    """
    if scoring == "vanilla":
        first = rows[rows["index"] < ROTATION] if _rotated(rows) else rows
        return first.assign(incomplete=False, counted=True).reset_index(drop=True)
    if scoring == "circular":
        unit = rows["index"] % ROTATION
    else:
        rows = rows[(rows["pair_id"] != "") & ((rows["index"] < ROTATION) | (not _rotated(rows)))]
        unit = rows["pair_id"]
    rows = rows.assign(unit=unit).sort_values("index", kind="stable")
    grouped = rows.groupby(["language", "unit"], sort=False)
    found = grouped.first()
    found["hit"] = grouped["hit"].min()
    found[["unmatched", "other_language"]] = grouped[["unmatched", "other_language"]].mean()
    size = grouped.size()
    if scoring == "circular":
        found["incomplete"] = size < found["options"]
        found["counted"] = found["index"] < ROTATION
    else:
        found["incomplete"] = False
        found["counted"] = size == 2
    return found.reset_index().drop(columns="unit")


def _rotated(rows: pd.DataFrame) -> bool:
    """Whether any row is a rotation of another one."""
    rotations = rows["index"][rows["index"] >= ROTATION] % ROTATION
    return bool(rotations.isin(rows["index"]).any())
