"""From graded rows and scored items to scores: accuracies, the points of MME, and relative ratings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from parrot.config.benchmarks import Benchmark
from parrot.data.tsv import L2
from parrot.errors import UserError
from parrot.evaluate.bootstrap import (
    LEVEL,
    image_weights,
    intervals,
    resampled_accuracies,
    totals_by_image,
)
from parrot.evaluate.graded_csv import images
from parrot.evaluate.scores_csv import DECIMALS, NON_ENGLISH

MEANS = ("hit", "unmatched", "other_language")
Subset = dict[str, Any]
"""A line of scores.csv from its language to its numbers, without the run and the conventions; NaN where none is."""


def by_kind(items: pd.DataFrame) -> dict[str, np.ndarray]:
    """Tell which of the items are of each kind of question, as scores.csv names kinds: (items,) of bool each."""
    return {
        "all": np.full(len(items), True),
        "four_option": (items["options"] == 4).to_numpy(),
        "easy": (items["difficulty"] == "easy").to_numpy(),
        "hard": (items["difficulty"] == "hard").to_numpy(),
        "seen_in_language": (items["unseen_in_language"] == "0").to_numpy(),
        "unseen_in_language": (items["unseen_in_language"] == "1").to_numpy(),
        **by_value(items["category"]),
        **{f"{L2}{name}": members for name, members in by_value(items["l2_category"]).items()},
    }


def by_value(column: pd.Series) -> dict[str, np.ndarray]:
    """Tell where a column has each of its values, in order; "" is none."""
    return {value: (column == value).to_numpy() for value in sorted(set(column) - {""})}


def accuracies(groups: pd.DataFrame, resamples: int, seed: int) -> Iterator[Subset]:
    """Accuracy and counts of every subset of `items`, and of all languages but English together."""
    labels, members = _subsets(groups)
    counted = groups["counted"].to_numpy()
    scored, of_scored = groups[counted], members[counted]
    counts = of_scored.sum(axis=0)
    resampled = _resampled(scored, of_scored, resamples, seed)
    low, high = np.full((2, len(labels)), np.nan)
    # A subset without items, or one that no resample draws, has no interval.
    some = ~np.isnan(resampled).all(axis=0)
    low[some], high[some] = np.nanpercentile(resampled[:, some], LEVEL, axis=0) if some.any() else ((), ())
    with np.errstate(invalid="ignore"):  # a subset none of whose items counts has no accuracy
        means = {name: 100 * (scored[name].to_numpy() @ of_scored) / counts for name in MEANS}
    incomplete = scored["incomplete"].to_numpy() @ of_scored
    found = [
        {
            **label,
            "accuracy": means["hit"][g],
            "low": 100 * low[g],
            "high": 100 * high[g],
            "questions": int(counts[g]),
            "incomplete": int(incomplete[g]),
            "uncounted": int(members[~counted, g].sum()),
            "unmatched": means["unmatched"][g],
            "other_language": means["other_language"][g],
        }
        for g, label in enumerate(labels)
    ]
    yield from found
    places = {tuple(label.values()): g for g, label in enumerate(labels)}
    for subset in non_english(found):
        languages = sorted({language for language, *_ in places} - {"en"})
        drawn = np.mean([resampled[:, places[language, *list(subset.values())[1:4]]] for language in languages], axis=0)
        # The mean of the languages inside each resample; one that draws no image of a language says nothing.
        known = drawn[~np.isnan(drawn)]
        below, above = 100 * np.percentile(known, LEVEL) if len(known) else (np.nan, np.nan)
        yield subset | {"low": below, "high": above}


def non_english(found: Sequence[Subset]) -> Iterator[Subset]:
    """Mean of the languages but English, as their lines are written, of each subset that all of them have.

    Counts are added up; there is no interval.
    """
    languages = {subset["language"] for subset in found} - {"en"}
    parts: dict[tuple[str, str, str], list[Subset]] = {}
    for subset in found:
        if subset["language"] != "en" and not np.isnan(subset["accuracy"]):
            parts.setdefault((subset["image_source"], subset["split"], subset["kind"]), []).append(subset)
    for (image_source, split, kind), subsets in parts.items():
        if len(subsets) < len(languages):
            continue
        label = {"language": NON_ENGLISH, "image_source": image_source, "split": split, "kind": kind}
        counts = {name: sum(subset[name] for subset in subsets) for name in ("questions", "incomplete", "uncounted")}
        means = {
            name: float(np.mean([round(float(subset[name]), DECIMALS) for subset in subsets]))
            for name in ("accuracy", "unmatched", "other_language")
        }
        yield label | {"accuracy": means["accuracy"], "low": np.nan, "high": np.nan} | counts | means


def sums(rows: pd.DataFrame, pairs: pd.DataFrame, benchmark: Benchmark, resamples: int, seed: int) -> Iterator[Subset]:
    """Points of MME: of every category, of each of the benchmark's sums, and of all sums together, by language.

    A category's points are its accuracy plus that of its images with both questions right, in per cent. `pairs` are
    items of the scoring pairs. Intervals resample images.

    Raises:
        UserError: a category of a sum has no question.
    """
    added = {"all": tuple(category for categories in benchmark.sums.values() for category in categories)}
    added |= {f"{L2}{name}": categories for name, categories in benchmark.sums.items()}
    for language, group in rows.assign(image=images(rows)).groupby("language", sort=False):
        found = sorted(set(group["category"]))
        lacking = [category for category in added["all"] if category not in found]
        if lacking:
            raise UserError(f"{benchmark.name}: sums: there is no question of category {lacking[0]} in {language}")
        both = pairs[pairs["language"] == language]
        # (1 + resamples, categories): what was observed, then what each resample gives.
        points = _points(group, both[both["counted"]], found, resamples, seed)
        for kind, categories in (added | {name: (name,) for name in found}).items():
            of_kind = group[group["category"].isin(categories)]
            total = points[:, [found.index(category) for category in categories]].sum(axis=1)
            low, high = np.nanpercentile(total[1:], LEVEL) if not np.isnan(total[1:]).all() else (np.nan, np.nan)
            yield {
                "language": language,
                "image_source": "all",
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


def relative(rows: pd.DataFrame, resamples: int, seed: int) -> Iterator[Subset]:
    """100 x mean rating of the predictions / mean rating of the references, of all and by category, by language.

    Graded `rows` without ratings are left out, counted as uncounted, and are the share `unmatched`. Intervals resample
    images.
    """
    for language, group in rows.assign(image=images(rows)).groupby("language", sort=False):
        for kind in ("all", *sorted(set(group["category"]))):
            of_kind = group if kind == "all" else group[group["category"] == kind]
            rated = of_kind.dropna(subset=["score", "reference_score"])
            score, low, high = _ratio(rated, resamples, seed) if len(rated) else (np.nan, np.nan, np.nan)
            yield {
                "language": language,
                "image_source": "all",
                "split": "all",
                "kind": kind,
                "accuracy": score,
                "low": low,
                "high": high,
                "questions": len(rated),
                "incomplete": 0,
                "uncounted": len(of_kind) - len(rated),
                "unmatched": 100 * (1 - len(rated) / len(of_kind)),
                "other_language": 0.0,
            }


def _ratio(rated: pd.DataFrame, resamples: int, seed: int) -> tuple[float, float, float]:
    image, names = pd.factorize(rated["image"], sort=True)
    answer, reference = (
        totals_by_image(image, len(names), rated[[column]].to_numpy()) for column in ("score", "reference_score")
    )
    low, high = intervals(answer, reference, image_weights(len(names), resamples, seed))
    return 100 * float(answer.sum() / reference.sum()), 100 * float(low[0]), 100 * float(high[0])


def _points(
    questions: pd.DataFrame, pairs: pd.DataFrame, categories: list[str], resamples: int, seed: int
) -> np.ndarray:
    names = sorted(set(questions["image"]))
    weights = np.vstack([np.ones(len(names)), image_weights(len(names), resamples, seed)])
    points = np.zeros((len(weights), len(categories)))
    for scored in (questions, pairs):
        image = scored["image"].map({name: place for place, name in enumerate(names)}).to_numpy(dtype=np.int64)
        members = np.column_stack([scored["category"] == category for category in categories]).astype(np.float64)
        hits = totals_by_image(image, len(names), members * scored[["hit"]].to_numpy())
        counts = totals_by_image(image, len(names), members)
        with np.errstate(invalid="ignore"):  # a category without a whole pair has no points
            points += 100 * (weights @ hits) / (weights @ counts)
    return points


def _resampled(scored: pd.DataFrame, members: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples, subsets): accuracies (0 to 1), NaN where a subset has no item or a resample draws none of it."""
    image, names = pd.factorize(scored["image"], sort=True)
    if not len(names):
        return np.full((resamples, members.shape[1]), np.nan)
    return resampled_accuracies(
        totals_by_image(image, len(names), members * scored[["hit"]].to_numpy()),
        totals_by_image(image, len(names), members),
        # The same draws for every control and every run at this seed, which can so be compared image by image.
        image_weights(len(names), resamples, seed),
    )


def _subsets(groups: pd.DataFrame) -> tuple[list[dict[str, str]], np.ndarray]:
    """Label the subsets that hold items and say which items belong to each: (items, subsets), 0 or 1.

    A single split, or image source without a name, is no subset of its own.
    """
    everyone = np.ones(len(groups), dtype=bool)
    languages = {name: (groups["language"] == name).to_numpy() for name in groups["language"].unique()}
    sources = {"all": everyone} | by_value(groups["image_source"])
    splits = by_value(groups["split"])
    splits = {"all": everyone} | (splits if len(splits) > 1 else {})
    labels, members = [], []
    for (language, a), (source, b), (split, c), (kind, d) in product(
        languages.items(), sources.items(), splits.items(), by_kind(groups).items()
    ):
        mask = a & b & c & d
        if mask.any():
            labels.append({"language": language, "image_source": source, "split": split, "kind": kind})
            members.append(mask)
    return labels, np.column_stack(members).astype(np.float64)
