"""The data as composed from the shipped resources, and from resources whose images tell what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import load_catalogue
from parrot.mini.compose.material import Material, load_material
from parrot.mini.compose.write import compose
from tests.unit.mini.compose.marked_images import SHIPPED, make_resources

INSTRUCTION = load_catalogue(SHIPPED.parents[2] / "config" / "benchmarks.yaml", Benchmark)["mini_mmmb"].instruction


@pytest.fixture(scope="session")
def material() -> Material:
    return load_material(SHIPPED)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/mini, composed from the shipped resources."""
    output = tmp_path_factory.mktemp("shipped") / "mini"
    compose(SHIPPED, output, INSTRUCTION)
    return output


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/mini, composed from marked sprites."""
    folder = tmp_path_factory.mktemp("marked")
    compose(make_resources(folder / "resources"), folder / "mini", INSTRUCTION)
    return folder / "mini"
