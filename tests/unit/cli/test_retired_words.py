"""One word for one thing: words and names that the project gave up occur nowhere but where they are answered."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# What is retired, as a pattern, and what took its place.
RETIRED = {
    "(?i)picture": "image",
    r"(?i)\bhouses?\b|house_|_house|HOUSE|House": "image source, or emoji set",
    "ConfigError": "UserError",
    r"\blearnt\b": "supervised",
    "newest_whole|mark_whole": "latest_complete, mark_complete",
    "only_one|shown_live": "exclusive_lock, live_tracking",
    "[A-Z]_A_[A-Z]": "X_PER_Y",
}
WRITTEN = ("parrot", "workflow/rules", "workflow/profiles", "config", "docs", "tools", "Snakefile", "Makefile")
WRITTEN += ("README.md", "CONTRIBUTING.md", "tests/README.md", ".ci", ".github")
# Where a word stays: as a former name that is answered, as a key of data that ships as it was made, as a thing shown.
KEPT = {
    "parrot/config/base.py": "RENAMED = ",
    "parrot/data/benchmarks.py": "RENAMED = ",
    "parrot/mini/sources/ship.py": '"houses": ',
    "parrot/mini/sources/selection.yaml": "  house: ",
}


def lines() -> list[tuple[str, str]]:
    """Every line that is ours to word, with its place: of tests the names of functions and classes."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    found = []
    for name in listed.splitlines():
        ours = name.startswith(WRITTEN) and not name.endswith((".svg", ".png"))
        if not ours and not (name.startswith("tests/") and name.endswith(".py")):
            continue
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1):
            kept = name in KEPT and line.strip().startswith(KEPT[name].strip())
            if not kept and (ours or re.match(r"\s*(def|class) ", line)):
                found.append((f"{name}:{number}", line))
    return found


@pytest.mark.parametrize("pattern", RETIRED)
def test_no_retired_word_is_used(pattern: str) -> None:
    word = re.compile(pattern)
    used = [f"{place}: {found[0]}" for place, line in lines() if (found := word.search(line))]
    assert not used, f"say {RETIRED[pattern]}"
