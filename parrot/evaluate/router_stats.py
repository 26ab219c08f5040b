"""What the router chose for every question of a benchmark, and how much that tells of language and kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import entropy

from parrot.config.benchmarks import Benchmark, Control, prediction_file
from parrot.config.catalog import Language
from parrot.data.tsv import ROTATION
from parrot.errors import UserError
from parrot.evaluate.predictions import read_predictions

# Weights are written with six decimals: those of many experts sum to 1 only about.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Routing:
    """The router's weights for the questions of one benchmark; E is 0 for a run without experts.

    Attributes:
        weights: (questions, languages, E), distributions over experts; a circular question has its rotations' mean.
        entropies: (questions, languages), entropy in bits of the weights; a circular question has its rotations' mean.
        kinds: (questions,), the benchmark's category; "" where it has none.
        images: (questions,), equal where questions share an image.
    """

    weights: np.ndarray
    entropies: np.ndarray
    kinds: np.ndarray
    images: np.ndarray

    @property
    def experts(self) -> int:
        """The number of experts."""
        return self.weights.shape[-1]


def read_routing(benchmark: Benchmark, folder: Path, control: Control = "none") -> Routing:
    """Read the routing from the predictions of `benchmark` in `folder`, in all languages of the benchmark.

    Raises:
        UserError: a file is missing or malformed, or the languages differ in questions or number of experts.
    """
    paths = [prediction_file(folder, file, control) for file in benchmark.files.values()]
    tables = [_read(benchmark, language, folder, control) for language in benchmark.files]
    for path, table in zip(paths, tables, strict=True):
        if set(table["question"]) != set(tables[0]["question"]):
            raise UserError(f"{path}: index: expected the same questions as in {paths[0]}")
        if len(table["weights"].iloc[0]) != len(tables[0]["weights"].iloc[0]):
            raise UserError(f"{path}: router_weights: expected as many experts as in {paths[0]}")
    means = [_by_question(table) for table in tables]
    described = tables[0].drop_duplicates("question").sort_values("question")
    return Routing(
        weights=np.stack([weights for weights, _ in means], axis=1),
        entropies=np.stack([bits for _, bits in means], axis=1),
        kinds=described["kind"].to_numpy(dtype=str),
        images=described["image_sha256"].to_numpy(dtype=str),
    )


def _read(benchmark: Benchmark, language: Language, folder: Path, control: Control) -> pd.DataFrame:
    """Return the rows of a file: question, kind, image and weights."""
    path = prediction_file(folder, benchmark.files[language], control)
    table = read_predictions(benchmark, language, folder, control, ("router_weights",))
    weights = [_parse(text, path, index) for index, text in zip(table["index"], table["router_weights"], strict=True)]
    for index, row in zip(table["index"], weights, strict=True):
        if len(row) != len(weights[0]):
            said = f"expected {len(weights[0])} weights as in the first row, found {len(row)}"
            raise UserError(f"{path}: row {index}: router_weights: {said}")
    index = table["index"].astype(np.int64)
    # Without images in the predictions (files made elsewhere) every question stands for itself.
    described = {"kind": table.get("category", ""), "image_sha256": table.get("image_sha256", table["index"])}
    question = index % ROTATION if benchmark.scoring == "circular" else index
    return pd.DataFrame({"question": question, **described, "weights": weights})


def _parse(text: str, path: Path, index: str) -> np.ndarray:
    """Weights (E,) that sum to 1, or (0,) of a row without any."""
    try:
        weights = np.array(json.loads(text or "[]"), dtype=np.float64)
    except (ValueError, TypeError):
        weights = np.array(np.nan)
    if weights.shape == (0,):
        return weights
    # Written so that it refuses NaN.
    if weights.ndim != 1 or not (weights.min() >= 0 and abs(weights.sum() - 1) <= TOLERANCE):
        raise UserError(f"{path}: row {index}: router_weights: expected a JSON list of weights that sum to 1")
    return weights / weights.sum()


def _by_question(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean weights (questions, E) and mean entropies (questions,), in the order of the questions' numbers."""
    _, question = np.unique(table["question"].to_numpy(), return_inverse=True)
    rows = np.stack(table["weights"].to_list())
    counts = np.bincount(question)
    totals = np.zeros((len(counts), rows.shape[1]))
    np.add.at(totals, question, rows)
    return totals / counts[:, None], np.bincount(question, weights=entropies(rows)) / counts


PERMUTATIONS = 1000
PERCENTILE = 95
# Predictions hold weights of six decimals; what those tell apart is coarser than this.
DECIMALS = 10


@dataclass(frozen=True)
class Information:
    """Mutual information, and what permuted labels give: the mean and the 95th percentile; all in bits."""

    bits: float
    chance_mean: float
    chance_high: float

    @property
    def within_chance(self) -> bool:
        """Tell whether permuted labels reach this value, or more, at least once in twenty."""
        return self.bits <= self.chance_high


def entropies(weights: np.ndarray) -> np.ndarray:
    """H in bits of each distribution along the last axis: (..., E) to (...)."""
    return entropy(weights, base=2, axis=-1)


def mutual_information(given: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """I(expert; label) in bits: (..., G, E) mean weights of each label and (..., G) shares p(label) to (...)."""
    mixed = np.einsum("...ge,...g->...e", given, shares)
    bits = entropies(mixed) - (shares * entropies(given)).sum(axis=-1)
    # Differences of equal entropies come out as some -1e-16.
    return np.maximum(np.round(bits, DECIMALS), 0.0)


def by_language(weights: np.ndarray, seed: int, permutations: int = PERMUTATIONS) -> Information:
    """I(expert; language) of weights (questions, languages, E), where every language asks the same questions.

    Languages count equally. By chance: the languages of each question are permuted, question by question, which
    keeps what the question and its image do to the weights.
    """
    questions, languages, _ = weights.shape
    rng = np.random.default_rng(seed)
    own = np.tile(np.arange(languages), (questions, 1))
    permuted = [
        np.take_along_axis(weights, rng.permuted(own, axis=1)[..., None], axis=1).mean(axis=0)
        for _ in range(permutations)
    ]
    given = np.stack([weights.mean(axis=0), *permuted])
    return _against_chance(mutual_information(given, np.full((len(given), languages), 1 / languages)))


def by_kind(
    weights: np.ndarray, kinds: np.ndarray, images: np.ndarray, seed: int, permutations: int = PERMUTATIONS
) -> Information:
    """I(expert; question kind) of weights (questions, E), with `kinds` and `images` (questions,).

    Questions count equally. By chance: the kinds are dealt anew to whole questions, those of one kind about one
    image together, since they are not independent.
    """
    block, _ = pd.factorize(pd.MultiIndex.from_arrays([images, kinds]))
    _, kind = np.unique(kinds, return_inverse=True)
    blocks = block.max() + 1
    totals = np.zeros((blocks, weights.shape[1]))
    np.add.at(totals, block, weights)
    counts = np.bincount(block)
    labels = np.empty(blocks, dtype=np.int64)
    labels[block] = kind
    rng = np.random.default_rng(seed)
    given, shares = [], []
    for dealt in (labels, *(rng.permutation(labels) for _ in range(permutations))):
        members = np.equal.outer(np.arange(kind.max() + 1), dealt).astype(np.float64)
        sizes = members @ counts
        given.append(members @ totals / sizes[:, None])
        shares.append(sizes / len(weights))
    return _against_chance(mutual_information(np.stack(given), np.stack(shares)))


def _against_chance(bits: np.ndarray) -> Information:
    """Compare the first value, measured, with all the others, by permuted labels."""
    measured, *permuted = bits
    return Information(float(measured), float(np.mean(permuted)), float(np.percentile(permuted, PERCENTILE)))
