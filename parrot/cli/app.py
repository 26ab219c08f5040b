"""The `parrot` command. Every subcommand calls its stage's module, which it imports when it runs."""

from __future__ import annotations

import sys

import typer

from parrot.cli import cluster, evaluate, report, train
from parrot.cli.chat import chat
from parrot.cli.clean import clean
from parrot.cli.runs import compare, overlap, runs
from parrot.errors import in_one_line

app = typer.Typer(
    help="Train and evaluate Parrot. Settings come from a run of config/runs.yaml or from a JSON file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(train.commands)
app.add_typer(evaluate.commands)
app.add_typer(report.report, name="report")
app.add_typer(report.track, name="track")
for command in (chat, clean, compare, overlap, runs):
    app.command()(command)
app.add_typer(cluster.commands)


def main() -> None:
    """Run the command; report an error in one line on stderr, with exit code 2 for a malformed command line, else 1."""
    with in_one_line():
        try:
            code = app(prog_name="parrot", standalone_mode=False)  # else Typer draws a box of five lines
        except typer.TyperException as error:
            message = " ".join(error.format_message().split())
            if message:  # empty after the help text, shown when no command is given
                print(f"parrot: error: {message.removesuffix('.')}; see {_command(error)} --help", file=sys.stderr)
            code = error.exit_code
        sys.exit(code or 0)


def _command(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "parrot"
