"""Names of prediction files: all that tells the answers to one benchmark file from those to another."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path

from parrot.config.settings import Benchmark, Control
from parrot.errors import ConfigError


def prediction_file(folder: Path, benchmark_file: str, control: Control) -> Path:
    """Where the answers to a benchmark file under a control lie."""
    stem = Path(benchmark_file).stem
    return folder / (f"{stem}.tsv" if control == "none" else f"{stem}.{control}.tsv")


def list_file(predictions: Path) -> Path:
    """Where the rows are listed that the prediction file `predictions` leaves out."""
    return predictions.with_suffix(".rejected.tsv")


def check_distinct(benchmarks: Mapping[str, Benchmark], controls: Collection[Control], where: str) -> None:
    """ConfigError, starting with `where`, where two benchmarks or files would be taken for one another.

    `benchmarks` are catalogue entries by name. Benchmarks are told apart by their names in scores, files by those that
    `prediction_file` gives them under `controls`; some file systems keep neither case nor the form of an accent apart.
    """
    named: dict[str, str] = {}
    written: dict[str, str] = {}
    for name, benchmark in benchmarks.items():
        other = named.setdefault(benchmark.name, name)
        if other != name:
            raise ConfigError(f"{where}: {other} and {name} are both called {benchmark.name} in scores")
        for language, file in benchmark.files.items():
            for control in controls:
                if control not in benchmark.controls:
                    continue
                path = prediction_file(Path(), file, control)
                what = f"{name} ({language}: {file}, control {control})"
                for target in (path, list_file(path)):
                    other = written.setdefault(unicodedata.normalize("NFC", target.name).casefold(), what)
                    if other != what:
                        raise ConfigError(
                            f"{where}: {other} and {what} would overwrite each other's predictions, {target}; "
                            "expected files whose names differ by more than folder, ending or case"
                        )
