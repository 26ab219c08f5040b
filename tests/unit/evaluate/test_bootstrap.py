"""Intervals come from images, not from questions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from parrot.evaluate.bootstrap import accuracy, image_weights, intervals, paired_difference, totals_by_image

IMAGES = 200


def run(seed: int, accuracy: float, languages: str) -> dict[int, pd.DataFrame]:
    """Units, by its one seed, of a run that answers an image rightly in all `languages` or in none."""
    hits = (np.random.default_rng(seed).random(IMAGES) < accuracy).astype(int)
    one = pd.DataFrame({"index": range(IMAGES), "image": [f"p{n}" for n in range(IMAGES)], "hit": hits})
    return {0: pd.concat([one.assign(language=language) for language in languages], ignore_index=True)}


def test_weights_draw_as_many_images_as_there_are() -> None:
    weights = image_weights(7, 50, seed=1)
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert np.array_equal(weights, image_weights(7, 50, seed=1))
    assert not np.array_equal(weights, image_weights(7, 50, seed=2))


def test_totals() -> None:
    totals = totals_by_image(np.array([0, 1, 1]), 3, np.array([[1.0, 1], [0, 1], [1, 1]]))
    assert totals.tolist() == [[1, 1], [1, 2], [0, 0]]


def test_interval_has_the_binomial_width() -> None:
    hits = np.repeat([[1.0], [0.0]], IMAGES // 2, axis=0)
    low, high = intervals(hits, np.ones_like(hits), image_weights(IMAGES, 4000, seed=0))
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.25 / IMAGES), rel=0.08)


def test_resamples_without_an_image_of_the_subset_are_left_out() -> None:
    hits, counts = np.array([[1.0], [0.0], [0.0]]), np.array([[1.0], [0.0], [0.0]])
    low, high = intervals(hits, counts, image_weights(3, 100, seed=0))
    assert (low[0], high[0]) == (1, 1)


def test_more_languages_of_the_same_images_add_no_certainty() -> None:
    one = paired_difference(run(1, 0.8, "a"), run(2, 0.6, "a"))
    six = paired_difference(run(1, 0.8, "abcdef"), run(2, 0.6, "abcdef"))
    assert (six.points, six.low, six.high, six.detectable) == pytest.approx(
        (one.points, one.low, one.high, one.detectable)
    )
    assert (six.questions, six.images, one.questions) == (6 * IMAGES, IMAGES, IMAGES)


def test_difference_and_detectable_effect() -> None:
    a, b = run(1, 0.8, "a"), run(2, 0.6, "a")
    differences = a[0]["hit"] - b[0]["hit"]
    result = paired_difference(a, b, resamples=4000)
    assert result.points == pytest.approx(100 * differences.mean())
    assert result.low < result.points < result.high
    standard_error = 100 * differences.std() / np.sqrt(IMAGES)
    assert result.standard_error == pytest.approx(standard_error, rel=0.05)
    assert result.detectable == pytest.approx(2.8016 * result.standard_error, rel=1e-4)
    assert result.p == pytest.approx(norm.sf(result.points / result.standard_error) * 2)


def test_accuracy_of_one_run_and_what_no_resampling_can_tell() -> None:
    a, b = run(1, 0.8, "a"), run(2, 0.6, "a")
    assert accuracy(a).points - accuracy(b).points == pytest.approx(paired_difference(a, b).points)
    assert paired_difference(a, a).p == 1
    never, always = run(0, 0, "a"), run(0, 1, "a")
    assert np.isnan(paired_difference(always, never).p)


def asked(language: str, images: int, hit: int) -> pd.DataFrame:
    index = range(images)
    table = pd.DataFrame({"index": index, "image": [f"p{n}" for n in index], "hit": hit})
    return table.assign(language=language)


def test_each_language_counts_alike_however_many_questions_it_has() -> None:
    right, wrong = asked("zh", 100, hit=1), asked("tr", 10, hit=0)
    units = {0: pd.concat([right, wrong], ignore_index=True)}
    found = accuracy(units)
    assert (found.points, found.low, found.high) == (50, 50, 50)
    assert (found.questions, found.images) == (110, 100)
    nothing_right = {0: units[0].assign(hit=0)}
    assert paired_difference(units, nothing_right).points == 50
    seeds = units | {1: nothing_right[0]}
    assert accuracy(seeds).points == 25


def test_resamples_without_a_language_say_nothing_about_the_mean() -> None:
    right, wrong = asked("zh", 3, hit=1), asked("tr", 1, hit=0)
    found = accuracy({0: pd.concat([right, wrong], ignore_index=True)}, resamples=100)
    assert (found.low, found.high, found.standard_error) == (50, 50, 0)


def test_languages_that_ask_about_the_same_images_are_as_if_pooled() -> None:
    rng = np.random.default_rng(0)
    units = run(1, 0.8, "abc")[0].assign(hit=rng.integers(0, 2, 3 * IMAGES))
    found = accuracy({0: units}, resamples=500, seed=3)
    place, _ = pd.factorize(units["image"], sort=True)
    hits = totals_by_image(place, IMAGES, units[["hit"]].to_numpy())
    low, high = intervals(hits, np.full_like(hits, 3), image_weights(IMAGES, 500, seed=3))
    assert (found.low, found.high) == pytest.approx((100 * low[0], 100 * high[0]))
    assert found.points == pytest.approx(100 * units["hit"].mean())


@pytest.mark.parametrize(("languages", "better"), [("abc", "a"), ("abc", "ab"), ("abcdefg", "abc"), ("abcdef", "a")])
def test_a_run_better_on_every_image_alike_leaves_nothing_to_resample(languages: str, better: str) -> None:
    """The answers are right in the languages `better` and wrong in the others, those of the other run all wrong."""
    (all_wrong,) = run(0, 0, languages).values()
    some_right = all_wrong.assign(hit=all_wrong["language"].isin(list(better)).astype(int))
    found = paired_difference({0: some_right}, {0: all_wrong})
    assert found.points == pytest.approx(100 * len(better) / len(languages))
    assert (found.standard_error, found.detectable) == (0, 0)
    assert found.low == found.points == found.high
    assert np.isnan(found.p)


def several(seeds: tuple[int, ...], levels: tuple[float, ...]) -> dict[int, pd.DataFrame]:
    """A run at several seeds, each at its own level of accuracy."""
    return {seed: run(10 * place, level, "a")[0] for place, (seed, level) in enumerate(zip(seeds, levels, strict=True))}


def test_seeds_that_differ_widen_the_interval_and_take_students_t() -> None:
    alike = paired_difference(several((0, 1, 2), (0.7,) * 3), several((0, 1, 2), (0.7,) * 3))
    assert (alike.points, alike.standard_error) == (0, 0)
    levels = (0.5, 0.7, 0.9)
    unlike = accuracy(several((0, 1, 2), levels))
    spread = 100 * np.std(levels, ddof=1) / np.sqrt(3)
    # Images add little to the seeds' part here.
    assert spread < unlike.standard_error < 1.2 * spread
    assert unlike.high - unlike.low == pytest.approx(2 * student.ppf(0.975, 2) * unlike.standard_error, rel=0.15)
    assert unlike.detectable > 4 * unlike.standard_error


def test_the_same_seeds_are_drawn_together_and_others_apart() -> None:
    # The second run is the first, only worse by the same answers whatever the seed.
    better, worse = several((0, 1, 2), (0.5, 0.7, 0.9)), several((0, 1, 2), (0.5, 0.7, 0.9))
    worse = {seed: units.assign(hit=units["hit"] * (units["index"] % 10 != 0)) for seed, units in worse.items()}
    same = paired_difference(better, worse)
    assert same == paired_difference(better, dict(reversed(worse.items())))
    other = paired_difference(better, {seed + 3: units for seed, units in worse.items()})
    assert other.points == pytest.approx(same.points)
    assert other.standard_error > 4 * same.standard_error


def test_several_seeds_against_one() -> None:
    found = paired_difference(several((0, 1, 2), (0.5, 0.7, 0.9)), run(7, 0.6, "a"))
    assert found.points == pytest.approx(100 * np.mean([0.5, 0.7, 0.9]) - 60, abs=6)
    assert found.standard_error > accuracy(several((0, 1, 2), (0.5, 0.7, 0.9))).standard_error


def test_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="different questions"):
        paired_difference(run(1, 0.5, "ab"), run(1, 0.5, "a"))
