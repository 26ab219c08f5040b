"""Digests of code by what it does: not by its wording, its layout, or the file that it is in.

Docstrings, comments, annotations, messages and the order and grouping of imports do not count. Neither does moving
code from one file to another.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]
SUFFIXES = frozenset({".py", ".css", ".csv", ".j2", ".js"})
SPOKEN = frozenset({"print", "tell", "warn"})  # functions all of whose arguments are for people
LOGGERS = frozenset({"log", "logger", "logging", "warnings"})
LEVELS = frozenset({"critical", "debug", "error", "exception", "info", "log", "warn", "warning"})
Import = tuple[str, str, str]  # module, name in it, and name here


class Code(NamedTuple):
    """One file: its statements in words, without imports; what it imports and uses; and the names that it defines."""

    statements: tuple[str, ...]
    imports: frozenset[Import] = frozenset()
    defines: frozenset[str] = frozenset()


@cache
def files() -> dict[str, Path]:
    """Every module, template and table of the package by its dotted name."""
    found = (path for path in PACKAGE.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    return {_name(path): path for path in sorted(found)}


def digest_of(names: Iterable[str]) -> str:
    """Twelve hexadecimal digits that stay as they are until the files `names` do something else.

    A name that is imported from this package stands for itself, whichever module has it. Where several of the files
    define that name, the module counts too.
    """
    read = [_read(name) for name in names]
    defined = Counter(name for code in read for name in code.defines)
    statements = sorted(statement for code in read for statement in code.statements)
    imports = {
        ("" if _is_own(module) and defined[name] < 2 else module, name, here)
        for code in read
        for module, name, here in code.imports
    }
    return hashlib.sha256(repr((statements, sorted(imports))).encode()).hexdigest()[:12]


def _name(path: Path) -> str:
    within = path.relative_to(PACKAGE.parent)
    return ".".join(within.with_suffix("").parts if path.suffix == ".py" else within.parts)


@cache
def _read(file: str) -> Code:
    path = files()[file]
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return Code((f"{path.name}:{hashlib.sha256(text.encode()).hexdigest()}",))
    tree = _Doing().visit(ast.parse(text))
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    statements: list[str] = []
    imports: set[Import] = set()
    defines: set[str] = set()
    for node in tree.body:
        match node:
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                named = {(module, alias.name, alias.asname or alias.name.split(".")[0]) for alias in names}
                # Others are for annotations, or are offered under a shorter name.
                imports |= {each for each in named if each[2] in used}
                continue
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Assign(targets=[ast.Name(id=name)]):
                defines.add(name)
        for inner in ast.walk(node):
            if isinstance(inner, ast.ImportFrom) and inner.module and _is_own(inner.module):
                imports |= {(inner.module, alias.name, alias.asname or alias.name) for alias in inner.names}
                inner.module = PACKAGE.name
        statements.append(ast.dump(node))
    return Code(tuple(statements), frozenset(imports), frozenset(defines))


def _is_own(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name


class _Doing(ast.NodeTransformer):
    """Takes from a tree what a program does not act on."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant):
            return None  # a docstring
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.Expr(node.target)  # a field without a default
        return self.generic_visit(ast.Assign([node.target], node.value))

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node.func:
            case ast.Name(id=name) if name in SPOKEN or name.endswith(("Error", "Warning")):
                node.args, node.keywords = [], []
            case ast.Attribute(value=ast.Name(id=name), attr=level) if name in LOGGERS and level in LEVELS:
                node.args, node.keywords = [], []
            case ast.Name(id="tqdm"):
                node.keywords = []
        return self.generic_visit(node)
