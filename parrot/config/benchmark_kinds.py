"""What each kind of benchmark is asked by default, how it may be scored, and which entries do not fit their kind."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING

from parrot.constants import IMAGE

if TYPE_CHECKING:
    from parrot.config.settings import Benchmark

SCORINGS = {
    "multiple_choice": ("vanilla", "circular", "pairs"),
    "yes_no": ("vanilla", "pairs", "mme"),
    "judged": ("relative",),
}
# A line for each part; one that is nothing but the hint or the options is left out of questions that have none.
TEMPLATES = {
    "multiple_choice": "{hint}\n{question}\n{options}\n{instruction}",
    "yes_no": "{question}\n{instruction}",
    "judged": "{question}",
}
PARTS = frozenset({"hint", "question", "options", "instruction"})


def check_template(template: str) -> None:
    """ValueError where `template` holds other placeholders than `PARTS`, or no {question}."""
    try:
        parts = [(name, form or how) for _, name, form, how in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"expected placeholders such as {{question}}: {error}") from None
    names = {name for name, _ in parts}
    if odd := [name for name, changed in parts if changed]:
        raise ValueError(f"expected placeholders such as {{question}}, found {{{odd[0]}}} with a format or conversion")
    if names - PARTS or "question" not in names:
        raise ValueError(f"expected {{question}} and none but {', '.join(sorted(PARTS))}, found {sorted(names)}")
    if IMAGE in template:
        raise ValueError(f"expected no {IMAGE}; the picture comes before the text")


def check(entry: Benchmark) -> None:
    """ValueError where the fields of `entry` do not fit its kind or its files."""
    if entry.scoring not in SCORINGS[entry.kind]:
        raise ValueError(f"scoring: expected {' or '.join(SCORINGS[entry.kind])} for {entry.kind}")
    if entry.kind != "multiple_choice" and (entry.instruction or entry.prompt_language):
        raise ValueError(f"instruction and prompt_language belong to multiple_choice; {entry.kind} has template")
    if odd := [language for language, sentence in entry.instruction.items() if IMAGE in sentence]:
        raise ValueError(f"instruction.{odd[0]}: expected no {IMAGE}; the picture comes before the text")
    # What the wrapper shortens depends on the sentence that the prompt ends with.
    if entry.kind == "multiple_choice" and entry.template and not entry.template.endswith("\n{instruction}"):
        raise ValueError("template: expected {instruction} as the last line for multiple_choice")
    if bool(entry.sums) != (entry.scoring == "mme"):
        raise ValueError("sums belong to scoring mme, and must be given there")
    added = [category for categories in entry.sums.values() for category in categories]
    if len(added) != len(set(added)):
        raise ValueError("sums: expected every category once")
    for field in ("md5", "published_as"):
        unknown = getattr(entry, field).keys() - entry.files.keys()
        if unknown:
            raise ValueError(f"{field}: no file for {', '.join(sorted(unknown))}")
