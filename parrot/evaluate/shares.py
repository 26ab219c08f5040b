"""Who asks what, and in which batches: shares of one cost for each process, batches of about one length."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from parrot.evaluate.questions import Question


@dataclass(frozen=True)
class Share:
    """Some pictures, each once, and the batches of all questions about them, as places among the questions."""

    pictures: list[str]
    batches: list[list[int]]


def shares(
    questions: Sequence[Question], lengths: Sequence[int], batch: int, pictures_at_once: int, processes: int = 1
) -> list[list[Share]]:
    """The shares of each of `processes`, to be asked one after the other.

    All questions about a picture are in one share, so that it is encoded once whatever the languages, rotations and
    controls; a share holds about `pictures_at_once` pictures, whose features have to fit into memory. Shares cost about
    the same, in prompt (`lengths`) and answer tokens: questions about one picture go, costliest first, to the share
    that is cheapest so far.
    """
    about: dict[str | int, list[int]] = {}
    for place, question in enumerate(questions):
        about.setdefault(place if question.picture is None else question.picture, []).append(place)
    costs = {key: sum(lengths[p] + questions[p].max_new_tokens for p in places) for key, places in about.items()}
    pictures = sum(isinstance(key, str) for key in about)
    count = processes * max(1, -(-pictures // (pictures_at_once * processes)))
    cheapest = [(0, number) for number in range(count)]
    members: list[list[str | int]] = [[] for _ in range(count)]
    for key in sorted(about, key=lambda key: costs[key], reverse=True):
        cost, number = heapq.heappop(cheapest)
        members[number].append(key)
        heapq.heappush(cheapest, (cost + costs[key], number))
    order = {key: number for number, key in enumerate(about)}
    made = [_share(sorted(keys, key=order.__getitem__), about, questions, lengths, batch) for keys in members]
    return [made[process::processes] for process in range(processes)]


def _share(
    keys: list[str | int],
    about: dict[str | int, list[int]],
    questions: Sequence[Question],
    lengths: Sequence[int],
    batch: int,
) -> Share:
    places = sorted(place for key in keys for place in about[key])
    return Share([key for key in keys if isinstance(key, str)], list(_batches(places, questions, lengths, batch)))


def _batches(
    places: list[int], questions: Sequence[Question], lengths: Sequence[int], batch: int
) -> Iterator[list[int]]:
    """Questions to ask together: all with a picture or none, one limit, lengths close; longest first."""
    kinds: dict[tuple[bool, int], list[int]] = {}
    for place in places:
        kinds.setdefault((questions[place].picture is None, questions[place].max_new_tokens), []).append(place)
    for alike in kinds.values():
        alike.sort(key=lambda place: lengths[place], reverse=True)
        for start in range(0, len(alike), batch):
            yield alike[start : start + batch]
