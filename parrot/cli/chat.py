"""`parrot chat`: where questions come from and how answers are shown."""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parrot.config.base import Several, StrictModel, validate
from parrot.config.catalog import Language
from parrot.config.limits import limits
from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.io.files import parse_json

if TYPE_CHECKING:
    from parrot.evaluate.chat import Chat

ROUTER_DECIMALS = 6  # as in prediction files


def chat(
    model: Annotated[Path, typer.Option(help="model folder, e.g. results/mini/parrot/model")],
    image: Annotated[Path, typer.Option(help="image file")],
    questions: Annotated[list[str] | None, typer.Argument(help="questions about the image")] = None,
    option: Annotated[list[str] | None, typer.Option(help="an answer to choose from; may be given again")] = None,
    instruction: Annotated[str | None, typer.Option(help="a sentence to close with, such as a benchmark's")] = None,
    language: Annotated[
        str | None, typer.Option(help="the questions' language, such as en, where the router is told it")
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            help="read questions from standard input, one a line, until it ends; a line may be a JSON object with "
            "question and, in place of --option and --instruction, options and instruction",
        ),
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json", help="one JSON object a line for each answer, router weights included")
    ] = False,
    router: Annotated[bool, typer.Option("--router", help="show the experts' shares below each answer")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="most tokens that an answer may have")] = 256,
) -> None:
    """Ask a trained run about an image; answers appear as they are generated.

    Every question is asked on its own: the model remembers neither earlier questions nor its answers to them.
    Without a question, on a terminal, questions are read as with --interactive.
    """
    given, options = questions or [], option or []
    if not given and not interactive and not sys.stdin.isatty():
        raise UserError("expected a question, or --interactive to read questions from standard input")
    reading = interactive or not given
    for question in given:
        one = _question(question, options, instruction)
        _query(one.question, one.options, one.instruction)  # what is wrong with it is said before the model is loaded
    from parrot.evaluate.chat import Chat

    asked = Chat(model, image, None if language is None else validate(Language, language, "--language"))

    def answer(text: str, heading: bool) -> None:
        one = _question(text, options, instruction)
        question, query = one.question, _query(one.question, one.options, one.instruction)
        if json_lines:
            reply = asked.ask(query, max_new_tokens)
            line = {
                "question": question,
                "query": query,
                "answer": reply.text,
                "stop_reason": reply.stop_reason,
                "router_weights": [round(weight, ROUTER_DECIMALS) for weight in reply.router_weights],
                "image": str(image),
                "model": str(model),
            }
            utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"  # elsewhere JSON has escapes of its own
            print(json.dumps(line, ensure_ascii=not utf8), flush=True)
        else:
            if heading:
                print(f"> {question}", flush=True)
            _stream(asked, query, max_new_tokens, router)

    for question in given:
        answer(question, heading=reading or len(given) > 1)
    if reading and not _answer_lines(lambda question: answer(question, heading=not _on_terminal())):
        raise SystemExit(1)


class Question(StrictModel):
    """A question with the options to choose from and the sentence to close with."""

    question: str
    options: Several[str] = ()
    instruction: str | None = None


def _question(text: str, options: Sequence[str], instruction: str | None) -> Question:
    """A question as it is given, or the one that is written as a JSON object; UserError for one that is none."""
    if text.startswith("{"):
        return validate(Question, parse_json(text, "question"), "question")
    # Not validated: `_query` holds its texts to the same, and names the options that they come from.
    return Question.model_construct(question=text, options=tuple(options), instruction=instruction)


def _query(question: str, options: Sequence[str], instruction: str | None) -> str:
    """The user's turn: the image, the question, options as a benchmark lists them, the closing sentence.

    UserError for more options than letters, and for a text that is blank, holds `<image>` or is no UTF-8.
    """
    if len(options) > len(string.ascii_uppercase):
        raise UserError(f"--option: expected at most {len(string.ascii_uppercase)}, found {len(options)}")
    closing = [] if instruction is None else [instruction]
    texts = [("question", question), *(("--option", text) for text in options)]
    texts += [("--instruction", text) for text in closing]
    for name, text in texts:
        limits().check_text(text, name)
        if not text.strip():
            raise UserError(f"{name}: expected some text, found none")
        if IMAGE_TOKEN in text:
            raise UserError(f"{name}: expected no {IMAGE_TOKEN} in the text; it stands for the image")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"{name}: expected UTF-8 text") from None
    lettered = (f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False))
    return "\n".join([IMAGE_TOKEN, question, *lettered, *closing])


def _stream(asked: Chat, query: str, max_new_tokens: int, router: bool) -> None:
    reply = asked.ask(query, max_new_tokens, lambda piece: print(piece, end="", flush=True))
    print()
    if router:
        shares = (f"{100 * weight:.1f} %" for weight in reply.router_weights)
        print("experts:", ", ".join(shares) or "none")
    sys.stdout.flush()
    if reply.stop_reason == "length":
        print(f"parrot: answer cut off at {max_new_tokens} tokens; --max-new-tokens allows more", file=sys.stderr)


def _answer_lines(answer: Callable[[str], None]) -> bool:
    """Answer the lines of standard input as they come; whether every one of them was a question that can be asked."""
    all_answered = True
    for question in _lines():
        try:
            answer(question)
        except UserError as error:
            print("parrot: error:", error, file=sys.stderr)
            all_answered = False
    return all_answered


def _lines() -> Iterator[str]:
    """Lines of standard input without the blank ones; on a terminal each is asked for."""
    if _on_terminal():
        import readline  # noqa: F401  lets input() edit the line and bring back earlier ones

        print("One question a line, each asked on its own; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input("> " if _on_terminal() else "").strip()
        except EOFError:
            if _on_terminal():
                print()
            return
        except UnicodeDecodeError:
            raise UserError("standard input: expected UTF-8 text") from None
        if line:
            yield line


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
