"""What config/benchmarks.yaml may say: benchmarks, and what the benchmarks of one kind and one scoring share."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping
from pathlib import Path
from string import Formatter
from typing import Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from parrot.config.base import Distinct, FileName, Placed, StrictModel, Text
from parrot.config.catalog import HubFolder, Language, Md5, WebFolder
from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError

Control = Literal["none", "shuffled", "text"]
Kind = Literal["multiple_choice", "yes_no", "judged"]
Scoring = Literal["vanilla", "circular", "pairs", "mme", "relative"]


class BenchmarkEstimate(StrictModel):
    """A benchmark that is not fetched yet."""

    rows: int = Field(gt=0, description="of one language")
    images: int = Field(gt=0, description="distinct ones; languages and rotations share them")
    text: int = Field(gt=0, description="text tokens of a prompt, visual tokens not")
    answer: int = Field(gt=0, description="tokens of an answer, its end included")
    source: str = Field(description="where the figures come from")


class BenchmarkGeneration(StrictModel):
    """How a benchmark's predictions are decoded."""

    max_new_tokens: int = Field(gt=0, le=1 << 20, description="longest prediction")
    num_beams: int = Field(1, gt=0, le=1024, description="1: greedily")
    length_penalty: float | None = Field(
        None,
        ge=-100,
        le=100,
        description="of beams: a sequence's log-likelihood is divided by its length to this power; none: as the "
        "model's folder suggests",
    )

    @model_validator(mode="after")
    def _penalty_of_beams(self) -> BenchmarkGeneration:
        if self.num_beams == 1 and self.length_penalty is not None:
            raise ValueError("length_penalty: expected none without beams (num_beams)")
        return self


class BenchmarkKind(NamedTuple):
    """What the benchmarks of one kind have in common; `parrot.evaluate.kinds` has a module for how each is evaluated.

    Each line of a template is a part of the prompt; one that is nothing but the hint or the options is left out of
    items that have none.

    Attributes:
        columns: those that a benchmark file must have.
        expected: the column of the right or reference answer.
        choices: the answers that are allowed in `expected`; none: the letters of a row's options, or any text.
        matched: whether predictions are matched with `expected`, and so right or wrong; else a judge rates them.
        worded: whether an entry may word the instruction and choose its language.
    """

    template: str
    scorings: tuple[Scoring, ...]
    columns: tuple[str, ...]
    expected: str = "answer"
    choices: tuple[str, ...] = ()
    matched: bool = True
    worded: bool = False


KINDS: dict[Kind, BenchmarkKind] = {
    "multiple_choice": BenchmarkKind(
        "{hint}\n{question}\n{options}\n{instruction}",
        ("vanilla", "circular", "pairs"),
        columns=("index", "question", "A", "B", "answer", "image"),
        worded=True,
    ),
    "yes_no": BenchmarkKind(
        "{question}\n{instruction}",
        ("vanilla", "pairs", "mme"),
        columns=("index", "question", "answer", "category", "image"),
        choices=("Yes", "No"),
    ),
    "judged": BenchmarkKind(
        "{question}",
        ("relative",),
        columns=("index", "question", "caption", "gpt4_ans", "category", "image"),
        expected="gpt4_ans",
        matched=False,
    ),
}


class ScoringFacts(NamedTuple):
    """How readers name a way to count.

    Attributes:
        counts: what it does, where it is not each question by itself.
        unit: what its numbers are where they are no accuracies in per cent, and so have no upper bound.
        uncounted: what does not count, behind its number.
    """

    counts: str = ""
    unit: str = ""
    uncounted: str = ""


SCORINGS: dict[Scoring, ScoringFacts] = {
    "vanilla": ScoringFacts(),
    "circular": ScoringFacts(
        "counts the questions whose rotations are all right",
        uncounted="groups without their first rotation",
    ),
    "pairs": ScoringFacts(
        "counts the pairs of rows that are both right",
        uncounted="pairs that have not two rows",
    ),
    "mme": ScoringFacts(
        "adds up accuracies by category and those of images with both questions right",
        "100 x accuracy + 100 x accuracy of images with both questions right, summed over categories",
        "pairs that have not two rows",
    ),
    "relative": ScoringFacts(
        "compares the judge's ratings with those of the reference answers",
        "100 x the judge's mean rating of the predictions over that of the reference answers",
        "predictions without a readable rating",
    ),
}
TEMPLATE_PARTS = frozenset({"hint", "question", "options", "instruction"})


class Benchmark(Placed):
    """A VLMEvalKit-style benchmark: one TSV a language."""

    name: FileName = Field(max_length=100, description="name in scores and files, e.g. MMMB")
    title: str = Field("", description="what tables, figures, pages and MLflow call it; none: the name")
    folder: Text
    files: dict[Language, FileName] = Field(min_length=1, description="TSV file name by language, e.g. zh: MMMB_cn.tsv")
    published_as: dict[Language, FileName] = Field(
        default_factory=dict, description="names of files at the source, and in VLMEvalKit, where they are others"
    )
    kind: Kind = Field(
        "multiple_choice",
        description="yes_no: questions without options; judged: free answers that a judge model rates",
    )
    instruction: dict[Language, Text] = Field(
        default_factory=dict,
        description="closing sentence of multiple_choice prompts, by language; none: VLMEvalKit's Parrot wrapper's",
    )
    prompt_language: Literal["dataset", "group"] | None = Field(
        None,
        description="language of the wrapper's instruction, overriding the run's: for a benchmark that "
        "VLMEvalKit knows by one name, and words as a group (multiple_choice)",
    )
    template: str = Field(
        "",
        description="the prompt, of {hint}, {question}, {options} and {instruction}; none: VLMEvalKit's for the kind",
    )
    scoring: Scoring = Field(
        description="which accuracy tables show; scores.csv has every one that the rows allow: vanilla: each question "
        "once; circular: all rotations right; pairs: both rows of a pair_id right (the paper's yes/no pairs); mme: "
        "accuracies by category plus those of images with both questions right, summed; relative: the judge's rating "
        "over that of the reference answers"
    )
    sums: dict[Text, Distinct[Text]] = Field(
        default_factory=dict, description="categories that scoring mme adds up, by the name of their sum"
    )
    generation: BenchmarkGeneration = Field(description="how predictions are decoded, unless evaluate.generation says")
    controls: Distinct[Control] = Field(
        ("none",), min_length=1, description="which of the run's controls this benchmark supports"
    )
    rejected_rows: Literal["refuse", "list"] = Field(
        "refuse",
        description="rows that cannot be predicted or graded; refuse: the first one stops the run; list: they are left "
        "out, counted in scores and tables, and listed beside the predictions",
    )
    rotations_agree: bool = Field(
        True, description="whether rotations whose right options read differently are such rows; VLMEvalKit never looks"
    )
    rows: int | None = Field(None, gt=0, description="expected rows a language; checked where given")
    md5: dict[Language, Md5] = Field(default_factory=dict, description="digests of files; checked where given")
    licence: str = ""
    source: Literal["composed", "local"] | HubFolder | WebFolder = "local"
    estimate: BenchmarkEstimate | None = Field(None, exclude=True, description="for `parrot plan` alone")

    @property
    def called(self) -> str:
        """The benchmark as readers see it."""
        return self.title or self.name

    @field_validator("template")
    @classmethod
    def _has_known_parts(cls, template: str) -> str:
        return _check_template(template) if template else template

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Benchmark:
        if self.scoring not in KINDS[self.kind].scorings:
            raise ValueError(f"scoring: expected {' or '.join(KINDS[self.kind].scorings)} for {self.kind}")
        worded = KINDS[self.kind].worded
        if not worded and (self.instruction or self.prompt_language):
            kinds = " and ".join(kind for kind, facts in KINDS.items() if facts.worded)
            raise ValueError(f"instruction and prompt_language belong to {kinds}; {self.kind} has template")
        if odd := [language for language, sentence in self.instruction.items() if IMAGE_TOKEN in sentence]:
            raise ValueError(f"instruction.{odd[0]}: expected no {IMAGE_TOKEN}; the image comes before the text")
        # What the wrapper shortens depends on the sentence that the prompt ends with.
        if worded and self.template and not self.template.endswith("\n{instruction}"):
            raise ValueError(f"template: expected {{instruction}} as the last line for {self.kind}")
        if bool(self.sums) != (self.scoring == "mme"):
            raise ValueError("sums belong to scoring mme, and must be given there")
        added = [category for categories in self.sums.values() for category in categories]
        if len(added) != len(set(added)):
            raise ValueError("sums: expected every category once")
        for field in ("md5", "published_as"):
            unknown = getattr(self, field).keys() - self.files.keys()
            if unknown:
                raise ValueError(f"{field}: no file for {', '.join(sorted(unknown))}")
        return self


def _check_template(template: str) -> str:
    """Return `template`; ValueError where it has other placeholders than `TEMPLATE_PARTS`, or no {question}."""
    try:
        parts = [(name, form or how) for _, name, form, how in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"expected placeholders such as {{question}}: {error}") from None
    names = {name for name, _ in parts}
    if odd := [name for name, changed in parts if changed]:
        raise ValueError(f"expected placeholders such as {{question}}, found {{{odd[0]}}} with a format or conversion")
    if names - TEMPLATE_PARTS or "question" not in names:
        raise ValueError(
            f"expected {{question}} and none but {', '.join(sorted(TEMPLATE_PARTS))}, found {sorted(names)}"
        )
    if IMAGE_TOKEN in template:
        raise ValueError(f"expected no {IMAGE_TOKEN}; the image comes before the text")
    return template


def prediction_file(folder: Path, benchmark_file: str, control: Control) -> Path:
    """Where the answers to a benchmark file under a control lie."""
    stem = Path(benchmark_file).stem
    return folder / (f"{stem}.tsv" if control == "none" else f"{stem}.{control}.tsv")


def list_file(predictions: Path) -> Path:
    """Where the rows are listed that the prediction file `predictions` leaves out."""
    return predictions.with_suffix(".rejected.tsv")


def check_distinct(benchmarks: Mapping[str, Benchmark], controls: Collection[Control], where: str) -> None:
    """UserError, starting with `where`, where two benchmarks or files would be taken for one another.

    `benchmarks` are catalogue entries by name. Benchmarks are told apart by their names in scores, files by those that
    `prediction_file` gives them under `controls`; some file systems keep neither case nor the form of an accent apart.
    """
    named: dict[str, str] = {}
    written: dict[str, str] = {}
    for name, benchmark in benchmarks.items():
        other = named.setdefault(benchmark.name, name)
        if other != name:
            raise UserError(f"{where}: {other} and {name} are both called {benchmark.name} in scores")
        for language, file in benchmark.files.items():
            for control in controls:
                if control not in benchmark.controls:
                    continue
                path = prediction_file(Path(), file, control)
                what = f"{name} ({language}: {file}, control {control})"
                for target in (path, list_file(path)):
                    other = written.setdefault(unicodedata.normalize("NFC", target.name).casefold(), what)
                    if other != what:
                        raise UserError(
                            f"{where}: {other} and {what} would overwrite each other's predictions, {target}; "
                            "expected files whose names differ by more than folder, ending or case"
                        )
