"""Names of runs, benchmarks and categories stay names in every form of a table."""

from __future__ import annotations

import pytest

from parrot.report.escape import markdown, tex
from parrot.report.grid import Grid, to_csv
from parrot.report.render import to_latex, to_markdown
from parrot.report.scores import Cell


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


def test_a_hostile_name_adds_no_cell_line_or_formula() -> None:
    name = "=1|2\n& <b>"
    grid = Grid(name, name, ("house", "run"), ((name, (name,)),), (((name, name), (Cell(-1.0, -2.0, 3.0),)),))
    head, _, row = [line for line in to_markdown(grid).split("\n") if line.startswith("|")]
    shown = r"=1\|2 &amp; &lt;b&gt;"
    assert (head, row) == (
        f"| run | {shown} |",
        f"| {shown} | \N{MINUS SIGN}1.0<br><sub>\N{MINUS SIGN}2.0 to 3.0</sub> |",
    )
    rows = [line for line in to_latex(grid).split("\n") if line.startswith("=1")]
    assert len(rows) == 1
    assert rows[0].startswith(r"=1\textbar{}2 \& \textless{}b\textgreater{} & \shortstack")
    assert to_csv(grid).split("\n", 1)[1].startswith('"\'=1|2\n& <b>",')
