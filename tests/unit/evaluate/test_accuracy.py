"""What one unit is: a question, a group of rotations, or a pair."""

from __future__ import annotations

import pandas as pd
import pytest

from parrot.evaluate.metrics import scorings


def rows(*cells: tuple[int, int, str], options: int = 2, language: str = "en") -> pd.DataFrame:
    """Graded rows of (index, hit, pair_id)."""
    table = pd.DataFrame(cells, columns=["index", "hit", "pair_id"])
    table["picture"] = "p" + (table["index"] % 1_000_000).astype(str)
    return table.assign(language=language, options=options, unmatched=1.0 - table["hit"], other_language=0.0)


ROTATED = rows((1, 1, ""), (1_000_001, 1, ""), (2, 1, ""), (1_000_002, 0, ""))


def found(groups: pd.DataFrame, *columns: str) -> list[list]:
    return groups[list(columns)].to_numpy().tolist()


def test_vanilla_counts_every_row_or_of_rotations_the_first() -> None:
    assert found(units(rows((1, 1, ""), (2, 0, "")), "vanilla", "vanilla"), "index", "hit", "counted") == [
        [1, 1, True],
        [2, 0, True],
    ]
    assert found(units(ROTATED, "vanilla", "circular"), "index", "hit", "counted") == [[1, 1, True], [2, 1, True]]


def test_vanilla_leaves_rows_out_only_where_the_benchmark_is_circular() -> None:
    table = rows((5, 1, ""), (1_000_005, 0, ""), (7, 1, "a"), (2_000_007, 1, "a"))
    assert found(units(table, "vanilla", "vanilla"), "index", "hit", "counted") == [
        [5, 1, True],
        [7, 1, True],
        [1_000_005, 0, True],
        [2_000_007, 1, True],
    ]
    assert found(units(table, "pairs", "vanilla"), "index", "hit", "counted") == [[7, 1, True]]
    assert found(units(table, "circular", "vanilla"), "index", "hit", "counted") == [[5, 0, True], [7, 1, True]]


def test_units_without_a_first_rotation_are_there_and_do_not_count() -> None:
    table = rows((1, 1, "a"), (1_000_001, 1, "a"), (1_000_002, 1, "b"), (2_000_002, 1, "b"))
    for scoring, expected in (("vanilla", [True, False]), ("circular", [True, False]), ("pairs", [False, False])):
        assert units(table, scoring, "circular")["counted"].tolist() == expected


def test_circular_groups_hit_where_every_rotation_does() -> None:
    groups = units(ROTATED, "circular", "circular")
    assert found(groups, "index", "hit", "unmatched", "incomplete", "counted") == [
        [1, 1, 0.0, False, True],
        [2, 0, 0.5, False, True],
    ]


def test_circular_groups_of_several_languages_stay_apart() -> None:
    both = pd.concat([ROTATED, ROTATED.assign(hit=0, language="pt")])
    assert found(units(both, "circular", "circular"), "language", "index", "hit") == [
        ["en", 1, 1],
        ["pt", 1, 0],
        ["en", 2, 0],
        ["pt", 2, 0],
    ]


def test_a_group_counts_by_the_rotations_that_are_there_and_not_without_the_first() -> None:
    table = rows((1, 1, ""), (1_000_001, 1, ""), (2_000_001, 0, ""), (2, 1, ""), (1_000_003, 1, ""))
    groups = units(table, "circular", "circular")
    assert found(groups, "index", "hit", "incomplete", "counted") == [
        [1, 0, False, True],
        [2, 1, True, True],
        [1_000_003, 1, True, False],
    ]


def test_a_pair_hits_where_both_rows_do_and_counts_where_there_are_two() -> None:
    pairs = units(rows((1, 1, "a"), (2, 1, "a"), (3, 1, "b"), (4, 0, "b"), (5, 1, "c"), (6, 1, "")), "pairs", "pairs")
    assert found(pairs, "index", "hit", "unmatched", "counted") == [
        [1, 1, 0.0, True],
        [3, 0, 0.5, True],
        [5, 1, 0.0, False],
    ]


def test_pairs_that_rotate_count_once() -> None:
    table = rows((1, 1, "a"), (2, 1, "a"), (1_000_001, 0, "a"), (1_000_002, 0, "a"))
    assert found(units(table, "pairs", "circular"), "index", "hit", "counted") == [[1, 1, True]]


def test_no_pair_at_all_is_no_unit() -> None:
    assert units(rows((1, 1, "")), "pairs", "pairs").empty


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
