"""Scored items: rows by themselves, all rotations of a question (CircularEval), or pairs of rows."""

from __future__ import annotations

import pandas as pd

from parrot.config.benchmarks import Scoring
from parrot.data.tsv import ROTATION
from parrot.evaluate.graded_csv import images


def scorings(rows: pd.DataFrame, shown: Scoring) -> tuple[Scoring, ...]:
    """List every scoring that graded `rows` allow, beginning with the one that tables show."""
    allowed: dict[Scoring, bool] = {
        "vanilla": True,
        "circular": _rotated(rows),
        "pairs": bool((rows["pair_id"] != "").any()),
    }
    return (shown, *(name for name, is_allowed in allowed.items() if is_allowed and name != shown))


def items(rows: pd.DataFrame, scoring: Scoring, shown: Scoring) -> pd.DataFrame:
    """Gather graded `rows` to scored items: the columns of an item's first row, and image, incomplete and counted.

    vanilla: each row. circular: rotations of a question, all of which must be right. pairs: the rows of a pair_id, both
    of which must be right. Where tables show (`shown`) circular, vanilla and pairs take the first rotations alone (the
    VanillaEval of MMBench).

    `image` names the image that an item is resampled with. `unmatched` and `other_language` are shares of the item's
    rows. As in VLMEvalKit a circular group that lacks a rotation counts by the others (`incomplete`), and an item
    without a first rotation does not count. No pair counts that has not two rows.
    """
    rotated = "circular" in (scoring, shown)
    if scoring == "pairs":
        rows = rows[rows["pair_id"] != ""]
        item = rows["pair_id"]
    else:
        item = rows["index"] % ROTATION if rotated else rows["index"]
    rows = rows.assign(group=item, first=(rows["index"] < ROTATION) | (not rotated), image=images(rows))
    if scoring != "circular":
        # An item without any first rotation stays, to be reported as one that does not count.
        rows = rows[rows["first"] | ~rows.groupby(["language", "group"])["first"].transform("any")]
    grouped = rows.sort_values("index", kind="stable").groupby(["language", "group"], sort=False)
    found = grouped.first()
    found["hit"] = grouped["hit"].min()
    found[["unmatched", "other_language"]] = grouped[["unmatched", "other_language"]].mean()
    size = grouped.size()
    found["incomplete"] = (size < found["options"]) & (scoring == "circular")
    found["counted"] = found["first"] & ((size == 2) | (scoring != "pairs"))
    return found.reset_index().drop(columns=["group", "first"])


def _rotated(rows: pd.DataFrame) -> bool:
    """Tell whether any row is a rotation of another one."""
    rotations = rows["index"][rows["index"] >= ROTATION] % ROTATION
    return bool(rotations.isin(rows["index"]).any())
