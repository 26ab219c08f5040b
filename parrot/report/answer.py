"""What a page asks in its title, and the sentences that answer it with numbers."""

from __future__ import annotations

from parrot.report.comparisons import Items
from parrot.report.contrast import Contrast, Measure, contrasts
from parrot.report.render import interval, number, shown
from parrot.report.scores import Cell
from parrot.report.settings import ReportedRun, ReportStage


def question(settings: ReportStage) -> str:
    """Return the page's title: the question of the config's report, or what a target's report compares."""
    if settings.target is None:
        return "Does tuning in six languages teach a model to see in six languages?"
    baselines = dict.fromkeys(other for _, other in settings.comparisons or ())
    return f"{settings.target} against {', '.join(baselines)}" if baselines else f"{settings.target} by itself"


def answer(settings: ReportStage, items: Items, on: Measure) -> str:
    """Answer the title, with intervals, and say how far one seed carries it; "" where nothing was compared."""
    sentences = [] if settings.target else _by_languages(settings, items, on)
    found = contrasts(settings, items, on)
    if found:
        differences = "; ".join(f"{one.run} minus {one.other} {one.points}" for one in found)
        beginning = "What the experts add" if sentences else f"On {on.what}, {on.where}"
        sentences.append(f"{beginning}: {differences}{_verdict(settings, found)}.")
    return " ".join(sentences)


def by_languages(settings: ReportStage) -> tuple[str, str] | None:
    """Return the run tuned in many languages and the one tuned in English alone whose models are otherwise alike."""
    pairs = (
        (run.name, english.name)
        for english in settings.runs
        for run in settings.runs
        if english.languages == ("en",) and len(run.languages) > 1 and _alike(run, english)
    )
    return next(pairs, None)


def _by_languages(settings: ReportStage, items: Items, on: Measure) -> list[str]:
    pair = by_languages(settings)
    compared = items.compare(*pair, on.benchmark, on.image_source, on.languages, on.kind) if pair else None
    if pair is None or compared is None:
        return []
    found = compared.difference
    many, english = (items.accuracy(name, on.benchmark, on.image_source, on.languages, on.kind) for name in pair)
    languages = next(len(run.languages) for run in settings.runs if run.name == pair[0])
    verdict = "Yes" if found.low > 0 else "No" if found.high < 0 else "These runs do not tell"
    return [
        f"{verdict}: on {on.what}, {on.where}, {pair[0]}, tuned in {languages} languages, is right in "
        f"{shown(many)} % and {pair[1]}, tuned in English alone, in {shown(english)} %, a difference of "
        f"{number(found.points)} points ({interval(Cell(found.points, found.low, found.high))})."
    ]


def _alike(run: ReportedRun, other: ReportedRun) -> bool:
    fields = ("num_experts", "language_model", "conventions", "pretrained")
    return all(getattr(run, name) == getattr(other, name) for name in fields)


def _verdict(settings: ReportStage, found: list[Contrast]) -> str:
    seeds = {run.name: len(settings.by_recipe[run.recipe_key]) for run in settings.runs}
    several = all(seeds[name] > 1 for one in found for name in (one.run, one.other))
    return "" if several else "; one seed, no verdict"
