"""Tests of differences between runs: an exact one where questions are independent, and a correction for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests


def independent(units: pd.DataFrame) -> bool:
    """Whether `units` are of one language and ask one question a picture, as McNemar's test needs."""
    return units["language"].nunique() == 1 and units["picture"].is_unique


def exact_mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Two-sided p of McNemar's exact test that runs `a` and `b` are right equally often on the same questions.

    Both are units as `parrot.evaluate.accuracy.load_units` gives them. ValueError when they are not the same questions,
    or share pictures or languages: answers about one picture are not independent, and the test would take them so.
    """
    if not (independent(a) and independent(b)):
        raise ValueError("McNemar's test: expected one language and one question a picture; use the bootstrap")
    both = a.merge(b, on=["language", "index"], suffixes=("_a", "_b"), validate="1:1")
    if both.empty or not len(both) == len(a) == len(b):
        raise ValueError(f"different questions were answered: {len(a)} and {len(b)}, {len(both)} in common")
    right = both["hit_a"].astype(bool), both["hit_b"].astype(bool)
    table = [[int((x & y).sum()) for y in (right[1], ~right[1])] for x in (right[0], ~right[0])]
    return float(mcnemar(table, exact=True).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` adjusted by Holm's step-down procedure, so that 5 % holds for all of them together; NaN stays NaN."""
    p = np.array(p_values, dtype=np.float64)
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p.tolist()
