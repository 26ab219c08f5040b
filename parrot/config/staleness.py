"""Digests that decide what is out of date: canonical JSON of resolved values, and the code a stage imports."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from parrot.io.digests import file_sha256

PACKAGE = Path(__file__).parents[1]
TEMPLATES = frozenset({".css", ".j2", ".js"})
# Resolved values reach a job's params already, hardware and limits decide nothing, and tracking is a view: edits there
# make no result stale.
LEFT_OUT = frozenset(
    f"parrot.{name}"
    for name in (
        "config",
        "config.base",
        "config.hardware",
        "config.limits",
        "config.runs",
        "config.settings",
        "config.stages",
        "config.staleness",
        "cluster",
        "cluster.launch",
        "errors",
        "train.live",
        "train.preemption",
        "train.system_metrics",
    )
)


def canonical(value: Any) -> str:
    """Key-sorted JSON without spaces; equal for equal values whatever their order in a file."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_dumped)


def _dumped(value: Any) -> Any:
    """A pydantic model, at any depth, as plain values."""
    return value.model_dump(mode="json")


def key(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


@cache
def code_digest(*modules: str) -> str:
    """Digest of the parsed code of `modules` and of everything they import inside this package.

    Templates count with the package that they lie in. Comments, docstrings and formatting of code do not.
    `modules` are dotted names such as ``parrot.train.stages``.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(modules)):
        digest.update(f"{name}:{ast.dump(_without_docstrings(_parse(name)))}\n".encode())
        for path in _templates(name):
            digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()[:12]


def _closure(modules: tuple[str, ...]) -> set[str]:
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or name in LEFT_OUT:
            continue
        seen.add(name)
        waiting += _imports(name)
    return seen


def _imports(name: str) -> list[str]:
    found = [name.rpartition(".")[0]]
    for node in ast.walk(_parse(name)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [module for module in found if module.split(".")[0] == "parrot" and _file(module) is not None]


def _file(name: str) -> Path | None:
    base = PACKAGE.joinpath(*name.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _templates(name: str) -> list[Path]:
    path = _file(name)
    beside = path.parent.iterdir() if path is not None and path.name == "__init__.py" else ()
    return sorted(file for file in beside if file.suffix in TEMPLATES)


@cache
def _parse(name: str) -> ast.Module:
    path = _file(name)
    if path is None:
        raise ValueError(f"no module {name} in {PACKAGE}")
    return ast.parse(path.read_text(encoding="utf-8"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest
    return tree
