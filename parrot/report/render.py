"""A grid as Markdown, LaTeX (booktabs) and HTML; a missing cell says so in all three."""

from __future__ import annotations

import re
from html import escape

from parrot.report.escape import markdown, one_line, tex
from parrot.report.grid import Grid, Rows
from parrot.report.scores import Cell

ABSENT = "missing"


def number(value: float) -> str:
    """One decimal, with a true minus sign and no negative zero."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "\N{MINUS SIGN}")


def shown(cell: Cell) -> str:
    """The cell's number in words, without its interval."""
    return ABSENT if cell.value is None else cell.text or number(cell.value)


def interval(cell: Cell) -> str:
    """The 95 % interval in words that stay readable with negative bounds, or an empty string."""
    return "" if cell.low is None or cell.high is None else f"{number(cell.low)} to {number(cell.high)}"


def to_markdown(grid: Grid) -> str:
    """GitHub-flavoured Markdown: one table a section and column group, so that it fits a page."""
    parts = [f"**{markdown(grid.title)}**", markdown(grid.note)]
    heads = list(grid.heads[1:])
    for section, rows in grid.sections.items():
        start = 0
        for group, columns in grid.groups:
            stop = start + len(columns)
            names = [markdown(grid.word(name)) for name in (*heads, *columns)]
            lines = [_pipe(names), _pipe(["---"] * len(heads) + ["---:"] * len(columns))]
            for labels, cells in _without_repeats(rows):
                named = [markdown(grid.word(label)) for label in labels]
                lines.append(_pipe([*named, *map(_markdown_cell, cells[start:stop])]))
            parts += [markdown(f"{grid.word(group)}, {grid.word(section)}"), "\n".join(lines)]
            start = stop
    return "\n\n".join(parts) + "\n"


def to_text(grid: Grid) -> str:
    """Markdown's tables as a terminal shows them: a row for each column of the grid, intervals behind the numbers."""
    parts = []
    for section, rows in grid.sections.items():
        start = 0
        for group, columns in grid.groups:
            lines = [["", *(", ".join([labels[0], *map(grid.word, labels[1:])]) for labels, _ in rows)]]
            for place, column in enumerate(columns, start):
                lines.append([grid.word(column), *(_text_cell(cells[place]) for _, cells in rows)])
            parts += [one_line(f"{grid.word(group)}, {grid.word(section)}"), _aligned(lines)]
            start += len(columns)
    return "\n\n".join(parts)


def _text_cell(cell: Cell) -> str:
    # Terminals that are not UTF-8 have no true minus sign.
    text = shown(cell) + (f" ({interval(cell)})" if interval(cell) else "")
    return text.replace("\N{MINUS SIGN}", "-")


def _aligned(lines: list[list[str]]) -> str:
    """A table of Markdown whose columns are as wide as their widest cell; numbers end at the right."""
    lines = [[one_line(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    head, *body = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join(map(_pipe, [head, rule, *body]))


def _without_repeats(rows: Rows) -> Rows:
    """The rows with a label left empty where it and all labels before it are those of the row above."""
    kept: Rows = []
    above: tuple[str, ...] = ()
    for labels, cells in rows:
        shown = tuple("" if above[: i + 1] == labels[: i + 1] else label for i, label in enumerate(labels))
        kept.append((shown, cells))
        above = labels
    return kept


def _pipe(fields: list[str]) -> str:
    return "| " + " | ".join(fields) + " |"


def _markdown_cell(cell: Cell) -> str:
    return shown(cell) + (f"<br><sub>{interval(cell)}</sub>" if interval(cell) else "")


def to_latex(grid: Grid) -> str:
    r"""A ``table`` environment for the booktabs and graphicx packages."""
    heads = len(grid.heads) - 1
    width = heads + len(grid.columns)
    groups, rules, start = [], [], heads + 1
    for group, columns in grid.groups:
        groups.append(rf"\multicolumn{{{len(columns)}}}{{c}}{{{tex(grid.word(group))}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + len(columns) - 1}}}")
        start += len(columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{tex(grid.title)}. {tex(grid.note)}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{'l' * heads}{'c' * len(grid.columns)}}}",
        r"\toprule",
        _ampersand([""] * heads + groups),
        "".join(rules),
        _ampersand([tex(grid.word(name)) for name in (*grid.heads[1:], *(column for _, column in grid.columns))]),
    ]
    for section, rows in grid.sections.items():
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(_capital(grid.word(section)))}}}}} \\"]
        lines += [
            _ampersand([*(tex(grid.word(n)) for n in labels), *map(_tex_cell, cells)])
            for labels, cells in _without_repeats(rows)
        ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}"]) + "\n"


def _ampersand(fields: list[str]) -> str:
    return " & ".join(fields) + r" \\"


def _tex_cell(cell: Cell) -> str:
    if cell.value is None:
        return rf"\textit{{{ABSENT}}}"
    value = _tex_number(shown(cell))
    if not interval(cell):
        return value
    return rf"\shortstack{{{value}\\{{\scriptsize {_tex_number(interval(cell))}}}}}"


def _tex_number(text: str) -> str:
    return re.sub("\N{MINUS SIGN}", "$-$", text)


def to_html(grid: Grid) -> str:
    """One ``<table>`` a column group, with a header cell for every row and column and one ``<tbody>`` a section."""
    tables, start = [], 0
    heads = [grid.word(head) for head in grid.heads[1:]]
    for group, columns in grid.groups:
        stop = start + len(columns)
        names = "".join(f'<th scope="col" class="name">{escape(head)}</th>' for head in heads)
        names += "".join(f'<th scope="col">{escape(grid.word(column))}</th>' for column in columns)
        bodies = "".join(_html_section(grid, section, start, stop) for section in grid.sections)
        caption = f"<caption>{escape(grid.word(group))}</caption>"
        tables.append(f"<table>{caption}<thead><tr>{names}</tr></thead>{bodies}</table>")
        start = stop
    return "".join(tables)


def _html_section(grid: Grid, section: str, start: int, stop: int) -> str:
    title, width = escape(_capital(grid.word(section))), len(grid.heads) - 1 + stop - start
    rows = [f'<tr class="section"><th scope="rowgroup" colspan="{width}"><span>{title}</span></th></tr>']
    for labels, cells in _without_repeats(grid.sections[section]):
        names = "".join(f'<th scope="row">{escape(grid.word(label))}</th>' for label in labels)
        rows.append(f"<tr>{names}{''.join(map(_html_cell, cells[start:stop]))}</tr>")
    return f"<tbody>{''.join(rows)}</tbody>"


def _html_cell(cell: Cell) -> str:
    if cell.value is None:
        return f'<td class="missing">{ABSENT}</td>'
    small = f"<small>{interval(cell)}</small>" if interval(cell) else ""
    return f"<td>{escape(shown(cell))}{small}</td>"


def _capital(text: str) -> str:
    """`text` as a line begins with it; a name such as mini-MMMB stays as it is."""
    return text if re.match(r"[^\s]*[A-Z]", text) else text[:1].upper() + text[1:]
