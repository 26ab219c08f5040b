"""A grid as Markdown, LaTeX (booktabs), HTML and text, laid out by pandas; a missing cell says so in all of them.

Names are what they are wherever tables are read: none is markup, a link or a formula.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from parrot.report.grid import Cell, Grid
from parrot.report.labels import FOLDER

ABSENT = "missing"
MARKDOWN_SPECIAL = re.compile(r"[\\`*~|#\[\]]")
# What GitHub makes a link of without any brackets: addresses, and names of hosts and mail boxes.
MARKDOWN_LINK = re.compile(r"(?<=[a-z])://|\bwww\.|@", re.IGNORECASE)
# pandas' escape="latex" leaves <, > and |, which LaTeX's default fonts print as something else, and does no captions.
TEX_SPECIAL = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {c: f"\\{c}" for c in "&%$#_{}"}
)
HtmlStyler = Styler.from_custom_template(str(FOLDER), html_table="table.html.j2")


def number(value: float) -> str:
    """Return one decimal, with a true minus sign and no negative zero."""
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "\N{MINUS SIGN}")


def shown(cell: Cell) -> str:
    """Return the cell's number in words, without its interval."""
    return ABSENT if cell.value is None else cell.text or number(cell.value)


def interval(cell: Cell) -> str:
    """Return the 95 % interval in words that stay readable with negative bounds, or an empty string."""
    return "" if cell.low is None or cell.high is None else f"{number(cell.low)} to {number(cell.high)}"


def _text(cell: Cell) -> str:
    """Return the number and, behind a line end, the interval where there is one."""
    return "\n".join(filter(None, (one_line(shown(cell)), interval(cell))))


def one_line(text: str) -> str:
    """Return `text` with blanks for line ends of any kind and for other characters that print nothing."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _capital(text: str) -> str:
    """Return `text` as a line begins with it; a name such as mini-MMMB stays as it is."""
    return text if re.match(r"[^\s]*[A-Z]", text) else text[:1].upper() + text[1:]


def _frame(grid: Grid) -> pd.DataFrame:
    """Return the cells as `_text`: section and labels down, group and column across, in the reader's words."""
    labels = [[_word(grid, labels[level]) for labels, _ in grid.rows] for level in range(len(grid.heads))]
    columns = [[_word(grid, names[level]) for names in grid.columns] for level in (0, 1)]
    return pd.DataFrame(
        [[_text(cell) for cell in cells] for _, cells in grid.rows],
        index=pd.MultiIndex.from_arrays(labels, names=[_word(grid, head) for head in grid.heads]),
        columns=pd.MultiIndex.from_arrays(columns),
        dtype=object,
    )


def _word(grid: Grid, name: str) -> str:
    return one_line(grid.word(name))


def _by_group(grid: Grid, frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each column group's name, in words, and its part of `frame`, which loses that level of its columns."""
    start = 0
    for group, columns in grid.groups:
        yield _word(grid, group), frame.iloc[:, start : start + len(columns)].droplevel(0, axis="columns")
        start += len(columns)


def markdown(text: str) -> str:
    """Return `text` on one line of GitHub-flavoured Markdown: in a table's cell and outside, no markup and no link."""
    entities = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = MARKDOWN_SPECIAL.sub(lambda found: f"\\{found[0]}", entities)
    return MARKDOWN_LINK.sub(lambda found: "".join(c if c.isalpha() else f"&#{ord(c)};" for c in found[0]), escaped)


def to_markdown(grid: Grid) -> str:
    """Return GitHub-flavoured Markdown: one table a section and column group, so that it fits a page."""
    parts = [f"**{markdown(grid.title)}**", markdown(grid.note)]
    for section, rows in _frame(grid).groupby(level=0, sort=False):
        labels = _without_repeats(rows.index)
        for group, cells in _by_group(grid, rows):
            table = pd.concat([labels, cells.reset_index(drop=True)], axis="columns").map(_markdown_cell)
            ends = ["left"] * len(labels.columns) + ["right"] * len(cells.columns)
            parts += [markdown(f"{group}, {section}"), _pipes(table.rename(columns=markdown), ends)]
    return "\n\n".join(parts) + "\n"


def _without_repeats(index: pd.Index[Any]) -> pd.DataFrame:
    """Return the labels without the section, empty where one and all before it are those of the row above."""
    labels = index.to_frame(index=False)
    return labels.mask(labels.eq(labels.shift()).cummin(axis="columns"), "").iloc[:, 1:]


def _markdown_cell(text: str) -> str:
    value, _, bounds = text.partition("\n")
    return markdown(value) + (f"<br><sub>{bounds}</sub>" if bounds else "")


def _pipes(table: pd.DataFrame, ends: list[str]) -> str:
    """Return Markdown's table, its cells' texts as they are; `ends` is where each column is aligned."""
    return table.to_markdown(index=False, tablefmt="pipe", colalign=ends, disable_numparse=True)


def to_text(grid: Grid) -> str:
    """Return Markdown's tables as a terminal shows them: a row for each column of the grid, on one line."""
    parts = []
    for section, rows in _frame(grid).groupby(level=0, sort=False):
        names = [", ".join(labels[1:]) for labels in rows.index]
        for group, cells in _by_group(grid, rows):
            table = cells.map(_text_cell).T.set_axis(names, axis="columns").reset_index(names="")
            parts += [f"{group}, {section}", _pipes(table, ["left"] + ["right"] * len(names))]
    return "\n\n".join(parts)


def _text_cell(text: str) -> str:
    value, _, bounds = text.partition("\n")
    # Terminals that are not UTF-8 have no true minus sign.
    return (value + (f" ({bounds})" if bounds else "")).replace("\N{MINUS SIGN}", "-")


def tex(text: str) -> str:
    """Return `text` on one line of LaTeX, special characters escaped."""
    return one_line(text).translate(TEX_SPECIAL)


def to_latex(grid: Grid) -> str:
    r"""Return a ``table`` environment for the booktabs and graphicx packages.

    The labels are columns of an unnamed group. A section's title is a row above its first one, and so the beginning of
    that one's first label; the groups' rules begin the first head likewise.
    """
    frame = _frame(grid)
    labels = _without_repeats(frame.index).map(tex)
    heads, width = len(labels.columns), len(labels.columns) + len(frame.columns)
    for section, places in frame.groupby(level=0, sort=False).indices.items():
        title = rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(_capital(str(section)))}}}}} \\"
        above = [r"\midrule", title] if places[0] else [title]
        labels.iat[int(places[0]), 0] = "\n".join([*above, str(labels.iat[int(places[0]), 0])])
    table = pd.concat([labels, frame.map(_tex_cell).reset_index(drop=True)], axis="columns")
    names = [("", tex(head)) for head in labels.columns]
    names += [(tex(grid.word(group)), tex(grid.word(name))) for group, name in grid.columns]
    names[0] = ("", _group_rules(grid, heads) + names[0][1])
    table.columns = pd.MultiIndex.from_tuples(names)
    styled = Styler(table).hide(axis="index")
    written = styled.to_latex(
        hrules=True,
        multicol_align="c",
        column_format="l" * heads + "c" * len(frame.columns),
        position_float="centering",
        caption=f"{tex(grid.title)}. {tex(grid.note)}",
    )
    begin, end = r"\begin{tabular}", r"\end{tabular}"
    return written.replace(begin, f"\\resizebox{{\\linewidth}}{{!}}{{%\n{begin}").replace(end, f"{end}}}")


def _group_rules(grid: Grid, start: int) -> str:
    rules = []
    for _, columns in grid.groups:
        rules.append(rf"\cmidrule(lr){{{start + 1}-{start + len(columns)}}}")
        start += len(columns)
    return "".join(rules) + "\n"


def _tex_cell(text: str) -> str:
    value, _, bounds = (tex(part).replace("\N{MINUS SIGN}", "$-$") for part in text.partition("\n"))
    if value == ABSENT:
        return rf"\textit{{{value}}}"
    return rf"\shortstack{{{value}\\{{\scriptsize {bounds}}}}}" if bounds else value


def to_html(grid: Grid) -> str:
    """Return one ``<table>`` per column group: header cells for every row and column, a ``<tbody>`` per section."""
    frame = _frame(grid).rename(index=_capital, level=0)
    tables = []
    for group, cells in _by_group(grid, frame):
        styled = HtmlStyler(cells).format(escape="html").set_caption(escape(group))
        styled.format_index(escape="html").format_index(escape="html", axis="columns").format_index_names(escape="html")
        tables.append(styled.to_html(exclude_styles=True))
    return "".join(tables)
