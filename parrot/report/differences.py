"""A table of differences between runs: points, what could have been found, and p adjusted for all its claims."""

from __future__ import annotations

from collections.abc import Sequence

from parrot.evaluate.significance import holm
from parrot.report.grid import Rows
from parrot.report.scores import MISSING, Cell
from parrot.report.units import Comparison, Units

MEASURES = ("difference", "detectable", "p_holm")
EXACT = "†"


def rows(
    pairs: Sequence[tuple[str, str]],
    houses: Sequence[str],
    columns: Sequence[tuple[str, tuple[str, ...]]],
    units: Units,
) -> tuple[Rows, int]:
    """Three rows, as in `MEASURES`, for each house and each of `pairs` of runs; and how many claims have a p.

    `columns` are benchmarks with the languages that a column pools. Every cell is a claim of its own.
    """
    compared = {
        (house, f"{run} minus {other}"): [
            units.compare(run, other, benchmark, house, languages) for benchmark, languages in columns
        ]
        for house in houses
        for run, other in pairs
    }
    claims = [comparison for found in compared.values() for comparison in found if comparison is not None]
    p_values = holm([claim.p for claim in claims])
    adjusted = iter(p_values)
    table: Rows = []
    for (house, pair), found in compared.items():
        cells = [measured(comparison, next(adjusted)) if comparison else (MISSING,) * 3 for comparison in found]
        table += [((house, pair, name), tuple(each[i] for each in cells)) for i, name in enumerate(MEASURES)]
    return table, sum(p == p for p in p_values)


def measured(comparison: Comparison, p: float) -> tuple[Cell, Cell, Cell]:
    """Cells as in `MEASURES`, with the adjusted `p`."""
    found = comparison.difference
    mark = EXACT if comparison.exact else ""
    return (
        Cell(found.points, found.low, found.high),
        Cell(found.detectable),
        # Not a number where no resample differs from another: the bootstrap cannot say.
        MISSING if p != p else Cell(p, text=p_value(p) + mark),
    )


def p_value(p: float) -> str:
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def note(interval: str, claims: int, several_seeds: Sequence[str], apart: str = "") -> str:
    """How to read the table; `several_seeds` names runs with their seeds, `apart` what is not among its claims."""
    seeds = "Runs at one seed say nothing about other seeds."
    if several_seeds:
        means = f"Means over seeds, which are resampled too: {'; '.join(several_seeds)}."
        seeds = f"{means} {seeds}"
    adjusted = f"; adjusted by Holm for the {claims} comparisons of this table{apart}" if claims > 1 else ""
    return (
        f"Points of accuracy; {interval}, both runs on the same pictures. The minimum detectable effect is the true "
        "difference that so many pictures, and seeds, would show in four cases of five, at 5 % for one comparison. "
        f"p is of no difference: by McNemar's exact test where marked {EXACT} (one language, one question a picture), "
        f"else by the bootstrap's standard error{adjusted}. {seeds}"
    )
