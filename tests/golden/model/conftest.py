"""The reference folder, and its models as the production import loads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import reference
from reference import Case
from released import load_released

from parrot.model import ParrotForConditionalGeneration, ParrotProcessor

Loader = Callable[[str], ParrotForConditionalGeneration]


@pytest.fixture(scope="session")
def folder(golden: Path) -> Path:
    return golden / "model"


@pytest.fixture(scope="session")
def load(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """The model of a variant, in evaluation mode; the same one every time, so copy it before changing it."""
    return cache(lambda variant: load_released(folder, variant)[0])


@pytest.fixture(scope="session")
def processor(folder: Path) -> ParrotProcessor:
    return load_released(folder, "main")[1]


@pytest.fixture(scope="session")
def load_case(folder: Path, processor: ParrotProcessor) -> Callable[[str], Case]:
    """A batch by its name."""
    return cache(lambda batch: reference.case(folder, batch, processor))
