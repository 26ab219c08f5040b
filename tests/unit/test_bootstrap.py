"""Intervals come from pictures, not from questions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from parrot.evaluate.bootstrap import intervals, paired_difference, picture_weights, totals_by_picture

PICTURES = 200


def run(seed: int, accuracy: float, languages: str) -> pd.DataFrame:
    """Units of a run that answers a picture rightly in all `languages` or in none."""
    hits = (np.random.default_rng(seed).random(PICTURES) < accuracy).astype(int)
    one = pd.DataFrame({"index": range(PICTURES), "picture": [f"p{n}" for n in range(PICTURES)], "hit": hits})
    return pd.concat([one.assign(language=language) for language in languages], ignore_index=True)


def test_weights_draw_as_many_pictures_as_there_are() -> None:
    weights = picture_weights(7, 50, seed=1)
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert np.array_equal(weights, picture_weights(7, 50, seed=1))
    assert not np.array_equal(weights, picture_weights(7, 50, seed=2))


def test_totals() -> None:
    totals = totals_by_picture(np.array([0, 1, 1]), 3, np.array([[1.0, 1], [0, 1], [1, 1]]))
    assert totals.tolist() == [[1, 1], [1, 2], [0, 0]]


def test_interval_has_the_binomial_width() -> None:
    hits = np.repeat([[1.0], [0.0]], PICTURES // 2, axis=0)
    low, high = intervals(hits, np.ones_like(hits), picture_weights(PICTURES, 4000, seed=0))
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / PICTURES), rel=0.08)


def test_resamples_without_a_picture_of_the_subset_are_left_out() -> None:
    hits, counts = np.array([[1.0], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]])
    low, high = intervals(hits, counts, picture_weights(3, 100, seed=0))
    assert (low[0], high[0]) == (1, 1)


def test_more_languages_of_the_same_pictures_add_no_certainty() -> None:
    one = paired_difference(run(1, 0.8, "a"), run(2, 0.6, "a"))
    six = paired_difference(run(1, 0.8, "abcdef"), run(2, 0.6, "abcdef"))
    assert (six.points, six.low, six.high, six.detectable) == pytest.approx(
        (one.points, one.low, one.high, one.detectable)
    )
    assert (six.questions, six.pictures, one.questions) == (6 * PICTURES, PICTURES, PICTURES)


def test_difference_and_detectable_effect() -> None:
    a, b = run(1, 0.8, "a"), run(2, 0.6, "a")
    differences = a["hit"] - b["hit"]
    result = paired_difference(a, b, resamples=4000)
    assert result.points == pytest.approx(100 * differences.mean())
    assert result.low < result.points < result.high
    standard_error = 100 * differences.std() / np.sqrt(PICTURES)
    assert result.detectable == pytest.approx(2.8 * standard_error, rel=0.05)


def test_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="different questions"):
        paired_difference(run(1, 0.5, "ab"), run(1, 0.5, "a"))
