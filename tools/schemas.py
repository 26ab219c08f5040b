"""JSON schemas of everything under config/, and a page of them: `python -m tools.schemas` writes both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from parrot.cluster.plan.facts import Facts
from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import Dataset, ImageArchive
from parrot.config.settings import Config
from parrot.errors import in_one_line
from parrot.io.files import atomic_write
from parrot.report.settings import ReportItem
from tools.config_readme import readme


def schemas() -> dict[str, dict[str, Any]]:
    """Return each schema by its file name.

    An overlay and a run may leave anything out; what they say is checked like the whole.
    """
    overlay = _optional(TypeAdapter(Config).json_schema())
    definitions = overlay.pop("$defs")
    against = {"type": "array", "items": {"type": "string"}, "description": "runs in its tables beside it, [parrot]"}
    family = {
        "type": "object",
        "properties": {"over": {"type": "string"}, "values": {"type": "array"}, "against": against},
        "required": ["over", "values"],
        "additionalProperties": False,
    }
    return {
        "config.schema.json": TypeAdapter(Config).json_schema(),
        "overlay.schema.json": overlay | {"$defs": definitions},
        "datasets.schema.json": TypeAdapter(dict[str, Dataset]).json_schema(),
        "images.schema.json": TypeAdapter(dict[str, ImageArchive]).json_schema(),
        "benchmarks.schema.json": TypeAdapter(dict[str, Benchmark]).json_schema(),
        "plan.schema.json": TypeAdapter(Facts).json_schema(),
        "tables.schema.json": TypeAdapter(dict[str, ReportItem]).json_schema(),
        "runs.schema.json": {
            "type": "object",
            "properties": {"families": {"type": "object", "additionalProperties": family}},
            "additionalProperties": overlay | {"properties": overlay["properties"] | {"against": against}},
            "$defs": definitions,
        },
    }


def text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _optional(schema: Any) -> Any:
    """Return the schema with nothing required."""
    if isinstance(schema, dict):
        return {name: _optional(value) for name, value in schema.items() if name != "required"}
    return [_optional(value) for value in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    with in_one_line():
        for name, schema in schemas().items():
            atomic_write(Path("config") / name, text(schema))
        atomic_write(Path("config/README.md"), readme(schemas()))
