"""What the report reads: runs, benchmarks, the tables and figures chosen, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from parrot.config.base import Distinct, Pair, Several, StrictModel, Text
from parrot.config.benchmarks import SCORINGS, Benchmark, Control
from parrot.config.catalog import Language, load_catalogue
from parrot.config.runs import Run
from parrot.config.settings import Conventions, Tuning
from parrot.config.suite import Suite
from parrot.errors import UserError, nearest

TableKind = Literal["contrast", "accuracy", "controls", "kinds", "differences", "information", "published"]
FigureKind = Literal["bars", "router", "losses"]
TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
FIGURES = frozenset({"bars", "router", "losses"})
COMPARED = ("contrast", "differences")
# What a target, a run or a family, is shown by.
OF_TARGETS = frozenset({*COMPARED, "accuracy", "bars", "losses"})


# Canonical JSON sorts the keys of a mapping, so one whose order means something travels as a list of pairs.
def _of_pairs(value: object) -> object:
    if isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
        return {str(name): entry for name, entry in value}
    return value


_FROM_PAIRS = BeforeValidator(_of_pairs)
Words = Annotated[
    dict[Text, Text], _FROM_PAIRS, PlainSerializer(lambda value: list(value.items()), return_type=list[tuple[str, str]])
]


class PublishedTable(StrictModel):
    """Where config/published_results.csv has a benchmark's values."""

    benchmark: Text = Field(description="as its column benchmark names it")
    table: Text = Field(description="what its column source ends with, e.g. Table 14")


class PublishedSystem(StrictModel):
    """A row of a paper's table, and what it stands beside."""

    name: Text = Field(description="the run that it is compared with; of kind published what the row is called")
    system: Text = Field(description="as the column system names it")
    llm: str = Field("", description="as the column llm names it; none: there is one of that system")


class Compare(StrictModel):
    """A paper's values and the rows that they stand beside."""

    paper: Text = Field("arXiv:2406.02539v3 (ICML 2025)", description="what the column source begins with")
    tables: dict[Text, PublishedTable] = Field(min_length=1, description="by benchmark, as the item names it")
    systems: Several[PublishedSystem] = Field(min_length=1)
    gain: str = Field("", description="kind published: what the last system adds to the first, before the points")


class ReportItem(StrictModel):
    """A table or a figure: an entry of config/tables.yaml."""

    kind: TableKind | FigureKind = "accuracy"
    title: Text
    benchmarks: Distinct[Text] = Field((), description="benchmark names as in scores.csv")
    columns: Distinct[Literal["languages", "non_english"] | Language] = Field(
        ("languages", "non_english"),
        min_length=1,
        description="of each benchmark: languages: one each; non_english: the mean of all but English; or a language",
    )
    by: Literal["kind", "l2-category", "split"] = Field("kind", description="what kind kinds divides questions by")
    image_sources: Words = Field(
        default_factory=dict,
        description="emoji sets of the images (column image source) in words, as shown; figures show the first",
    )
    comparisons: Distinct[Pair[Text]] = Field((), description="pairs of runs; a difference is first minus second")
    questions: Text = Field(
        "all", description="kind of the questions that a contrast is about; all where a benchmark has none of this kind"
    )
    published: str = Field("", description="the paper's table or figure that it mirrors")
    compare: Compare | None = Field(
        None,
        description="the paper's values beside the runs of kind accuracy, at the scale paper and on its own benchmarks "
        "alone; kind published shows nothing else, on every page",
    )
    note: str = Field("", description="what to know to read kind published")

    @model_validator(mode="after")
    def _complete(self) -> ReportItem:
        if self.kind != "losses" and not self.benchmarks:
            raise ValueError(f"benchmarks must be given for kind {self.kind}")
        if (self.kind in COMPARED) != bool(self.comparisons):
            raise ValueError(f"comparisons belong to kinds {' and '.join(COMPARED)}, and must be given there")
        if self.kind == "contrast" and (len(self.benchmarks), len(self.comparisons)) != (1, 1):
            raise ValueError("kind contrast: expected one benchmark and one comparison")
        if self.kind != "contrast" and self.questions != "all":
            raise ValueError("questions belong to kind contrast")
        if self.compare is not None and self.kind not in ("accuracy", "published"):
            raise ValueError("compare belongs to kinds accuracy and published")
        if self.kind == "published" and (self.compare is None or {*self.benchmarks} - self.compare.tables.keys()):
            raise ValueError("kind published: expected compare with a table for each of the benchmarks")
        return self

    @property
    def is_figure(self) -> bool:
        """True for the kinds that are figures."""
        return self.kind in FIGURES


Items = Annotated[
    dict[str, ReportItem],
    _FROM_PAIRS,
    PlainSerializer(lambda value: list(value.items()), return_type=list[tuple[str, ReportItem]]),
]


class ReportedRun(StrictModel):
    """A run as the report names it.

    `pretrained` is the model that it evaluates without training; its languages and experts are then none.
    `stage1_key` is None likewise.
    """

    name: str
    title: str = ""
    pretrained: str = ""
    languages: Several[Language]
    num_experts: int
    language_model: Tuning = "full"
    stage1_key: str | None
    benchmarks: Several[str] = Field(description="what it was evaluated on, by name in scores")
    conventions: Conventions
    seed: int
    recipe_key: str = Field(
        description="digest of everything but the seed; runs that share it are one run at several seeds"
    )

    @property
    def label(self) -> str:
        """The run in plain words, e.g. ``6 languages, 6 experts``."""
        translator = self.conventions.translator
        by = {"none": "", "parallel_rows": ", translated: parallel rows"}
        translated = by.get(translator, f", translated by {translator}")
        if self.pretrained:
            return f"{self.pretrained}, as pretrained{translated}"
        languages = "English data only" if self.languages == ("en",) else f"{len(self.languages)} languages"
        experts = {0: "no experts", 1: "1 expert"}.get(self.num_experts, f"{self.num_experts} experts")
        language_model = {"full": "", "lora": ", LoRA", "frozen": ", language model frozen"}[self.language_model]
        return f"{languages}, {experts}{language_model}{translated}"

    @property
    def called(self) -> str:
        """The run in tables and figures: its title, or its name and label."""
        return self.title or f"{self.name} ({self.label})"


class ReportStage(StrictModel):
    """Exactly what the report stage reads, besides scores, graded items, predictions and records of the runs."""

    scale: str
    seed: int
    target: str | None = Field(None, description="the run or family that it is about; none: the config's report.runs")
    runs: Several[ReportedRun] = Field(min_length=1)
    comparisons: Several[Pair[str]] | None = Field(None, description="in place of those that the items name")
    benchmarks: Several[Benchmark]
    items: Items = Field(description="tables and figures by file name, in the order of the page")
    samples: int
    resamples: int
    notes: Several[str]
    notice: str = ""
    context: ReportItem | None = Field(None, description="the paper's values on the page, of kind published")
    published: str = Field("config/published_results.csv", description="the published values")

    @property
    def by_recipe(self) -> dict[str, dict[int, str]]:
        """For every recipe its runs by seed, the first one where several have the same."""
        found: dict[str, dict[int, str]] = {}
        for run in self.runs:
            found.setdefault(run.recipe_key, {}).setdefault(run.seed, run.name)
        return found

    @property
    def titles(self) -> dict[str, str]:
        """Benchmarks as readers see them, by their name in scores."""
        return {benchmark.name: benchmark.called for benchmark in self.benchmarks}

    @property
    def contrast(self) -> str | None:
        """The name of the item that shows the primary contrast."""
        return next((name for name, item in self.items.items() if item.kind == "contrast"), None)

    def compared(self, item: ReportItem) -> list[tuple[str, str]]:
        """Return the pairs of reported runs that `item` compares."""
        reported = {run.name for run in self.runs}
        pairs = item.comparisons if self.comparisons is None else self.comparisons
        return [pair for pair in pairs if reported.issuperset(pair)]

    @property
    def tables(self) -> dict[str, ReportItem]:
        """The items that are tables."""
        return {name: item for name, item in self.items.items() if not item.is_figure}

    @property
    def figures(self) -> dict[str, ReportItem]:
        """The items that are figures."""
        return {name: item for name, item in self.items.items() if item.is_figure}

    @property
    def shows_predictions_of(self) -> list[str]:
        """The runs whose predictions it reads: those whose router is shown, and all for samples of their texts."""
        vanilla = any(benchmark.scoring == "vanilla" for benchmark in self.benchmarks)
        router = any(item.kind in ("router", "information") for item in self.items.values())
        return [run.name for run in self.runs if (self.samples and vanilla) or (router and run.num_experts)]

    def outputs(self) -> list[str]:
        """Every file that `build` writes, relative to its output folder."""
        tables = [f"tables/{name}.{suffix}" for name in self.tables for suffix in ("csv", "md", "tex")]
        figures = [f"figures/{name}.{suffix}" for name in self.figures for suffix in ("png", "svg")]
        return [*tables, *figures, "report.html"]


class BrowseStage(Conventions):
    """Exactly what a run's page of answers reads, besides the predictions and the benchmarks' images."""

    scale: str
    run: str
    seed: int
    benchmarks: Several[Benchmark]
    controls: Several[Control]
    rows: int = Field(description="predictions on the page, at most")


def browse_stage(run: Run) -> BrowseStage:
    """Return the settings of the page of a run's predictions."""
    return BrowseStage(
        scale=run.config.scale,
        run=run.name,
        seed=run.config.seed,
        benchmarks=run.shown_benchmarks,
        controls=run.config.evaluate.controls,
        rows=run.config.report.browse_rows,
        **dict(run.conventions),
    )


def report_stage(suite: Suite, target: str | None = None, catalogues: str | Path = "config") -> ReportStage:
    """Return the report of `all`, or with `target` (a run or a family) that of its runs and their baselines.

    Raises:
        UserError: a table, run or target that no catalogue knows.
    """
    if target is None:
        return _stage(suite, suite.config.report.runs, _items(suite, catalogues), catalogues)
    return comparison_stage(suite, target, suite.target(target), suite.against(target), catalogues)


def comparison_stage(
    suite: Suite, target: str, members: Sequence[str], baselines: Sequence[str], catalogues: str | Path = "config"
) -> ReportStage:
    """Return the report that compares each of the runs `members` with each of `baselines`; errors as above."""
    items = {name: item for name, item in _items(suite, catalogues).items() if item.kind in OF_TARGETS}
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    for member, baseline in product(map(suite.run, members), map(suite.run, baselines)):
        # Runs with one recipe are one run at several seeds, compared together and never with itself.
        if member.recipe_key != baseline.recipe_key:
            pairs.setdefault((member.recipe_key, baseline.recipe_key), (member.name, baseline.name))
    stage = _stage(suite, dict.fromkeys((*members, *baselines)), items, catalogues)
    return stage.model_copy(update={"target": target, "comparisons": tuple(pairs.values())})


def _items(suite: Suite, catalogues: str | Path) -> dict[str, ReportItem]:
    """Return the tables and figures that the config chooses.

    Raises:
        UserError: an unknown one, one of an unknown benchmark, bars of one that is not evaluated, and a second primary
            contrast.
    """
    path = Path(catalogues) / "tables.yaml"
    catalogue = {name: item for name, item in load_catalogue(path, ReportItem).items() if item.kind != "published"}
    unsafe = [name for name in catalogue if not TABLE_NAME.fullmatch(name)]
    if unsafe:
        raise UserError(f"{path}: {unsafe[0]!r}: a table's name is made of letters, digits, _ and -")
    chosen = suite.config.report.tables
    unknown = [name for name in chosen if name not in catalogue]
    if unknown:
        raise UserError(f"config: report.tables: unknown table {unknown[0]}; {path} has {', '.join(catalogue)}")
    items = {name: catalogue[name] for name in chosen}
    known = dict.fromkeys(benchmark.name for benchmark in suite.benchmarks.values())
    for name, item in items.items():
        if lost := [benchmark for benchmark in item.benchmarks if benchmark not in known]:
            raise UserError(f"{path}: {name}: benchmarks: unknown benchmark {lost[0]}; {nearest(lost[0], known)}")
    evaluated = [entry.name for key, entry in suite.benchmarks.items() if key in suite.config.evaluate.benchmarks]
    for name, item in items.items():
        if item.kind == "bars" and item.benchmarks[0] not in evaluated:
            shown = f"{item.benchmarks[0]}, whose accuracies it shows"
            raise UserError(f"config: report.tables: {name}: expected evaluate.benchmarks with {shown}")
    contrasts = [name for name, item in items.items() if item.kind == "contrast"]
    if len(contrasts) > 1:
        raise UserError(f"config: report.tables: expected one primary contrast, found {', '.join(contrasts)}")
    return items


def _context(catalogues: str | Path) -> ReportItem | None:
    """Return the table of published values that every page has.

    Raises:
        UserError: there is a second one.
    """
    path = Path(catalogues) / "tables.yaml"
    found = {name: item for name, item in load_catalogue(path, ReportItem).items() if item.kind == "published"}
    if len(found) > 1:
        raise UserError(f"{path}: expected one table of kind published, found {', '.join(found)}")
    return next(iter(found.values()), None)


def _stage(suite: Suite, names: Iterable[str], items: dict[str, ReportItem], catalogues: str | Path) -> ReportStage:
    runs = [suite.run(name) for name in names]
    benchmarks = {benchmark.name: benchmark for run in runs for benchmark in run.shown_benchmarks}
    for name, item in items.items():
        summed = [b for b in item.benchmarks if b in benchmarks and SCORINGS[benchmarks[b].scoring].unit]
        if summed and item.kind in ("bars", "controls", *COMPARED):
            path = Path(catalogues) / "tables.yaml"
            raise UserError(f"{path}: {name}: benchmarks: {summed[0]} has no accuracies for kind {item.kind} to show")
    return ReportStage(
        scale=suite.config.scale,
        seed=suite.config.seed,
        runs=tuple(map(_reported, runs)),
        benchmarks=tuple(benchmarks.values()),
        items=items,
        context=_context(catalogues),
        samples=suite.config.report.samples,
        resamples=suite.config.evaluate.resamples,
        notes=suite.config.report.notes,
        notice=suite.config.report.notice,
    )


def _reported(run: Run) -> ReportedRun:
    trained = run.pretrained_model is None
    return ReportedRun(
        name=run.name,
        title=run.config.report.titles.get(run.name, ""),
        pretrained=run.config.model.hf or "",
        languages=run.config.data.languages if trained else (),
        num_experts=run.config.model.num_experts if trained else 0,
        language_model=run.config.tune.language_model,
        stage1_key=run.stage1_key,
        benchmarks=tuple(benchmark.name for benchmark in run.benchmarks),
        conventions=run.conventions,
        seed=run.config.seed,
        recipe_key=run.recipe_key,
    )
