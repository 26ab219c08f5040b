"""What stands for an image in a text, for a position without supervision, and the table of languages."""

from __future__ import annotations

import csv
import difflib
import re
from pathlib import Path
from typing import Literal, NamedTuple

IMAGE_TOKEN = "<image>"
IGNORE_INDEX = -100  # torch's and transformers' own


class LanguageFacts(NamedTuple):
    """A row of ``languages.csv``."""

    code: str
    name: str  # in English
    file_suffix: str  # of published benchmark files: MMMB_cn.tsv
    nllb: str  # the code that translation models of the NLLB family know
    script: str  # by ISO 15924
    direction: Literal["ltr", "rtl"]


def _read_languages() -> dict[str, LanguageFacts]:
    text = Path(__file__).with_name("languages.csv").read_text(encoding="utf-8")
    return {row["code"]: LanguageFacts(**row) for row in csv.DictReader(text.splitlines())}  # type: ignore[arg-type]


# Those of the paper and of mBLIP's training mix, in the order of tables and figures: the paper's come first.
LANGUAGES = _read_languages()
PAPER_LANGUAGES = ("en", "zh", "pt", "ar", "tr", "ru")


def nearest_language(name: str) -> str:
    """``did you mean A or B?`` of the languages that a user may mean by `name`: a code of another list, or a name."""
    said = re.split("[-_ ]", name.strip().casefold())[0]
    known = {word: row for row in LANGUAGES.values() for word in (row.name.casefold(), row.file_suffix, row.nllb[:3])}
    like = [word for word in known if said and word.startswith(said)] or difflib.get_close_matches(said, known)
    found = list(dict.fromkeys(f"{known[word].code} ({known[word].name})" for word in like))[:3]
    return f"did you mean {' or '.join(found)}?" if found else "the table has codes such as de (German)"
