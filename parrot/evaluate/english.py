"""Questions put into English before they are asked: by a benchmark's own English rows, or by a translation model.

This is the baseline of the paper's Table 10 ("translate test"): a model that knows English alone, and a translator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from parrot.config.catalog import BackboneFolder, Benchmark, Language
from parrot.config.stages import PredictSettings
from parrot.config.staleness import code_digest, key
from parrot.constants import LANGUAGES
from parrot.data.benchmarks import read_language
from parrot.data.tsv import LETTERS, Rejection, reject
from parrot.errors import ConfigError
from parrot.io.digests import file_sha256, read_lines

# The columns that are put into English; a picture in words is what the control `text` shows.
TEXTS = ("question", "hint", "picture_text", *LETTERS)

Translate = Callable[[pd.DataFrame, Benchmark, Language, list[Rejection] | None], pd.DataFrame]
"""From the rows of a benchmark in a language to the same rows with English texts; the rest of them stays.

Rows that cannot be translated are left out and added to the list; with None for it, ConfigError at the first one.
"""


def translator(settings: PredictSettings, work: Path) -> Translate | None:
    """The run's translator; None where its questions are asked as they are."""
    if settings.translator == "none":
        return None
    if settings.translator == "parallel_rows":
        return parallel_rows
    return Translations(settings.translator, work).rows


def translator_key(model: BackboneFolder) -> str:
    """Digest of what a model's translations depend on: its files and the code."""
    files = [file for kind in ("safetensors", "json") for file in Path(model.path).glob(f"*.{kind}")]
    digests = {file.name: file_sha256(file) for file in files}
    return key([digests, code_digest("translations")])


def parallel_rows(
    table: pd.DataFrame, benchmark: Benchmark, language: Language, rejected: list[Rejection] | None = None
) -> pd.DataFrame:
    """The texts of the English rows with the same indices: what a perfect translator would say.

    A row cannot be translated where there is no such English row, it is rejected, or has another right answer.
    ConfigError where there is no English file.
    """
    if language == "en":
        return table
    path = Path(benchmark.folder, benchmark.files[language])
    if "en" not in benchmark.files:
        raise ConfigError(f"{path}: translator parallel_rows: expected an English file in {benchmark.name}, found none")
    source = Path(benchmark.folder, benchmark.files["en"])
    english = read_language(benchmark, "en")[0].set_index("index")
    identity = ["index", "answer"] if "answer" in table else ["index"]
    known = set(map(tuple, english.reset_index()[identity].to_numpy()))
    lone = [row not in known for row in map(tuple, table[identity].to_numpy())]
    why = f"expected a row with that {' and '.join(identity)} in {source}"
    places = table.index[lone].to_list()
    reject([Rejection(place, table["index"][place], why) for place in places], path, rejected)
    table = table.drop(index=places)
    found = english.loc[table["index"]]
    columns = [column for column in TEXTS if column in table or column in found]
    return table.assign(**{column: found[column].to_numpy() if column in found else "" for column in columns})


class Translations:
    """What a model made of benchmarks' texts, line by line, kept in a folder below `work`.

    Each process that translates writes a file of its own, a batch a line, so that runs may translate side by side.
    """

    def __init__(self, model: BackboneFolder, work: Path):
        self.folder = work / "translations" / translator_key(model)
        self.known: dict[Language, dict[str, str]] = {language: {} for language in LANGUAGES}
        for path in sorted(self.folder.glob("*.jsonl")):
            for said in read_lines(path, mine=False):
                self.known[said["language"]] |= dict(zip(said["lines"], said["english"], strict=True))

    def rows(
        self, table: pd.DataFrame, benchmark: Benchmark, language: Language, rejected: list[Rejection] | None = None
    ) -> pd.DataFrame:
        """All rows. A line that the model made nothing of stays as it is, lest an option vanish."""
        if language == "en":
            return table
        known = self.known[language]

        def english(text: str) -> str:
            return "\n".join(known[line].strip() or line if line.strip() else line for line in text.split("\n"))

        return table.assign(**{name: table[name].map(english) for name in TEXTS if name in table})

    def missing(self, table: pd.DataFrame, language: Language) -> set[str]:
        """The lines of `table` that were not translated yet."""
        return set(lines(table)) - self.known[language].keys()


def lines(table: pd.DataFrame) -> Iterator[str]:
    """Every line of the texts that has more than blanks: translation models read one sentence or so."""
    cells = (cell for column in TEXTS if column in table for cell in table[column])
    return (line for cell in cells for line in cell.split("\n") if line.strip())
