"""`parrot chat`: read questions, show replies."""

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
    option: Annotated[list[str] | None, typer.Option(help="an answer option; repeat it for each option")] = None,
    instruction: Annotated[
        str | None, typer.Option(help="a closing sentence, such as a benchmark's instruction")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="language of the questions, such as en; only for a run whose router reads the language"),
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive",
            help="read questions from standard input, one per line; a line may be a JSON object with the key question "
            "and, optionally, options and instruction in place of --option and --instruction",
        ),
    ] = False,
    json_lines: Annotated[
        bool, typer.Option("--json", help="print one JSON object per reply, with the router weights")
    ] = False,
    router: Annotated[bool, typer.Option("--router", help="show each expert's weight below the reply")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="maximum number of tokens per reply")] = 256,
) -> None:
    """Chat with a trained model about an image; replies appear as they are generated.

    Questions are independent: the model sees neither earlier questions nor its replies to them. Without a question on
    the command line, a terminal prompts for questions, as with --interactive.
    """
    given, options = questions or [], option or []
    if not given and not interactive and not sys.stdin.isatty():
        raise UserError("expected a question, or --interactive to read questions from standard input")
    reading = interactive or not given
    for question in given:
        one = _question(question, options, instruction)
        _query(one.question, one.options, one.instruction)  # report errors before the model is loaded
    from parrot.evaluate.chat import Chat

    assistant = Chat(model, image, None if language is None else validate(Language, language, "--language"))

    def answer(text: str, heading: bool) -> None:
        one = _question(text, options, instruction)
        question, query = one.question, _query(one.question, one.options, one.instruction)
        if json_lines:
            reply = assistant.reply(query, max_new_tokens)
            line = {
                "question": question,
                "query": query,
                "answer": reply.text,
                "stop_reason": reply.stop_reason,
                "router_weights": [round(weight, ROUTER_DECIMALS) for weight in reply.router_weights],
                "image": str(image),
                "model": str(model),
            }
            utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"  # other encodings: JSON's escapes
            print(json.dumps(line, ensure_ascii=not utf8), flush=True)
        else:
            if heading:
                print(f"> {question}", flush=True)
            _stream(assistant, query, max_new_tokens, router)

    for question in given:
        answer(question, heading=reading or len(given) > 1)
    if reading and not _answer_lines(lambda question: answer(question, heading=not _on_terminal())):
        raise SystemExit(1)


class Question(StrictModel):
    """A question with its answer options and its closing instruction."""

    question: str
    options: Several[str] = ()
    instruction: str | None = None


def _question(text: str, options: Sequence[str], instruction: str | None) -> Question:
    """Return the question of `text`, which is plain text or a JSON object.

    Raises:
        UserError: a malformed JSON object.
    """
    if text.startswith("{"):
        return validate(Question, parse_json(text, "question"), "question")
    # Not validated: `_query` applies the same checks and names the option in its messages.
    return Question.model_construct(question=text, options=tuple(options), instruction=instruction)


def _query(question: str, options: Sequence[str], instruction: str | None) -> str:
    """Return the user's turn: image, question, lettered options as a benchmark lists them, instruction.

    Raises:
        UserError: more options than letters; a text that is blank, contains `<image>` or is not UTF-8.
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
            raise UserError(f"{name}: expected no {IMAGE_TOKEN} in the text; it marks the image's position")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UserError(f"{name}: expected UTF-8 text") from None
    lettered = (f"{letter}. {text}" for letter, text in zip(string.ascii_uppercase, options, strict=False))
    return "\n".join([IMAGE_TOKEN, question, *lettered, *closing])


def _stream(assistant: Chat, query: str, max_new_tokens: int, router: bool) -> None:
    reply = assistant.reply(query, max_new_tokens, lambda piece: print(piece, end="", flush=True))
    print()
    if router:
        shares = (f"{100 * weight:.1f} %" for weight in reply.router_weights)
        print("experts:", ", ".join(shares) or "none")
    sys.stdout.flush()
    if reply.stop_reason == "length":
        print(f"parrot: reply cut off at {max_new_tokens} tokens; --max-new-tokens sets the limit", file=sys.stderr)


def _answer_lines(answer: Callable[[str], None]) -> bool:
    """Answer the lines of standard input as they arrive; return True if every line was a valid question."""
    all_answered = True
    for question in _lines():
        try:
            answer(question)
        except UserError as error:
            print("parrot: error:", error, file=sys.stderr)
            all_answered = False
    return all_answered


def _lines() -> Iterator[str]:
    """Yield the non-blank lines of standard input; prompt for each on a terminal."""
    if _on_terminal():
        import readline  # noqa: F401  gives input() line editing and a history

        print("One question per line; questions are independent. Ctrl-D ends.", file=sys.stderr)
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
