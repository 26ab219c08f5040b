"""What `parrot overlap` writes: copies as a list and a page to look at, and accuracies with and without them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

from parrot.config.benchmarks import SCORINGS, Benchmark, Scoring
from parrot.config.settings import OverlapSettings
from parrot.data.fingerprints import SIDE
from parrot.data.overlap import Copy
from parrot.evaluate.circular import items
from parrot.evaluate.graded_csv import select
from parrot.io import csv_tables
from parrot.io.files import atomic_write
from parrot.report.grid import MISSING, Cell, Grid, to_csv
from parrot.report.labels import WORDS, environment
from parrot.report.render import to_markdown

COLUMNS = (
    *("benchmark", "languages", "image_sha256", "row", "training_file", "sample", "training_image", "distance"),
    "correlation",
)
SHOWN = 2000  # copies on the page, at most; about 6 KB each
IDENTITY = ("benchmark", "run", "language")
MEASURES = ("accuracy", "questions", "accuracy_without", "questions_without", "overlapping")
WITHOUT = {"without": "without images that were trained on", "overlapping": "on images that were trained on"}


def write_copies(
    copies: Sequence[Copy], counts: Mapping[str, int], run: str, settings: OverlapSettings, output: Path
) -> None:
    """Write overlap.csv and overlap.html of a run: the copies, and `counts` of each benchmark's images."""
    rows = [
        (
            *(copy.benchmark.benchmark, " ".join(copy.benchmark.languages), copy.benchmark.image_sha256),
            *(copy.benchmark.where, copy.training.file, copy.training.sample, copy.training.path),
            *(str(copy.distance), f"{copy.correlation:.4f}"),
        )
        for copy in copies
    ]
    atomic_write(output / "overlap.csv", csv_tables.to_csv([COLUMNS, *rows]))
    page = environment().get_template("overlap.html.j2")
    shown = [(copy, *map(_png, copy.thumbnails)) for copy in copies[:SHOWN]]
    found = {name: (len(overlapping(copies, name)), count) for name, count in counts.items()}
    written = page.render(run=run, settings=settings, shown=shown, total=len(copies), counts=found, side=SIDE)
    atomic_write(output / "overlap.html", written)


def overlapping(copies: Sequence[Copy], benchmark: str) -> set[str]:
    """Return the images (`image_sha256`) of `benchmark` that have a copy in training."""
    return {copy.benchmark.image_sha256 for copy in copies if copy.benchmark.benchmark == benchmark}


def _png(thumbnail: bytes) -> str:
    out = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), thumbnail).save(out, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def accuracies_without(
    graded: pd.DataFrame, overlapping: set[str], scorings: Mapping[str, Scoring] | None = None
) -> pd.DataFrame:
    """Return each run's accuracies (%) by benchmark and language, of all items and without those on some images.

    Args:
        graded: rows of graded.csv; those of controls are left out, and those that are neither right nor wrong.
        overlapping: the images to leave out, by their `image_sha256`.
        scorings: how each benchmark's items are counted; by default, and where that is no accuracy, each question once.

    Returns:
        The columns `IDENTITY` and `MEASURES`: accuracies, and how many items they and the overlapping ones are.
    """
    rows = []
    for (benchmark, run), group in select(graded, control="none").groupby(["benchmark", "run"], sort=False):
        shown = (scorings or {}).get(str(benchmark), "vanilla")
        scoring: Scoring = "vanilla" if SCORINGS[shown].unit else shown
        scored = items(group, scoring, scoring)
        scored = scored[scored["counted"] & scored["hit"].notna()]
        for language, found in scored.groupby("language", sort=False):
            trained_on = found["image_sha256"].isin(overlapping)
            rest = found[~trained_on]
            measured = (100 * found["hit"].mean(), len(found), 100 * rest["hit"].mean(), len(rest), trained_on.sum())
            rows.append((benchmark, run, language, *measured))
    return pd.DataFrame(rows, columns=[*IDENTITY, *MEASURES])


def write_accuracies(
    graded: pd.DataFrame, copies: Sequence[Copy], benchmarks: Sequence[Benchmark], output: Path
) -> None:
    """Write tables/overlap.csv and .md: accuracies of graded rows with and without images that have a copy."""
    tables = []
    for benchmark in benchmarks:
        rows, images = select(graded, benchmark=benchmark.name), overlapping(copies, benchmark.name)
        tables.append(accuracies_without(rows, images, {benchmark.name: benchmark.scoring}))
    table = pd.concat(tables, ignore_index=True)
    grid = _grid(table, {benchmark.name: benchmark.called for benchmark in benchmarks})
    atomic_write(output / "tables/overlap.csv", to_csv(grid))
    atomic_write(output / "tables/overlap.md", to_markdown(grid))


def _grid(table: pd.DataFrame, called: Mapping[str, str]) -> Grid:
    rows = []
    for row in table.to_dict("records"):
        shares = [MISSING if pd.isna(row[name]) else Cell(row[name]) for name in ("accuracy", "accuracy_without")]
        counts = [Cell(row[name], text=str(row[name])) for name in ("questions", "questions_without", "overlapping")]
        cells = (shares[0], counts[0], shares[1], counts[1], counts[2])
        rows.append((tuple(str(row[name]) for name in IDENTITY), cells))
    return Grid(
        title="Accuracies (%) with and without benchmark images that were trained on",
        note="Each benchmark's items are counted as in the other tables; where those show no accuracy, each question "
        "counts once. These numbers are no part of scores.csv.",
        heads=IDENTITY,
        groups=(("all", MEASURES[:2]), ("without", MEASURES[:2]), ("overlapping", MEASURES[1:2])),
        rows=tuple(rows),
        words=WORDS | WITHOUT | dict(called),
        axes=("images", "measure"),
    )
