"""`config/README.md`: every key of the files under config/, from their schemas; `make schemas` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

Schema = dict[str, Any]

INTRODUCTION = """\
# The configuration

Generated from the schemas by `make schemas`. An editor that speaks YAML's language server checks the files against the
same schemas, and so does every command before it does anything.

| file | holds |
| --- | --- |
| [`config.yaml`](config.yaml) | the mini scale, whole |
| [`paper.yaml`](paper.yaml) | the paper's scale, laid over it: `--configfile config/paper.yaml` |
| [`runs.yaml`](runs.yaml) | runs by name, each as what it changes of the scale's config; families of runs |
| [`datasets.yaml`](datasets.yaml) | conversation sets and backbones by name |
| [`images.yaml`](images.yaml) | archives of the sets' images by name |
| [`benchmarks.yaml`](benchmarks.yaml) | benchmarks by name |
| [`tables.yaml`](tables.yaml) | tables and figures of the report by name |
| [`plan.yaml`](plan.yaml) | what `parrot plan` knows of GPUs, and what was measured |
| [`published_results.csv`](published_results.csv) | the paper's numbers |

A key with a default may be left out; the others are **required**. In an overlay and in a run anything may be left out.
"""

# Each section's heading and words, and its schema.
SECTIONS = {
    "config.schema.json": ("config.yaml, paper.yaml and runs", "Every key of a scale's config."),
    "datasets.schema.json": ("datasets.yaml", "An entry's `kind` says which of these keys it has."),
    "images.schema.json": ("images.yaml", "Every key of an entry."),
    "benchmarks.schema.json": ("benchmarks.yaml", "Every key of an entry."),
    "tables.schema.json": ("tables.yaml", "Every key of an entry; its `kind` says which of them it reads."),
    "plan.schema.json": ("plan.yaml", "Every key of the file."),
}


class Row(NamedTuple):
    """A key and what may stand there."""

    key: str
    values: str
    default: str
    description: str


def readme(schemas: dict[str, Schema]) -> str:
    """Return the page's text."""
    parts = [INTRODUCTION]
    for name, (heading, words) in SECTIONS.items():
        schema = schemas[name]
        parts.append(f"## {heading}\n\n{words}\n")
        definitions = schema.get("$defs", {})
        for title, entry in _entries(schema, definitions):
            rows = list(_rows(entry, definitions, ""))
            parts.append((f"### {title}\n\n" if title else "") + _table(rows))
    return "\n".join(parts)


def _entries(schema: Schema, definitions: dict[str, Schema]) -> Iterator[tuple[str, Schema]]:
    """Yield what a file, or an entry of a file of entries, may be; with a title where there are several."""
    entry = schema.get("additionalProperties") or schema
    variants = entry.get("oneOf", [entry])
    for variant in variants:
        whole = _resolved(variant, definitions)
        kind = whole["properties"].get("kind", {}).get("const", "")
        yield (f"`kind: {kind}`" if len(variants) > 1 else ""), whole


def _rows(schema: Schema, definitions: dict[str, Schema], prefix: str) -> Iterator[Row]:
    """Yield the keys of an object and of the objects in it, by their dotted names."""
    required = schema.get("required", [])
    for name, value in schema["properties"].items():
        whole = _resolved(value, definitions)
        default = "**required**" if name in required else _code(value["default"]) if "default" in value else ""
        description = value.get("description", whole.get("description", ""))
        if "properties" in whole:
            yield Row(f"{prefix}{name}", "keys below", "" if name in required else "may be left out", description)
            yield from _rows(whole, definitions, f"{prefix}{name}.")
        else:
            yield Row(f"{prefix}{name}", _values(value, definitions), default, description)


def _values(value: Schema, definitions: dict[str, Schema]) -> str:
    """Say what a value may be: its type, its choices or its bounds."""
    value = _resolved(value, definitions)
    if choices := value.get("anyOf") or value.get("oneOf"):
        return ", or ".join(dict.fromkeys(_values(choice, definitions) for choice in choices))
    if "const" in value:
        return _code(value["const"])
    if "enum" in value:
        return ", ".join(map(_code, value["enum"]))
    match value.get("type"):
        case "array":
            items = value.get("items") or (value.get("prefixItems") or [{}])[0]
            return f"list of {_values(items, definitions)}"
        case "object" if isinstance(entry := value.get("additionalProperties"), dict):
            return f"map to {_values(entry, definitions)}"
        case "object":
            names = ", ".join(map(_code, value.get("properties", {})))
            return f"map of {names}" if names else "map"
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _bounds(value)
        case "string":
            return "text"
        case "boolean":
            return "`true`, `false`"
        case "null":
            return "`null`"
    return "anything"


def _bounds(value: Schema) -> str:
    low = f">= {value['minimum']}" if "minimum" in value else ""
    low = low or (f"> {value['exclusiveMinimum']}" if "exclusiveMinimum" in value else "")
    high = f"<= {value['maximum']}" if "maximum" in value else ""
    high = high or (f"< {value['exclusiveMaximum']}" if "exclusiveMaximum" in value else "")
    return " " + " and ".join(filter(None, (low, high))) if low or high else ""


def _resolved(value: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow a reference, also where null may stand in the object's place."""
    if "$ref" in value:
        return definitions[value["$ref"].rpartition("/")[2]]
    objects = [choice for choice in value.get("anyOf", []) if choice != {"type": "null"}]
    if len(objects) == 1 and "$ref" in objects[0]:
        return _resolved(objects[0], definitions)
    return value


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)}`"


def _table(rows: list[Row]) -> str:
    lines = ["| key | values | default | |", "| --- | --- | --- | --- |"]
    cells = ([f"`{row.key}`", row.values, row.default, row.description] for row in rows)
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in cells)
    return "\n".join(lines + [f"| {' | '.join(line)} |".replace("|  |", "| |") for line in escaped]) + "\n"
