"""transformers' own tests, which only its source package holds: `make test-common` unpacks them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

SOURCES = Path(__file__).parents[2] / ".venv" / "sdist"

# What test_modeling_common.py imports from folders of tests that the source package leaves out.
LEFT_OUT = {"exporters.test_export": "ExportTesterMixin", "generation.test_utils": "GenerationTesterMixin"}


def common() -> ModuleType:
    """The module that holds `ModelTesterMixin`; the mixins that are left out are empty classes in it."""
    folder = SOURCES / "tests"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: not unpacked; run `make test-common`")
    package = ModuleType("upstream_tests")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    for name, mixin in LEFT_OUT.items():
        module = ModuleType(f"upstream_tests.{name}")
        setattr(module, mixin, type(mixin, (), {}))
        sys.modules[module.__name__] = module
    from upstream_tests import test_modeling_common  # type: ignore[import-not-found]

    return test_modeling_common
