"""YAML without surprises: version 1.2's reading of plain words, and nothing that two readers may take in two ways.

`no`, `on`, `017`, `1:30`, `1_000`, `0x1f` and dates are texts here; a number is decimal, as in JSON. PyYAML alone would
make them false, true, 15, 90, 1000, 31 and dates, read 2e-5 as a text, and keep the last of two equal keys.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from parrot.errors import UserError
from parrot.io.files import read_text

DEEPEST = 100  # mappings and lists within one another
MOST = 100_000  # values, aliases written out: a few lines of them may stand for billions
TOO_MUCH = f"expected at most {MOST} values, {DEEPEST} deep, with aliases written out"
MERGE = "tag:yaml.org,2002:merge"
TEXT = "tag:yaml.org,2002:str"
PLAIN = {
    MERGE: "<<",
    "tag:yaml.org,2002:null": "~|null|Null|NULL|",
    "tag:yaml.org,2002:bool": "true|True|TRUE|false|False|FALSE",
    "tag:yaml.org,2002:int": "[-+]?(?:0|[1-9][0-9]{0,17})",
    "tag:yaml.org,2002:float": r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,3})?",
}
FOUND = {"NoneType": "nothing", "list": "a list", "str": "a text", "bool": "true or false"}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, with texts as keys at every depth.

    Anchors, aliases and merge keys work.

    Raises:
        UserError: the file is missing, malformed or no mapping, a key is doubled or no text, a value has a tag, or
            the whole is too deep or too large. The line names line and column.
    """
    text = read_text(path)
    try:
        value = _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = ", ".join(filter(None, (error.context, error.problem)))
        raise UserError(f"{path}: {place}{said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{path}: line {line}: expected no character U+{ord(text[error.position]):04X}") from None
    if not isinstance(value, dict):
        found = FOUND.get(type(value).__name__, "a number")
        raise UserError(f"{path}: expected a mapping of names, found {found}")
    return value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with resolvers and checks of our own."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self.open = 0  # nodes that are being composed, within one another
        self.sizes: dict[int, tuple[int, int]] = {}  # of nodes that are whole: values and depth, aliases written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        if getattr(event, "tag", None) not in (None, "!", TEXT):
            raise _refusal(event, f"expected no tag, found {event.tag}")
        if self.open > DEEPEST:
            raise _refusal(event, TOO_MUCH)
        self.open += 1
        node = super().compose_node(parent, index)
        self.open -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.sizes:
                raise _refusal(event, f"expected no alias of a value that it is a part of, found *{event.anchor}")
        elif node is not None:
            self.sizes[id(node)] = self._size(node)
        return node

    def _size(self, node: yaml.Node) -> tuple[int, int]:
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.ScalarNode):
            if any("\ud800" <= character <= "\udfff" for character in node.value):
                raise _refusal(node, "expected text, found half of a surrogate pair")
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value
        sizes = [self.sizes[id(part)] for part in parts]
        size, depth = 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
        if size > MOST or depth > DEEPEST:
            raise _refusal(node, TOO_MUCH)
        return size, depth


for _tag, _words in PLAIN.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_words})$"), None)  # None: whatever the first character


def _check_keys(node: yaml.MappingNode) -> None:
    names = set()
    for name, _ in node.value:
        if name.tag not in (TEXT, MERGE) or not name.value.strip():
            found = f"{name.value}; quote it" if isinstance(name, yaml.ScalarNode) and name.value else "none"
            raise _refusal(name, f"expected a name before the colon, found {found}")
        if name.value in names:
            raise _refusal(name, f"{name.value} is there twice; expected every name once")
        names.add(name.value)


def _refusal(at: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)
