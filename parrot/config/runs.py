"""Runs by name: a name's overrides laid over the config, resolved to the settings that each stage of the run reads."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from parrot.config.benchmarks import KINDS, Benchmark, check_distinct
from parrot.config.catalog import (
    BackboneFolder,
    ConversationSet,
    Dataset,
    ImageArchive,
    Language,
    named_model,
)
from parrot.config.hardware import TrainingHardware, accumulation_steps
from parrot.config.run_catalogue import check_layer
from parrot.config.settings import Config, Conventions, ExpertSettings, ImageReading, Recipe
from parrot.config.stages import (
    AlignSettings,
    FetchSettings,
    PredictSettings,
    ScoreSettings,
    Tokenisation,
    TuneSettings,
    as_read,
    recipe_as_read,
)
from parrot.config.staleness import key
from parrot.errors import UserError

Entry = TypeVar("Entry", ConversationSet, BackboneFolder)


class UnpublishedError(UserError):
    """A run needs a data set that nobody publishes, and its file is not there."""


class Run:
    """One named run at one scale and seed, with the settings of its stages."""

    def __init__(
        self,
        name: str,
        config: Config,
        datasets: dict[str, Any],
        benchmarks: dict[str, Benchmark],
        archives: dict[str, ImageArchive],
    ):
        self.name = name
        self.config = config
        self._datasets = datasets
        self._benchmarks = benchmarks
        self._archives = archives

    def _conversations(self, names: tuple[str, ...]) -> tuple[ConversationSet, ...]:
        return tuple(self._entry(name, ConversationSet) for name in names)

    def _entry(self, name: str, kind: type[Entry]) -> Entry:
        entry = self._datasets.get(name)
        if not isinstance(entry, kind):
            known = ", ".join(sorted(n for n, other in self._datasets.items() if isinstance(other, kind)))
            what = "conversations" if kind is ConversationSet else "backbone"
            aliases = f"; aliases at scale {self.config.scale} are {', '.join(self.config.aliases) or 'none'}"
            where = f"run {self.name}: no {what} named {name} in config/datasets.yaml"
            raise UserError(f"{where}, which has {known}{aliases}")
        if entry.source == "unpublished" and isinstance(entry, ConversationSet) and not Path(entry.file).exists():
            raise UnpublishedError(
                f"run {self.name}: {name} is not published; whoever holds it puts it at {entry.file}"
            )
        return as_read(entry)

    def _by_language(self, sets: dict[Language, tuple[str, ...]], field: str) -> tuple[ConversationSet, ...]:
        missing = [language for language in self.config.data.languages if not sets.get(language)]
        if missing:
            raise UserError(f"run {self.name}: data.{field}: no set for language {missing[0]}")
        self._check_languages(sets, field)
        return tuple(s for language in self.config.data.languages for s in self._conversations(sets[language]))

    def _check_languages(self, sets: dict[Language, tuple[str, ...]], field: str) -> None:
        """Check that every set stands under its own language.

        Raises:
            UserError: a set stands under another one.
        """
        for language, names in sets.items():
            for name in names:
                if (own := self._entry(name, ConversationSet).language) != language:
                    where = f"run {self.name}: data.{field}.{language}"
                    raise UserError(f"{where}: expected sets of language {language}, found {name} of language {own}")

    @cached_property
    def fetch(self) -> FetchSettings:
        """All data, backbones and pretrained models of the run.

        Raises:
            UserError: a name that no catalogue has.
        """
        pretrained = [model for model in (self.pretrained_model, self.translator) if isinstance(model, BackboneFolder)]
        trained_on = self._trained_on if self.pretrained_model is None else {}
        places = {
            place
            for entry in trained_on.values()
            if isinstance(entry, ConversationSet)
            for place in entry.image_places.values()
        }
        return FetchSettings(
            datasets=trained_on | {model.path: model for model in pretrained},
            archives={name: archive for name, archive in self._archives.items() if archive.place in places},
            benchmarks=dict(zip(self.config.evaluate.benchmarks, self.benchmarks, strict=True)),
            tokenisations=self._tokenisations if trained_on else (),
        )

    @property
    def _trained_on(self) -> dict[str, Dataset]:
        """Data sets and backbones by catalogue name."""
        data, model = self.config.data, self.config.model
        by_language = [*data.instructions.values(), *data.validation.values()]
        conversations = [*data.align, *(name for names in by_language for name in names)]
        backbones = {name: self._entry(name, BackboneFolder) for name in (model.vision_tower, model.language_model)}
        return {name: self._entry(name, ConversationSet) for name in conversations} | backbones

    @property
    def _tokenisations(self) -> tuple[Tokenisation, ...]:
        data, model = self.config.data, self.config.model
        tuned_on = [name for sets in (data.instructions, data.validation) for names in sets.values() for name in names]
        stages: list[tuple[Literal["align", "tune"], Iterable[str], Recipe]] = [
            ("align", data.align, self.config.align),
            ("tune", tuned_on, self.config.tune),
        ]
        return tuple(
            Tokenisation(
                stage=stage,
                sets=tuple(dict.fromkeys(sets)),
                vision_tower=model.vision_tower,
                language_model=model.language_model,
                vision_feature_select=model.vision_feature_select,
                max_length=recipe.max_length,
            )
            for stage, sets, recipe in stages
        )

    @cached_property
    def pretrained_model(self) -> BackboneFolder | None:
        """The pretrained model that the run evaluates; None where it trains one."""
        model = self.config.model
        if model.hf is None:
            return None
        return named_model(model.hf, model.revision, self._datasets, f"run {self.name}: model.hf")

    @cached_property
    def translator(self) -> Literal["none", "parallel_rows"] | BackboneFolder:
        """What translates the questions into English before prediction."""
        match self.config.evaluate.translator:
            case "none" | "parallel_rows" as rows:
                return rows
            case name:
                return named_model(name, None, self._datasets, f"run {self.name}: evaluate.translator")

    @cached_property
    def _backbone_fields(self) -> dict[str, Any]:
        model = self.config.model
        return {
            "seed": self.config.seed,
            "vision_tower": self._entry(model.vision_tower, BackboneFolder),
            "language_model": self._entry(model.language_model, BackboneFolder),
            "projector": model.projector,
            "vision_feature_layer": model.vision_feature_layer,
            "vision_feature_select": model.vision_feature_select,
            **model.model_dump(include=set(ImageReading.model_fields)),
        }

    @cached_property
    def align(self) -> AlignSettings:
        """Stage 1's settings, for a run that trains.

        Raises:
            UserError: an unknown data set or backbone.
        """
        data = self._conversations(self.config.data.align)
        return AlignSettings(**self._backbone_fields, data=data, recipe=self.config.align)

    @cached_property
    def tune(self) -> TuneSettings:
        """Stage 2's settings, for a run that trains.

        Raises:
            UserError: an unknown data set or backbone, or a language without an instruction set.
        """
        model, data = self.config.model, self.config.data
        experts = ExpertSettings(**model.model_dump(include=set(ExpertSettings.model_fields)))
        self._check_languages(data.validation, "validation")
        validation = tuple(s for names in data.validation.values() for s in self._conversations(names))
        return TuneSettings(
            **self._backbone_fields,
            experts=experts if model.num_experts else ExpertSettings(num_experts=0),
            data=self._by_language(data.instructions, "instructions"),
            validation=validation,
            recipe=recipe_as_read(self.config.tune),
        )

    @cached_property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """The run's benchmarks, as its stages read them.

        Raises:
            UserError: one is unknown, or lacks its judge, or two would be taken for one another.
        """
        names = self.config.evaluate.benchmarks
        unknown = [name for name in names if name not in self._benchmarks]
        if unknown:
            known = ", ".join(sorted(self._benchmarks))
            raise UserError(f"run {self.name}: unknown benchmark {unknown[0]}; config/benchmarks.yaml has {known}")
        generation = self.config.evaluate.generation
        if odd := [name for name in generation if name not in names]:
            where = f"run {self.name}: evaluate.generation: {odd[0]}"
            raise UserError(f"{where}: expected one of evaluate.benchmarks: {', '.join(names)}")
        entries = {name: self._benchmarks[name] for name in names}
        entries |= {name: entries[name].model_copy(update={"generation": own}) for name, own in generation.items()}
        judged = [name for name, entry in entries.items() if not KINDS[entry.kind].matched]
        if judged and self.config.evaluate.judge is None:
            raise UserError(
                f"run {self.name}: evaluate.benchmarks: {judged[0]} needs a judge model; "
                "expected one in evaluate.judge, or a list without it"
            )
        check_distinct(entries, self.config.evaluate.controls, f"run {self.name}: evaluate.benchmarks")
        return tuple(map(as_read, entries.values()))

    @cached_property
    def shown_benchmarks(self) -> tuple[Benchmark, ...]:
        """The run's benchmarks with their titles.

        Raises:
            UserError: as for `benchmarks`.
        """
        titles = [self._benchmarks[name].title for name in self.config.evaluate.benchmarks]
        together = zip(self.benchmarks, titles, strict=True)
        return tuple(entry.model_copy(update={"title": title}) for entry, title in together)

    def _check_router_languages(self) -> None:
        """Check that a router that goes by the language knows those of all benchmarks.

        Raises:
            UserError: it does not know one.
        """
        model = self.config.model
        if self.pretrained_model is not None or model.router != "language" or not model.num_experts:
            return
        known = self.tune.router_languages
        for benchmark in self.benchmarks:
            if odd := [language for language in benchmark.files if language not in known]:
                raise UserError(
                    f"run {self.name}: evaluate.benchmarks: {benchmark.name}: expected languages that the router "
                    f"language knows, {', '.join(known)}, found {odd[0]}; it learns those of data.languages too"
                )

    @cached_property
    def predict(self) -> PredictSettings:
        """What the run's model predicts, and how.

        Raises:
            UserError: as for `benchmarks`, or an unknown pretrained model.
        """
        self._check_router_languages()
        evaluate = self.config.evaluate
        return PredictSettings(
            model=self.pretrained_model,
            benchmarks=self.benchmarks,
            controls=evaluate.controls,
            prompt_language=evaluate.prompt_language,
            dtype=evaluate.dtype,
            translator=self.translator,
            missing_values=evaluate.missing_values,
        )

    @cached_property
    def predict_stage1(self) -> PredictSettings:
        """What the language model predicts before stage 2: the control in words alone, where benchmarks have it."""
        trained = self.pretrained_model is None
        controls = tuple(control for control in self.predict.controls if control == "text" and trained)
        shown = tuple(benchmark for benchmark in self.benchmarks if "text" in benchmark.controls)
        as_they_are = {"controls": controls, "benchmarks": shown if controls else (), "translator": "none"}
        return self.predict.model_copy(update=as_they_are)

    @property
    def scores_before(self) -> bool:
        """True if predictions of the language model before stage 2 are scored beside the run's own."""
        return bool(self.predict_stage1.controls) and self.translator == "none"

    @cached_property
    def score(self) -> ScoreSettings:
        """How the run's answers become accuracies.

        Raises:
            UserError: as for `benchmarks`.
        """
        evaluate = self.config.evaluate
        return ScoreSettings(
            run=self.name,
            seed=self.config.seed,
            benchmarks=self.benchmarks,
            controls=evaluate.controls,
            resamples=evaluate.resamples,
            judge=evaluate.judge if any(not KINDS[entry.kind].matched for entry in self.benchmarks) else None,
            **dict(self.conventions),
        )

    @cached_property
    def conventions(self) -> Conventions:
        """How the run's questions are worded and its answers read."""
        return Conventions(**self.config.evaluate.model_dump(include=set(Conventions.model_fields)))

    @cached_property
    def recipe_key(self) -> str:
        """Digest of all settings of the run but its seed; runs with the same recipe are one at several seeds."""
        excluded = {"seed", "report", "hardware", "limits", "aliases", "overlap"}
        return key(self.config.model_dump(exclude=excluded))

    def resolve(self) -> None:
        """Resolve every stage's settings.

        Raises:
            UserError: a name is unknown.
        """
        _ = self.fetch, self.predict, self.score
        if self.pretrained_model is None:
            _ = self.align, self.tune

    def check(self) -> None:
        """As `resolve`.

        Raises:
            UserError: as `resolve`; hardware that no batch fits; a layer that the encoder has not.
        """
        self.resolve()
        if self.pretrained_model is None:
            model = self.config.model
            encoder = self._datasets[model.vision_tower]  # as the catalogue has it: no stage reads its shape
            check_layer(model.vision_feature_layer, encoder, f"run {self.name}: model.vision_feature_layer")
            self._check_parallelism("align", self.align.recipe, self.config.hardware.align)
            self._check_parallelism("tune", self.tune.recipe, self.config.hardware.tune)

    def _check_parallelism(self, stage: str, recipe: Recipe, hardware: TrainingHardware) -> None:
        try:
            accumulation_steps(recipe.global_batch, hardware.micro_batch, self.config.hardware.processes)
        except UserError as error:
            raise UserError(f"run {self.name}: hardware.{stage}: {error}") from None

    @cached_property
    def stage1_key(self) -> str | None:
        """Digest of exactly what stage 1 reads; runs with the same key share one alignment. None without training."""
        return key(self.align) if self.pretrained_model is None else None

    @cached_property
    def data_key(self) -> str:
        """Digest of the data that the run names; runs with the same key share one check of it."""
        return key(self.fetch)
