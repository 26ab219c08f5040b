"""Uncertainty against the truth: data sets drawn many times over show how much a result really varies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from parrot.evaluate.bootstrap import paired_difference

IMAGES, LANGUAGES = 300, "abcde"
# Two runs right at 82 % of the questions: independent questions would make their difference vary by 1.4 points. With
# this correlation of an image's answers it varies by 1.4 * sqrt(1 + 4 * 0.367) = 2.2.
LEVEL, CORRELATION = 0.82, 0.367
DATA_SETS, BOOTSTRAPPED = 400, 12


def hits(rng: np.random.Generator) -> np.ndarray:
    """(IMAGES, languages): answers of a run to which an image is easy or hard, in all languages alike."""
    size = 1 / CORRELATION - 1  # a + b of a Beta-binomial distribution with this intraclass correlation
    easy = rng.beta(LEVEL * size, (1 - LEVEL) * size, size=(IMAGES, 1))
    return (rng.random((IMAGES, len(LANGUAGES))) < easy).astype(int)


def units(answers: np.ndarray, independent: bool = False) -> dict[int, pd.DataFrame]:
    index, language = (axis.ravel() for axis in np.indices(answers.shape))
    table = pd.DataFrame({"index": index, "language": np.array(list(LANGUAGES))[language], "hit": answers.ravel()})
    table["image"] = table["index"].astype(str) + (table["language"] if independent else "")
    return {0: table}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_images_give_the_true_spread_and_independent_questions_do_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data_sets = [(hits(rng), hits(rng)) for _ in range(DATA_SETS)]
    true = 100 * np.std([a.mean() - b.mean() for a, b in data_sets], ddof=1)
    by_image, naive = (
        np.mean(
            [
                paired_difference(units(a, independent), units(b, independent), resamples=500).standard_error
                for a, b in data_sets[:BOOTSTRAPPED]
            ]
        )
        for independent in (False, True)
    )
    assert true == pytest.approx(2.2, abs=0.25)
    assert by_image == pytest.approx(true, rel=0.1)
    assert naive == pytest.approx(1.4, abs=0.05)


def test_seeds_as_a_second_level_give_the_true_spread_and_cover_it() -> None:
    """Two runs, equal but for their three seeds, whose levels vary by 3 points."""
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        easy = 0.3 * rng.normal(0, 0.8, size=(150, 1))
        levels = 0.6 + 0.03 * rng.normal(size=6)
        right = [units((rng.random((150, 1)) < level + easy).astype(int))[0] for level in levels]
        found.append(paired_difference(dict(enumerate(right[:3])), dict(enumerate(right[3:])), resamples=200))
    true = np.std([estimate.points for estimate in found], ddof=1)
    error = np.sqrt(np.mean([estimate.standard_error**2 for estimate in found]))
    # Where the seeds' part comes out below 0 it is taken for 0, so that it is somewhat large on average.
    assert true < error < 1.35 * true
    assert 0.9 < np.mean([estimate.low <= 0 <= estimate.high for estimate in found]) < 0.995
