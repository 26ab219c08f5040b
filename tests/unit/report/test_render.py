"""Names of runs, benchmarks and categories stay names in every form of a table."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from parrot.report.grid import Cell, Grid, to_csv
from parrot.report.render import markdown, tex, to_html, to_latex, to_markdown, to_text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_experts", "no_experts"),
        ("a|b", r"a\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("[here](http://a.b)", r"\[here\](http&#58;&#47;&#47;a.b)"),
        ("www.a.b", "www&#46;a.b"),
        ("me@a.b", "me&#64;a.b"),
        ("`x` *y*", r"\`x\` \*y\*"),
        ("two\nlines\u2028and\x00more", "two lines and more"),
    ],
)
def test_markdown_shows_a_name_as_it_is(name: str, expected: str) -> None:
    assert markdown(name) == expected


def test_latex_shows_a_name_as_it_is() -> None:
    assert tex("100 % of\n\\input{x} & more_\x0b#1") == r"100 \% of \textbackslash{}input\{x\} \& more\_ \#1"


NAME = "=1|2\n& <b> 5 % #{x} \\end{tabular} ~^_$"
GRID = Grid(
    title=NAME,
    note=NAME,
    heads=("image_source", NAME, "run"),
    groups=((NAME, (NAME, "zh")), ("second", ("en",))),
    rows=(
        ((NAME, NAME, "first"), (Cell(-1.0, -2.0, 3.0), Cell(None), Cell(50.0))),
        ((NAME, NAME, "second"), (Cell(0.5, text=NAME), Cell(2.0), Cell(-0.04))),
        (("other", NAME, "third"), (Cell(1.0), Cell(2.0), Cell(3.0))),
    ),
)


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_hostile_name_adds_no_cell_line_or_formula_to_markdown() -> None:
    shown = r"=1\|2 &amp; &lt;b&gt; 5 % \#{x} \\end{tabular} \~^_$"
    head, rule, first, second, *_ = [line for line in to_markdown(GRID).split("\n") if line.startswith("|")]
    assert cells(head) == [shown, "run", shown, "zh"]
    assert [cell[-1] == ":" for cell in cells(rule)] == [False, False, True, True]
    minus = "\N{MINUS SIGN}"
    assert cells(first) == [shown, "first", f"{minus}1.0<br><sub>{minus}2.0 to 3.0</sub>", "missing"]
    assert cells(second) == ["", "second", shown, "2.0"]
    assert "\n\"'=1|2\n& <b>" in to_csv(GRID)


def commands(text: str) -> list[str]:
    """The commands of a LaTeX text; fails where braces do not match or a special character is not escaped."""
    found = re.findall(r"\\(?:[A-Za-z]+|.)|[^\\]", text, re.DOTALL)
    depth = 0
    for token in found:
        depth += (token == "{") - (token == "}")
        assert depth >= 0
    assert depth == 0
    bare = [token for token in found if token in "#_^~<>|" or not token.isprintable()]
    assert set(bare) <= {"\n"}
    return [token for token in found if token.startswith("\\")]


def test_a_hostile_name_adds_no_cell_row_or_command_to_latex() -> None:
    text = to_latex(GRID)
    used = commands(text.replace("{%\n", "{").replace("$-$", "-"))
    assert [used.count(rf"\{name}") for name in ("begin", "end")] == [2, 2]
    assert [used.count(rf"\{name}") for name in ("toprule", "midrule", "bottomrule")] == [1, 2, 1]
    shown = r"=1\textbar{}2 \& \textless{}b\textgreater{} 5 \% \#\{x\} \textbackslash{}end\{tabular\} "
    shown += r"\textasciitilde{}\textasciicircum{}\_\$"
    assert rf"\caption{{{shown}. {shown}}}" in text
    rows = [line for line in text.split("\n") if line.endswith(r"\\") and "multicolumn" not in line]
    shared = rf"{shown} & first & \shortstack{{$-$1.0\\{{\scriptsize $-$2.0 to 3.0}}}} & \textit{{missing}} & 50.0 \\"
    assert rows == [
        rf"{shown} & run & {shown} & zh & en \\",
        shared,
        rf" & second & {shown} & 2.0 & 0.0 \\",
        rf"{shown} & third & 1.0 & 2.0 & 3.0 \\",
    ]
    sections = [line for line in text.split("\n") if line.startswith(r"\multicolumn{5}{l}")]
    assert sections == [rf"\multicolumn{{5}}{{l}}{{\textit{{{name}}}}} \\" for name in (shown, "Other")]
    assert rf"\cmidrule(lr){{3-4}}\cmidrule(lr){{5-5}}{chr(10)}{shown} & run" in text


class Table(HTMLParser):
    """The tags of a table with what screen readers need of them, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given.get("scope") or given.get("class") or ""))

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


def test_html_has_a_scope_for_every_header_and_no_tag_of_a_name() -> None:
    shown = " ".join(NAME.split())
    first, second = map(Table, to_html(GRID).split("</table>")[:2])
    headers = [scope for tag, scope in first.tags if tag == "th"]
    # Two heads, two columns; a section with two rows, whose first label holds for both, and one with one row.
    assert headers == ["col"] * 4 + ["rowgroup", "row", "row", "row", "rowgroup", "row", "row"]
    assert [tag for tag, _ in first.tags].count("tbody") == 2
    assert ("td", "missing") in first.tags
    assert {tag for tag, _ in first.tags} == {
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "small", "span")
    }
    assert first.texts[:5] == [shown, shown, "run", shown, "zh"]
    assert second.texts == ["second", shown, "run", "en", shown, shown, "first", "50.0", "second", "0.0"] + [
        *("Other", shown, "third", "3.0")
    ]


def test_text_has_a_line_per_column_and_intervals_beside_numbers() -> None:
    plain = Grid(
        "t", "n", ("image_source", "run"), (("MMMB", ("en", "zh")),), ((("all", "parrot"), GRID.rows[0][1][:2]),)
    )
    title, head, _, *lines = [line for line in to_text(plain).split("\n") if line]
    assert title == "MMMB, all"
    assert [cells(line) for line in (head, *lines)] == [["", "parrot"], ["en", "-1.0 (-2.0 to 3.0)"], ["zh", "missing"]]
