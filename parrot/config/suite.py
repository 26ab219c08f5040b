"""All runs of one scale by name, the families that make grids of them, and the catalogues that they name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from parrot.config.base import validate
from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import ConversationSet, Dataset, ImageArchive, in_archives, load_catalogue
from parrot.config.run_catalogue import check_overrides, expand
from parrot.config.runs import Run
from parrot.config.settings import Config, load_config, overlay
from parrot.config.staleness import key
from parrot.config.strict_yaml import read_yaml
from parrot.errors import UserError, nearest

DEFAULT_CONFIG = ("config/config.yaml",)
# Rules of the workflow, and what it writes beside runs' folders, which a run or a family may therefore not be called.
RESERVED = frozenset(
    {"all", "stage1", "tables", "figures", "fetch", "align", "tune", "link_model", "predict", "predict_stage1", "score"}
    | {"scores", "report", "predictions_page", "by_target", "track", "track_target", "tracked", "data", "families"}
    | {"scores.csv", "report.html", "data.json", "fetch.log", "scores.log", "report.log", "track.log"}
)


class Suite:
    """All runs of one scale, by name, and the families that make grids of them."""

    def __init__(self, raw: dict[str, Any], catalogues: str | Path = "config", where: str = "config"):
        folder = Path(catalogues)
        self.raw = raw
        self.config: Config = validate(Config, raw, where)
        if self.config.model.hf is not None:
            raise UserError(f"{where}: model.hf: expected in a run of config/runs.yaml, which trains no model")
        self.datasets: dict[str, Any] = load_catalogue(folder / "datasets.yaml", Dataset)
        self.archives: dict[str, ImageArchive] = load_catalogue(folder / "images.yaml", ImageArchive)
        for name, entry in self.datasets.items():
            if isinstance(entry, ConversationSet):
                self.datasets[name] = in_archives(entry, self.archives, f"{folder / 'datasets.yaml'}: {name}")
        self.benchmarks: dict[str, Benchmark] = load_catalogue(folder / "benchmarks.yaml", Benchmark)
        runs_file = folder / "runs.yaml"
        self.overrides, self.families, self._against = expand(read_yaml(runs_file), str(runs_file), RESERVED)
        self._where = str(runs_file)
        self._runs: dict[str, Run] = {}

    @classmethod
    def load(cls, configfiles: tuple[str, ...] = DEFAULT_CONFIG) -> Suite:
        """Return the suite of config files laid over one another.

        Raises:
            UserError: a file is missing or does not fit.
        """
        return cls(load_config(*configfiles), where=" + ".join(configfiles))

    def run(self, name: str) -> Run:
        """Return the run `name`.

        Raises:
            UserError: the name is unknown (known ones are listed), or an override does not fit.
        """
        if name in self.families:
            members = ", ".join(self.families[name])
            raise UserError(f"{self._where}: {name} is a family; expected one of its runs: {members}")
        if name not in self.overrides:
            raise UserError(f"{self._where}: unknown run {name}; {nearest(name, (*self.overrides, *self.families))}")
        if name not in self._runs:
            merged = overlay(self.raw, self.overrides[name])
            where = f"{self._where}: {name}"
            config = validate(Config, merged, where)
            check_overrides(self.overrides[name], config, where)
            try:
                config = config.without_aliases()
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
            self._runs[name] = Run(name, config, self.datasets, self.benchmarks, self.archives)
        return self._runs[name]

    @cached_property
    def trained_as(self) -> dict[str, str]:
        """For every run that trains the first run, in the catalogue's order, that resolves to the same training."""
        first: dict[str, str] = {}
        runs = [self.run(name) for name in self.trained(self.usable)]
        return {run.name: first.setdefault(f"{run.stage1_key} {key(run.tune)}", run.name) for run in runs}

    def trained(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the runs `names` that train a model."""
        return tuple(name for name in names if self.run(name).pretrained_model is None)

    @cached_property
    def misfits(self) -> dict[str, UserError]:
        """Runs whose settings or baselines do not fit this scale, and why; no other run suffers from them."""
        found: dict[str, UserError] = {}
        for name in self.overrides:
            try:
                for each in (name, *self.against(name)):
                    self.run(each).resolve()
            except UserError as error:
                found[name] = error
        return found

    @property
    def usable(self) -> tuple[str, ...]:
        """The runs that are no misfits."""
        return tuple(name for name in self.overrides if name not in self.misfits)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Every name that can be requested at this scale: runs, then families, none with a misfit."""
        whole = (name for name in self.families if not self.misfits.keys() & self.families[name])
        return (*self.usable, *whole)

    def check(self, target: str) -> None:
        """Check that all runs of a target and its baselines fit this scale and its hardware.

        Raises:
            UserError: the target is unknown, or a run does not fit.
        """
        for name in (*self.target(target), *self.against(target)):
            self.run(name).check()

    def with_stage1(self, stage1_key: str) -> Run:
        """Return the first run, in the catalogue's order, that starts from this stage 1."""
        return next(run for run in map(self.run, self.usable) if run.stage1_key == stage1_key)

    def with_data(self, data_key: str) -> Run:
        """Return the first run, in the catalogue's order, that names this data."""
        return next(run for run in map(self.run, self.usable) if run.data_key == data_key)

    def target(self, name: str) -> tuple[str, ...]:
        """Return the run names that a target (a run or a family) stands for."""
        return self.families.get(name) or (self.run(name).name,)

    def against(self, name: str) -> tuple[str, ...]:
        """Return the runs that a target is compared with, less its own.

        Raises:
            UserError: a name is no run.
        """
        own = self.target(name)
        for baseline in self._against[name]:
            if baseline not in self.overrides:
                raise UserError(
                    f"{self._where}: {name}: against: unknown run {baseline}; {nearest(baseline, self.overrides)}"
                )
        return tuple(baseline for baseline in self._against[name] if baseline not in own)
