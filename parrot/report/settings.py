"""What the report reads: runs, benchmarks, the tables and figures chosen, and what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from parrot.config import Benchmark, ConfigError, Control, Conventions, Language, Strict, Tuning, load_catalogue
from parrot.runs import Run, Suite

TableKind = Literal["accuracy", "controls", "kinds", "differences", "information"]
FigureKind = Literal["bars", "router", "losses"]
FIGURES = frozenset({"bars", "router", "losses"})

# Canonical JSON sorts the keys of a mapping, so one whose order means something travels as a list of pairs.
_FROM_PAIRS = BeforeValidator(lambda value: dict(value) if isinstance(value, list) else value)
Words = Annotated[
    dict[str, str], _FROM_PAIRS, PlainSerializer(lambda value: list(value.items()), return_type=list[tuple[str, str]])
]


class ReportItem(Strict):
    """A table or a figure: an entry of config/tables.yaml."""

    kind: TableKind | FigureKind = "accuracy"
    title: str
    benchmarks: tuple[str, ...] = Field((), description="benchmark names as in scores.csv")
    by: Literal["kind", "l2-category", "split"] = Field("kind", description="what kind kinds divides questions by")
    houses: Words = Field(
        default_factory=dict,
        description="emoji sets of the pictures (column house) in words, as shown; figures show the first",
    )
    comparisons: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of runs; a difference is first minus second"
    )
    published: str = Field("", description="the paper's table or figure that it mirrors")

    @model_validator(mode="after")
    def _complete(self) -> ReportItem:
        if self.kind != "losses" and not self.benchmarks:
            raise ValueError(f"benchmarks must be given for kind {self.kind}")
        if (self.kind == "differences") != bool(self.comparisons):
            raise ValueError("comparisons belong to kind differences, and must be given there")
        return self

    @property
    def is_figure(self) -> bool:
        return self.kind in FIGURES


Items = Annotated[
    dict[str, ReportItem],
    _FROM_PAIRS,
    PlainSerializer(lambda value: list(value.items()), return_type=list[tuple[str, ReportItem]]),
]


class ReportedRun(Strict):
    """A run as the report names it.

    `asked` is the model that it asks as it is; its languages and experts are then none. `stage1_key` is None likewise.
    """

    name: str
    asked: str = ""
    languages: tuple[Language, ...]
    num_experts: int
    language_model: Tuning = "full"
    stage1_key: str | None
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
        if self.asked:
            return f"{self.asked} as it is{translated}"
        languages = "English data only" if self.languages == ("en",) else f"{len(self.languages)} languages"
        experts = {0: "no experts", 1: "1 expert"}.get(self.num_experts, f"{self.num_experts} experts")
        language_model = {"full": "", "lora": ", LoRA", "frozen": ", language model frozen"}[self.language_model]
        return f"{languages}, {experts}{language_model}{translated}"


class ReportStage(Strict):
    """Exactly what the report stage reads, besides scores, predictions and records of the runs."""

    scale: str
    seed: int
    runs: tuple[ReportedRun, ...] = Field(min_length=1)
    benchmarks: tuple[Benchmark, ...]
    items: Items = Field(description="tables and figures by file name, in the order of the page")
    samples: int
    resamples: int
    notes: tuple[str, ...]
    published: str = Field("config/published_results.csv", description="the paper's values, for context on the page")
    page: bool = Field(description="whether report.html is written beside the tables")

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
    def tables(self) -> dict[str, ReportItem]:
        return {name: item for name, item in self.items.items() if not item.is_figure}

    @property
    def figures(self) -> dict[str, ReportItem]:
        return {name: item for name, item in self.items.items() if item.is_figure}

    def outputs(self) -> list[str]:
        """Every file that `build` writes, relative to its output folder."""
        tables = [f"tables/{name}.{suffix}" for name in self.tables for suffix in ("csv", "md", "tex")]
        figures = [f"figures/{name}.{suffix}" for name in self.figures for suffix in ("png", "svg")]
        return tables + figures + (["report.html"] if self.page else [])


class BrowseStage(Conventions):
    """Exactly what a run's page of answers reads, besides the predictions and the benchmarks' pictures."""

    scale: str
    run: str
    seed: int
    benchmarks: tuple[Benchmark, ...]
    controls: tuple[Control, ...]
    rows: int = Field(description="answers on the page, at most")


def browse_stage(run: Run) -> BrowseStage:
    """The page of a run's answers."""
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
    """The report of `all`, or with `target` (a run or a family) the accuracy tables of just that target's runs.

    Raises ConfigError for a table, run or target that no catalogue knows.
    """
    path = Path(catalogues) / "tables.yaml"
    catalogue: dict[str, ReportItem] = load_catalogue(path, ReportItem)
    report = suite.config.report
    unknown = [name for name in report.tables if name not in catalogue]
    if unknown:
        raise ConfigError(f"config: report.tables: unknown table {unknown[0]}; {path} has {', '.join(catalogue)}")
    items = {name: catalogue[name] for name in report.tables}
    if target is not None:
        items = {name: item for name, item in items.items() if item.kind == "accuracy"}
    runs = [suite.run(name) for name in (report.runs if target is None else suite.target(target))]
    benchmarks = {benchmark.name: benchmark for run in runs for benchmark in run.shown_benchmarks}
    for name, item in items.items():
        summed = [b for b in item.benchmarks if b in benchmarks and benchmarks[b].scoring in ("mme", "relative")]
        if summed and item.kind in ("bars", "controls", "differences"):
            raise ConfigError(f"{path}: {name}: benchmarks: {summed[0]} has no accuracies for kind {item.kind} to show")
    return ReportStage(
        scale=suite.config.scale,
        seed=suite.config.seed,
        runs=tuple(
            ReportedRun(
                name=run.name,
                asked=run.config.model.hf or "",
                languages=run.config.data.languages if run.pretrained_model is None else (),
                num_experts=run.config.model.num_experts if run.pretrained_model is None else 0,
                language_model=run.config.tune.language_model,
                stage1_key=run.stage1_key,
                conventions=run.conventions,
                seed=run.config.seed,
                recipe_key=run.recipe_key,
            )
            for run in runs
        ),
        benchmarks=tuple(benchmarks.values()),
        items=items,
        samples=report.samples,
        resamples=suite.config.evaluate.resamples,
        notes=report.notes,
        page=target is None,
    )
