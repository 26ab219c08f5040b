"""What one item is: a question, a group of rotations, or a pair."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from parrot.evaluate.circular import items, scorings
from parrot.evaluate.metrics import accuracies, non_english


def rows(*cells: tuple[int, int, str], options: int = 2, language: str = "en") -> pd.DataFrame:
    """Graded rows of (index, hit, pair_id)."""
    table = pd.DataFrame(cells, columns=["index", "hit", "pair_id"])
    table["image_sha256"] = "p" + (table["index"] % 1_000_000).astype(str)
    return table.assign(language=language, options=options, unmatched=1.0 - table["hit"], other_language=0.0)


ROTATED = rows((1, 1, ""), (1_000_001, 1, ""), (2, 1, ""), (1_000_002, 0, ""))


def found(groups: pd.DataFrame, *columns: str) -> list[list]:
    return groups[list(columns)].to_numpy().tolist()


def test_vanilla_counts_every_row_or_of_rotations_the_first() -> None:
    assert found(items(rows((1, 1, ""), (2, 0, "")), "vanilla", "vanilla"), "index", "hit", "counted") == [
        [1, 1, True],
        [2, 0, True],
    ]
    assert found(items(ROTATED, "vanilla", "circular"), "index", "hit", "counted") == [[1, 1, True], [2, 1, True]]


def test_vanilla_leaves_rows_out_only_where_the_benchmark_is_circular() -> None:
    table = rows((5, 1, ""), (1_000_005, 0, ""), (7, 1, "a"), (2_000_007, 1, "a"))
    assert found(items(table, "vanilla", "vanilla"), "index", "hit", "counted") == [
        [5, 1, True],
        [7, 1, True],
        [1_000_005, 0, True],
        [2_000_007, 1, True],
    ]
    assert found(items(table, "pairs", "vanilla"), "index", "hit", "counted") == [[7, 1, True]]
    assert found(items(table, "circular", "vanilla"), "index", "hit", "counted") == [[5, 0, True], [7, 1, True]]


def test_items_without_a_first_rotation_are_there_and_do_not_count() -> None:
    table = rows((1, 1, "a"), (1_000_001, 1, "a"), (1_000_002, 1, "b"), (2_000_002, 1, "b"))
    for scoring, expected in (("vanilla", [True, False]), ("circular", [True, False]), ("pairs", [False, False])):
        assert items(table, scoring, "circular")["counted"].tolist() == expected


def test_circular_groups_hit_where_every_rotation_does() -> None:
    groups = items(ROTATED, "circular", "circular")
    assert found(groups, "index", "hit", "unmatched", "incomplete", "counted") == [
        [1, 1, 0.0, False, True],
        [2, 0, 0.5, False, True],
    ]


def test_circular_groups_of_several_languages_stay_apart() -> None:
    both = pd.concat([ROTATED, ROTATED.assign(hit=0, language="pt")])
    assert found(items(both, "circular", "circular"), "language", "index", "hit") == [
        ["en", 1, 1],
        ["pt", 1, 0],
        ["en", 2, 0],
        ["pt", 2, 0],
    ]


def test_a_group_counts_by_the_rotations_that_are_there_and_not_without_the_first() -> None:
    table = rows((1, 1, ""), (1_000_001, 1, ""), (2_000_001, 0, ""), (2, 1, ""), (1_000_003, 1, ""))
    groups = items(table, "circular", "circular")
    assert found(groups, "index", "hit", "incomplete", "counted") == [
        [1, 0, False, True],
        [2, 1, True, True],
        [1_000_003, 1, True, False],
    ]


def test_a_pair_hits_where_both_rows_do_and_counts_where_there_are_two() -> None:
    pairs = items(rows((1, 1, "a"), (2, 1, "a"), (3, 1, "b"), (4, 0, "b"), (5, 1, "c"), (6, 1, "")), "pairs", "pairs")
    assert found(pairs, "index", "hit", "unmatched", "counted") == [
        [1, 1, 0.0, True],
        [3, 0, 0.5, True],
        [5, 1, 0.0, False],
    ]


def test_pairs_that_rotate_count_once() -> None:
    table = rows((1, 1, "a"), (2, 1, "a"), (1_000_001, 0, "a"), (1_000_002, 0, "a"))
    assert found(items(table, "pairs", "circular"), "index", "hit", "counted") == [[1, 1, True]]


def test_no_pair_at_all_is_no_item() -> None:
    assert items(rows((1, 1, "")), "pairs", "pairs").empty


@pytest.mark.parametrize(
    ("table", "shown", "expected"),
    [
        (rows((1, 1, ""), (2, 1, "")), "vanilla", ("vanilla",)),
        (ROTATED, "circular", ("circular", "vanilla")),
        (rows((1, 1, "a"), (2, 1, "a")), "vanilla", ("vanilla", "pairs")),
        (rows((1, 1, "a"), (1_000_001, 1, "a")), "pairs", ("pairs", "vanilla", "circular")),
        # What the entry asks for is counted even where nothing in the file is rotated.
        (
            rows(
                (1, 1, ""),
            ),
            "circular",
            ("circular", "vanilla"),
        ),
    ],
)
def test_every_scoring_that_the_rows_allow_beginning_with_the_one_shown(
    table: pd.DataFrame, shown: str, expected: tuple[str, ...]
) -> None:
    assert scorings(table, shown) == expected


def asked(language: str, images: int, hit: int) -> pd.DataFrame:
    return rows(*((n, hit, "") for n in range(images)), language=language)


def others(table: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """The line of all questions in all languages but English."""
    table = table.assign(**dict.fromkeys(("image_source", "split", "difficulty", "unseen_in_language"), ""))
    groups = items(table.assign(category="", l2_category=""), "vanilla", "vanilla")
    (line,) = [
        found
        for found in accuracies(groups, resamples, seed=0)
        if (found["language"], found["kind"]) == ("non_english", "all")
    ]
    return line


def test_the_mean_over_languages_weighs_them_alike_and_so_does_its_interval() -> None:
    """100 of 100 in Chinese and 0 of 10 in Turkish are 50, not 90.9, whatever is drawn; English is left out."""
    found = others(pd.concat([asked("en", 100, 0), asked("zh", 100, 1), asked("tr", 10, 0)], ignore_index=True), 200)
    assert [found[name] for name in ("accuracy", "low", "high", "questions", "unmatched")] == [50, 50, 50, 110, 50]


def test_the_interval_of_the_mean_follows_the_images_that_are_drawn() -> None:
    table = pd.concat([asked("zh", 4, 1), asked("tr", 4, 0)], ignore_index=True)
    table.loc[0, "hit"] = 0
    found = others(table, 2000)
    # Of four images drawn the first is drawn at most three times in 97.5 % of cases, and often never.
    assert [found[name] for name in ("accuracy", "low", "high")] == [37.5, 12.5, 50]


def test_a_mean_over_languages_is_of_what_is_written_and_of_subsets_that_all_have() -> None:
    numbers = {
        "image_source": "all",
        "split": "all",
        "incomplete": 0,
        "uncounted": 1,
        "unmatched": 0.0,
        "other_language": 0.0,
    }
    lines = [
        numbers | {"language": language, "kind": kind, "accuracy": accuracy, "questions": 3}
        for language, kind, accuracy in (
            ("en", "all", 0.0),
            ("zh", "all", 100 / 3),
            ("tr", "all", 200 / 3),
            ("zh", "hard", 50.0),
            ("zh", "OCR", 50.0),
            ("tr", "OCR", float("nan")),
        )
    ]
    (found,) = non_english(lines)
    assert (found["language"], found["kind"], found["accuracy"]) == ("non_english", "all", (33.3333 + 66.6667) / 2)
    assert (found["questions"], found["uncounted"]) == (6, 2)
