"""Shannon entropy of a router's weights, and their mutual information with a label of the questions; in bits.

A router gives question q the weights w(expert | q). Read as a distribution over experts, they make with a label g of
the questions (its language, its kind) the joint distribution p(g) w(expert | g), where w(expert | g) is the mean over
the questions of g. Then

    I(expert; g) = H(sum_g p(g) w(. | g)) - sum_g p(g) H(w(. | g)),

between 0 (the label says nothing of the weights) and the smaller of H(g) and log2 of the number of experts.

Any finite set of questions gives more than 0, since the means of groups differ by chance. How much is measured by
permuting the labels, which leaves the weights and the sizes as they are and takes the relation away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import entropy

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
        """Whether permuted labels reach this value, or more, at least once in twenty."""
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
    keeps what the question and its picture do to the weights.
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
    weights: np.ndarray, kinds: np.ndarray, pictures: np.ndarray, seed: int, permutations: int = PERMUTATIONS
) -> Information:
    """I(expert; question kind) of weights (questions, E), with `kinds` and `pictures` (questions,).

    Questions count equally. By chance: the kinds are dealt anew to whole questions, those of one kind about one
    picture together, since they are not independent.
    """
    block, _ = pd.factorize(pd.MultiIndex.from_arrays([pictures, kinds]))
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
    """The first value, measured, against all the others, by permuted labels."""
    measured, *permuted = bits
    return Information(float(measured), float(np.mean(permuted)), float(np.percentile(permuted, PERCENTILE)))
