"""Uncertainty by resampling pictures: questions, languages and rotations that share a picture are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = (2.5, 97.5)
# z(0.975) + z(0.80): a true difference of so many standard errors is found with 80 % power at 5 %, two-sided.
DETECTABLE = 2.8


def picture_weights(pictures: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, pictures): how often each picture is drawn when as many pictures are drawn with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples).astype(np.float64)


def totals_by_picture(picture: np.ndarray, pictures: int, values: np.ndarray) -> np.ndarray:
    """(pictures, G): sums of `values` (units, G) over the units of each picture; `picture` (units,) holds positions."""
    totals = np.zeros((pictures, values.shape[1]))
    np.add.at(totals, picture, values)
    return totals


def intervals(hits: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of the accuracy (0 to 1) of each of G subsets of the questions.

    `hits` and `counts` are (pictures, G) sums by picture, `weights` (resamples, pictures). Resamples that draw no
    picture of a subset say nothing about it and are left out.
    """
    with np.errstate(invalid="ignore"):
        accuracies = (weights @ hits) / (weights @ counts)
    low, high = np.nanpercentile(accuracies, LEVEL, axis=0)
    return low, high


@dataclass(frozen=True)
class Difference:
    """Run a minus run b, in points; `detectable` is the minimum detectable effect at 80 % power, 5 % two-sided."""

    points: float
    low: float
    high: float
    detectable: float
    questions: int
    pictures: int


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> Difference:
    """Difference in accuracy of two runs on the same questions, all languages together, resampling pictures.

    `a` and `b` are units as `parrot.evaluate.accuracy.load_units` gives them, or the same subset of both. ValueError
    when they do not hold the same questions.
    """
    keys = ["language", "index"]
    both = a[[*keys, "picture", "hit"]].merge(b[[*keys, "hit"]], on=keys, suffixes=("_a", "_b"), validate="1:1")
    if both.empty or not len(both) == len(a) == len(b):
        raise ValueError(f"runs answered different questions: {len(a)} and {len(b)}, {len(both)} in common")
    picture, names = pd.factorize(both["picture"], sort=True)
    values = np.column_stack([both["hit_a"] - both["hit_b"], np.ones(len(both))])
    totals = totals_by_picture(picture, len(names), values)
    drawn = picture_weights(len(names), resamples, seed) @ totals
    differences = 100 * drawn[:, 0] / drawn[:, 1]
    low, high = np.percentile(differences, LEVEL)
    return Difference(
        points=100 * float(values[:, 0].mean()),
        low=float(low),
        high=float(high),
        detectable=DETECTABLE * float(differences.std(ddof=1)),
        questions=len(both),
        pictures=len(names),
    )
