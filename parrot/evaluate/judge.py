"""A judge model's ratings of free answers, beside reference answers, as LLaVA-Bench has them rated."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from parrot.config.settings import JudgeSettings
from parrot.config.staleness import key
from parrot.data.tsv import Rejection, read_tsv, records, write_tsv
from parrot.errors import UserError
from parrot.io.digests import tell
from parrot.io.web import HIDDEN, check_resolved, identity, shown, without_secrets, without_user

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REQUIRED = ("question", "caption", "gpt4_ans", "category", "image_sha256", "prediction")
COLUMNS = ("index", "judge", "request_sha256", "review")
SYSTEM = "You compare answers to questions about images, carefully and without favour."
REQUEST = (
    "You cannot see the image; the context describes it. Rate both answers for how helpful, relevant, accurate and "
    "detailed they are, each by one number from 1 to 10, the better the higher. Which of them comes first must not "
    "matter. Write the two numbers alone on the first line, that of answer 1 first, with a space between them. Explain "
    "them below."
)
RATING = re.compile(r"\s*(\d+(?:\.\d+)?)[ ,]+(\d+(?:\.\d+)?)\s*")
SECONDS = 300  # a judge's longest answer
# Of a request that a server refuses for now (429, 5xx) or does not hear; between them the seconds that it asks for in
# Retry-After, else 0.5 s, 1 s, 2 s and so on up to 8 s.
RETRIES = 6
MOST = 300  # characters of a server's step_fault that are shown


Name = tuple[str, str]  # of a review: the judge and the digest of its request


@dataclass(frozen=True)
class Ratings:
    """Both ratings of one review, 1 to 10."""

    reference: float
    prediction: float


Rate = Callable[[pd.DataFrame, str], list[Ratings | None]]
"""Rates the predictions of a benchmark file, by the file's name; None where a rating could not be read."""


def read_ratings(review: str) -> Ratings | None:
    """Return the two numbers of a review's first line; None where it holds anything else or a number beyond 1 to 10."""
    found = RATING.fullmatch(review.strip().split("\n")[0])
    if not found:
        return None
    reference, prediction = (float(number) for number in found.groups())
    return (
        Ratings(reference, prediction) if min(reference, prediction) >= 1 and max(reference, prediction) <= 10 else None
    )


def review(table: pd.DataFrame, judge: JudgeSettings, kept: Path) -> list[Ratings | None]:
    """Have the judge rate every row of a prediction file; None where it gave no ratings that can be read.

    Reviews are kept in the file `kept`, and the judge is asked again only where it or its request has changed.

    Raises:
        UserError: the judge does not answer.
    """
    return [read_ratings(text) for text in _reviews(table, judge, kept)]


def _reviews(table: pd.DataFrame, judge: JudgeSettings, kept: Path) -> list[str]:
    """Return the judge's review of every row, from the file `kept` where it is there, and write them to it."""
    known = {(row["judge"], row["request_sha256"]): row["review"] for row in _kept(kept)}
    requests = [_request(row, judge) for row in records(table)]
    salt = f"{judge.temperature}\n{SYSTEM}\n"
    names = [(judge.name, hashlib.sha256(f"{salt}{request}".encode()).hexdigest()) for request in requests]
    try:
        asyncio.run(
            _ask_all(judge, {name: r for name, r in zip(names, requests, strict=True) if name not in known}, known)
        )
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    finally:  # a judge that stops answering is asked about the rest alone
        rows = [(i, *name, known[name]) for i, name in zip(table["index"], names, strict=True) if name in known]
        if rows:
            reviews = pd.DataFrame(rows, columns=list(COLUMNS), dtype=str)
            write_tsv(reviews.assign(row_digest=[_digest(row) for row in records(reviews)]), kept)
    return [known[name] for name in names]


def _kept(path: Path) -> list[dict[str, str]]:
    """Read the reviews in `path` that are as they were written; report in one line how many are not."""
    rejected: list[Rejection] = []
    try:
        rows = records(read_tsv(path, COLUMNS, rejected)) if path.exists() else []
    except UserError:
        tell(path, "all reviews are requested again")
        return []
    sound = [row for row in rows if row.get("row_digest", _digest(row)) == _digest(row)]
    if lost := len(rejected) + len(rows) - len(sound):
        tell(path, f"{lost} reviews are requested again")
    return sound


def _digest(row: Mapping[str, str]) -> str:
    return key([row[name] for name in COLUMNS])


def _request(row: Mapping[str, str], judge: JudgeSettings) -> str:
    parts = {
        "Context": row["caption"],
        "Question": row["question"],
        "Answer 1": row["gpt4_ans"],
        "Answer 2": row["prediction"].strip(string.whitespace),  # as VLMEvalKit's wrapper stores it
        "Task": judge.request or REQUEST,
    }
    return "\n\n".join(f"[{name}]\n{text}" for name, text in parts.items())


async def _ask_all(judge: JudgeSettings, requests: Mapping[Name, str], reviews: dict[Name, str]) -> None:
    """Put the judge's review of each of `requests` into `reviews`; the first that fails ends all others.

    Raises:
        ExceptionGroup: of the UserErrors of those that failed at once.
    """
    if not requests:
        return
    places = asyncio.Semaphore(judge.concurrency)

    async def ask(name: Name, request: str) -> None:
        async with places:
            reviews[name] = await _ask(client, judge, request)

    async with _client(judge) as client, asyncio.TaskGroup() as group:
        for name, request in requests.items():
            group.create_task(ask(name, request))


def _client(judge: JudgeSettings) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # a second of imports that few runs need

    return AsyncOpenAI(
        api_key="none",  # `_headers` has it
        base_url=without_user(judge.url),
        timeout=SECONDS,
        max_retries=RETRIES,
        # Before every request, a redirected one too.
        http_client=DefaultAsyncHttpxClient(event_hooks={"request": [_check_request]}),
    )


def _headers(judge: JudgeSettings) -> dict[str, Any]:
    """Return headers that say who asks, without what OpenAI's own environment variables hold."""
    from openai import Omit

    headers: dict[str, Any] = {"Authorization": Omit(), "OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
    key = _key(judge)
    return headers | ({"Authorization": f"Bearer {key}"} if key else identity(judge.url))


def _key(judge: JudgeSettings) -> str:
    if judge.key_variable and judge.key_variable not in os.environ:
        raise UserError(f"evaluate.judge.key_variable: no environment variable {judge.key_variable}")
    return os.environ[judge.key_variable] if judge.key_variable else ""


async def _check_request(request: Any) -> None:
    check_resolved(str(request.url))


async def _ask(client: AsyncOpenAI, judge: JudgeSettings, request: str) -> str:
    """Return a review with readable ratings, or else the last of the judge's attempts."""
    review = ""
    for _ in range(judge.attempts):
        review = await _answer(client, judge, request)
        if read_ratings(review):
            break
    return review


async def _answer(client: AsyncOpenAI, judge: JudgeSettings, request: str) -> str:
    """Return what the judge's server answers.

    Raises:
        UserError: it does not answer, or with something else than a chat completion.
    """
    from openai import OpenAIError

    try:
        # Raw, since the client takes an answer of any other form for a completion too.
        answer = await client.chat.completions.with_raw_response.create(
            model=judge.name,
            temperature=judge.temperature,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": request}],
            extra_headers=_headers(judge),
        )
        return str(answer.http_response.json()["choices"][0]["message"]["content"])
    except (OpenAIError, OSError, ValueError, LookupError, TypeError) as error:
        # The client calls what did not reach the server a connection error, whose cause says more.
        said = " ".join(str(cause) for cause in (error, error.__cause__) if cause and str(cause))
        why = without_secrets(" ".join(said.split()), judge.url) or type(error).__name__
        if key := _key(judge):
            why = why.replace(key, HIDDEN)
        raise UserError(f"evaluate.judge: {judge.name} at {shown(judge.url)} does not respond: {why[:MOST]}") from None
