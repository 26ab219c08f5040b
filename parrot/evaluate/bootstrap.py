"""Uncertainty by resampling images, as questions and rotations that share one are not independent, and its tests.

Ours, since no library has a clustered bootstrap of ratios with a second level, seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

LEVEL = (2.5, 97.5)  # per cent: the bounds of a 95 % interval
POWER = 0.8
ROUNDING = 1e-9  # points; a standard error or difference below it is none
BySeed = Mapping[int, pd.DataFrame]
"""A run's items by the seed that it was trained with."""


# Every language, run and control asks of the same images. Nothing may write into what it gets.
@lru_cache(maxsize=4)
def image_weights(images: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, images): how often each image is drawn when as many images are drawn with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)


def totals_by_image(image: np.ndarray, images: int, values: np.ndarray) -> np.ndarray:
    """(images, G): sums of `values` (items, G) over the items of each image; `image` (items,) holds positions."""
    totals = np.zeros((images, values.shape[1]))
    np.add.at(totals, image, values)
    return totals


def intervals(hits: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of the accuracy (0 to 1) of each of G subsets of the questions.

    `hits` and `counts` are (images, G) sums by image, `weights` (resamples, images). Resamples that draw no
    image of a subset say nothing about it and are left out.
    """
    low, high = np.nanpercentile(resampled_accuracies(hits, counts, weights), LEVEL, axis=0)
    return low, high


def resampled_accuracies(hits: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(resamples, G): accuracies (0 to 1) of subsets as in `intervals`, NaN where a resample draws none of one."""
    with np.errstate(invalid="ignore"):
        return (weights @ hits) / (weights @ counts)


def means_over_languages(language: np.ndarray, image: np.ndarray, hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(resamples, S): the mean of the languages' accuracies (0 to 1), however many questions each has.

    `language` (Q,) and `image` (Q,), a position, are those of the questions, `hits` (Q, S) the answers, `weights`
    (resamples, images). NaN where a resample draws no image of a language, and so says nothing about the mean.
    """
    accuracies = []
    for name in np.unique(language):
        chosen = language == name
        values = np.column_stack([hits[chosen], np.ones(chosen.sum())])
        totals = weights @ totals_by_image(image[chosen], weights.shape[1], values)
        with np.errstate(invalid="ignore"):
            accuracies.append(totals[:, :-1] / totals[:, -1:])
    return np.mean(accuracies, axis=0)


@dataclass(frozen=True)
class Estimate:
    """An accuracy in per cent, or a difference of two in points, with its 95 % interval.

    Attributes:
        standard_error: over images, and over seeds where there are several.
        detectable: the minimum detectable effect at 80 % power, two-sided at 5 %.
        p: two-sided, of no difference; NaN where every resample gives the same, and not 0.
    """

    points: float
    low: float
    high: float
    standard_error: float
    detectable: float
    p: float
    questions: int
    images: int


def accuracy(run: BySeed, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Mean accuracy over the seeds of a run; resampled as in `paired_difference`, whose errors it raises."""
    return _estimate([run], resamples, seed)


def paired_difference(a: BySeed, b: BySeed, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Accuracy of run `a` minus that of run `b` on the same questions; of several languages the mean of theirs.

    A run is its counted items (`parrot.evaluate.circular.items`), or the same subset of all, by the seed that it was
    trained with. Images are resampled with all their items, in all languages and for both runs.

    Seeds are a second level, resampled too where there are several; by their differences where both runs have the same
    seeds, which share stage 1. The interval is then Student's t with Satterthwaite's degrees of freedom, between those
    of the seeds and infinitely many. With one seed it is the percentiles', and errors are taken for normal; how much a
    run owes to its one seed stays unknown.

    ValueError when the items do not hold the same questions.
    """
    return _estimate([a, b], resamples, seed)


def _estimate(runs: Sequence[BySeed], resamples: int, seed: int) -> Estimate:
    """Return the first of `runs`, minus the second where there is one."""
    runs = [dict(sorted(run.items())) for run in runs]
    questions, hits = _aligned(runs)
    if len({tuple(run) for run in runs}) == 1:
        # With the same seeds on both sides the difference has one value a seed.
        hits = [hits[0] - sum(hits[1:])]
    signs = (1, -1)[: len(hits)]
    observed, by_seed = _by_seed(questions, hits, resamples, seed)
    resampled, parts = np.zeros(len(by_seed[0])), []
    rng = np.random.default_rng([seed, 1])
    for sign, found, values in zip(signs, observed, by_seed, strict=True):
        resampled += sign * (values.mean(axis=1) + _draw(_seed_effects(found, values), len(values), rng))
        parts += [(found.var(ddof=1) / len(found), len(found) - 1)] if len(found) > 1 else []
    points = float(sum(sign * found.mean() for sign, found in zip(signs, observed, strict=True)))
    error = float(np.std(resampled, ddof=1))
    if error < ROUNDING:
        error, resampled = 0.0, np.full_like(resampled, points)
    freedom = _freedom(parts, error)
    low, high = points + t.ppf(np.array(LEVEL) / 100, freedom) * error if parts else np.percentile(resampled, LEVEL)
    return Estimate(
        points=points,
        low=float(low),
        high=float(high),
        standard_error=error,
        detectable=float(t.ppf(LEVEL[1] / 100, freedom) + t.ppf(POWER, freedom)) * error,
        p=float(2 * t.sf(abs(points) / error, freedom)) if error else (1.0 if abs(points) < ROUNDING else np.nan),
        questions=len(questions),
        images=questions["image"].nunique(),
    )


def _aligned(runs: Sequence[BySeed]) -> tuple[pd.DataFrame, list[np.ndarray]]:
    """Return the questions' languages and images (Q rows), and each run's hits (Q, seeds)."""
    keys = ["language", "index"]
    tables = [[items.sort_values(keys, ignore_index=True) for items in run.values()] for run in runs]
    first = tables[0][0]
    for table in (table for run in tables for table in run):
        if table.empty or table.duplicated(keys).any() or not table[keys].equals(first[keys]):
            common = len(table[keys].merge(first[keys]))
            raise ValueError(f"different questions were answered: {len(first)} and {len(table)}, {common} in common")
    hits = [np.column_stack([table["hit"] for table in run]).astype(np.float64) for run in tables]
    return first[["language", "image"]], hits


def _by_seed(
    questions: pd.DataFrame, hits: Sequence[np.ndarray], resamples: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Means in per cent of each of `hits` (Q, seeds): observed, (seeds,), and where images are resampled.

    The latter are (resamples, seeds), all by the same draws, without those that draw no image of a language.
    """
    language = questions["language"].to_numpy()
    position, names = pd.factorize(questions["image"], sort=True)
    once, drawn = np.ones((1, len(names))), image_weights(len(names), resamples, seed)
    observed, resampled = (
        [100 * means_over_languages(language, position, hit, weights) for hit in hits] for weights in (once, drawn)
    )
    return [means[0] for means in observed], [means[~np.isnan(means).any(axis=1)] for means in resampled]


def _seed_effects(observed: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """Return what each seed adds to the mean over seeds, (seeds,), from its `observed` result and those over images.

    Results at several seeds differ by chance even where seeds do not matter, and that chance is in the resampling of
    images already. So the effects are shrunk to the variance that it does not explain.
    """
    effects = observed - observed.mean()
    if len(effects) == 1 or not effects.any():
        return effects
    by_chance = resampled - observed
    by_chance = by_chance - by_chance.mean(axis=1, keepdims=True)
    explained = (by_chance**2).sum(axis=1).mean() / (effects**2).sum()
    return effects * np.sqrt(max(0, 1 - explained))


def _draw(effects: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples,): the mean effect of seeds drawn with replacement.

    One fewer is drawn than there are: the mean of all would vary too little, by (S - 1) / S (Rao and Wu 1988).
    """
    seeds = len(effects)
    if seeds == 1:
        return np.zeros(resamples)
    return rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=resamples) @ effects / (seeds - 1)


def _freedom(parts: Sequence[tuple[float, int]], error: float) -> float:
    """Satterthwaite's degrees of freedom of a squared `error`, whose seeds vary by `parts` (variance, freedom).

    The parts are what was observed, chance included: taking the known chance off leaves them as uncertain as before.
    Images are so many that their part is taken for known.
    """
    uncertain = sum(part**2 / freedom for part, freedom in parts)
    if not uncertain:
        return np.inf
    return max(error**4 / uncertain, min(freedom for _, freedom in parts))


def independent(items: pd.DataFrame) -> bool:
    """Tell whether `items` are of one language and ask one question per image, as McNemar's test needs."""
    return items["language"].nunique() == 1 and items["image"].is_unique


def exact_mcnemar(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Two-sided p of McNemar's exact test that runs `a` and `b` are right equally often on the same questions.

    Both are counted items (`parrot.evaluate.circular.items`).

    Raises:
        ValueError: they are not the same questions, or share images or languages: predictions about one image are not
            independent, and the test would take them so.
    """
    if not (independent(a) and independent(b)):
        raise ValueError("McNemar's test: expected one language and one question per image; use the bootstrap")
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
