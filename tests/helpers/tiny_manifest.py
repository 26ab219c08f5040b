"""Manifests of prediction files that tests write by hand."""

from __future__ import annotations

from pathlib import Path

from parrot.config.benchmarks import Benchmark, list_file, prediction_file
from parrot.data.tsv import read_tsv, write_tsv
from parrot.evaluate.predictions import benchmark_sha256, predicted, write_manifest
from parrot.integrations.predictions import OURS
from tests.helpers.tiny_questions import image


def sign(folder: Path, *benchmarks: Benchmark) -> None:
    """Write the manifest of what lies in `folder`; a benchmark's file that is missing is made of its predictions."""
    files = {}
    for benchmark in benchmarks:
        for language, name in benchmark.files.items():
            for control in benchmark.controls:
                path, source = prediction_file(folder, name, control), Path(benchmark.folder, name)
                if not path.exists():
                    continue
                table = read_tsv(path)
                if not source.exists():
                    asked = table.drop(columns=[column for column in OURS if column in table])
                    write_tsv(asked.assign(image=image("red")), source)
                listed = list_file(path)
                rejected = len(read_tsv(listed)) if listed.exists() else 0
                files[path.name] = predicted(table, benchmark_sha256(source), language, control, rejected)
    write_manifest(folder, "0" * 64, files)
