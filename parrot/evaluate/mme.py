"""MME's score: accuracies by category, plus those of pictures with both questions right, added up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from parrot.config.catalog import Benchmark
from parrot.data.tsv import L2
from parrot.errors import ConfigError
from parrot.evaluate.bootstrap import LEVEL, picture_weights, totals_by_picture


def pair_ids(graded: pd.DataFrame, predictions: pd.DataFrame) -> pd.Series:
    """What the two questions about a picture share: its category, and its path in MME or else its id."""
    return graded["category"] + "/" + predictions.get("image_path", graded["picture"])


def sums(
    rows: pd.DataFrame, pairs: pd.DataFrame, benchmark: Benchmark, resamples: int, seed: int
) -> Iterator[dict[str, object]]:
    """Points of every category, of each of the benchmark's sums, and of all sums together, by language.

    A category's points are 100 x accuracy + 100 x accuracy plus, at most 200. `rows` are graded rows, `pairs` the units
    of the scoring pairs. Intervals resample pictures. ConfigError where a category of a sum has no question.
    """
    added = {"all": tuple(category for categories in benchmark.sums.values() for category in categories)}
    added |= {f"{L2}{name}": categories for name, categories in benchmark.sums.items()}
    for language, asked in rows.groupby("language", sort=False):
        found = sorted(set(asked["category"]))
        lacking = [category for category in added["all"] if category not in found]
        if lacking:
            raise ConfigError(f"{benchmark.name}: sums: there is no question of category {lacking[0]} in {language}")
        both = pairs[pairs["language"] == language]
        # (1 + resamples, categories): what was observed, then what each resample gives.
        points = _points(asked, both[both["counted"]], found, resamples, seed)
        for kind, categories in (added | {name: (name,) for name in found}).items():
            of_kind = asked[asked["category"].isin(categories)]
            total = points[:, [found.index(category) for category in categories]].sum(axis=1)
            low, high = np.nanpercentile(total[1:], LEVEL) if not np.isnan(total[1:]).all() else (np.nan, np.nan)
            yield {
                "language": language,
                "house": "all",
                "split": "all",
                "kind": kind,
                "accuracy": total[0],
                "low": low,
                "high": high,
                "questions": len(of_kind),
                "incomplete": 0,
                "uncounted": int((~both["counted"] & both["category"].isin(categories)).sum()),
                "unmatched": 100 * of_kind["unmatched"].mean(),
                "other_language": 100 * of_kind["other_language"].mean(),
            }


def _points(
    questions: pd.DataFrame, pairs: pd.DataFrame, categories: list[str], resamples: int, seed: int
) -> np.ndarray:
    names = sorted(set(questions["picture"]))
    weights = np.vstack([np.ones(len(names)), picture_weights(len(names), resamples, seed)])
    points = np.zeros((len(weights), len(categories)))
    for units in (questions, pairs):
        picture = units["picture"].map({name: place for place, name in enumerate(names)}).to_numpy(dtype=np.int64)
        members = np.column_stack([units["category"] == category for category in categories]).astype(np.float64)
        hits = totals_by_picture(picture, len(names), members * units[["hit"]].to_numpy())
        counts = totals_by_picture(picture, len(names), members)
        with np.errstate(invalid="ignore"):  # a category without a whole pair has no points
            points += 100 * (weights @ hits) / (weights @ counts)
    return points
