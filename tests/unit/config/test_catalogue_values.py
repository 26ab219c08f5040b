"""Values that no catalogue entry may have, each refused in one line that names file, entry and field."""

from pathlib import Path
from typing import Any

import pytest

from parrot.config.benchmarks import Benchmark, BenchmarkGeneration
from parrot.config.catalog import Dataset, load_catalogue
from parrot.config.suite import Suite
from parrot.errors import UserError
from parrot.report.settings import ReportItem, report_stage

HUB_FILE, HUB_FOLDER = "source: {repository: a/b, file: s.json}", "source: {repository: a/b}"
SET = "kind: conversations, images: i, licence: ''"
BENCHMARK = "name: B, files: {en: B.tsv}, generation: {max_new_tokens: 4}, scoring: vanilla"
LEADS_UP = r"expected a path without \.\., as it is downloaded, found "


@pytest.mark.parametrize(
    ("kind", "entry", "message"),
    [
        (
            ReportItem,
            "title: T, benchmarks: [MMMB], image_sources: [null]",
            "image_sources: expected a mapping, found a list$",
        ),
        (ReportItem, "title: T, benchmarks: [MMMB], houses: {}", "houses: unknown key; it is called image_sources$"),
        (Dataset, "path: b", "kind: expected a value, found none$"),
        (Dataset, 'kind: "a\\nb"', r"kind: expected 'conversations', 'backbone', found 'a\\nb'$"),
        (Dataset, f"{SET}, file: data/../../s.json, {HUB_FILE}", rf"file: {LEADS_UP}'data/\.\./\.\./s\.json'"),
        (Dataset, f"kind: backbone, path: ../b, licence: '', {HUB_FOLDER}", rf"path: {LEADS_UP}'\.\./b'"),
        (
            Benchmark,
            f"{BENCHMARK}, folder: b, max_new_tokens: 4",
            r"max_new_tokens: unknown key; it is called generation\.max_new_tokens$",
        ),
        (
            BenchmarkGeneration,
            "max_new_tokens: 4, length_penalty: -1.0",
            r"length_penalty: expected none without beams \(num_beams\)$",
        ),
        (Benchmark, f"{BENCHMARK}, folder: .., {HUB_FOLDER}", rf"folder: {LEADS_UP}'\.\.'"),
        (Benchmark, f"{BENCHMARK}, folder: .., source: {{url: 'https://a.org'}}", rf"folder: {LEADS_UP}'\.\.'"),
        (
            Dataset,
            f"{SET}, file: s.json, source: {{repository: a/b, file: ../s.json}}",
            r"source\.file: expected a path",
        ),
        (Dataset, f"{SET}, file: s.json, source: {{repository: a/b, file: /s.json}}", r"source\.file: expected a path"),
        *(
            (Benchmark, f"{BENCHMARK}, folder: b, template: '{{{part}}}'", rf"template: expected .*{said}")
            for part, said in (
                ("question!r", "with a format or conversion"),
                ("question:>1000000", "with a format or conversion"),
                ("question.__class__", r"found \['question\.__class__'\]"),
                ("question[0]", r"found \['question\[0\]'\]"),
                ("", r"found \[''\]"),
                ("0", r"found \['0'\]"),
                ("question", "as the last line"),
            )
        ),
    ],
)
def test_what_no_entry_may_say(tmp_path: Path, kind: Any, entry: str, message: str):
    file = tmp_path / "catalogue.yaml"
    file.write_text(f"mine: {{{entry}}}\n")
    with pytest.raises(UserError, match=rf"^{file}: mine: .*{message}"):
        load_catalogue(file, kind)


@pytest.mark.parametrize("path", ["../b", "/b"])
def test_the_users_own_files_may_be_anywhere(tmp_path: Path, path: str):
    file = tmp_path / "catalogue.yaml"
    file.write_text(f"mine: {{kind: backbone, path: {path}, licence: '', source: local}}\n")
    assert load_catalogue(file, Dataset)["mine"].path == path


@pytest.mark.parametrize("name", ["../out", "/out", "a b", ".hidden", "a\\b", "t" * 101, "t.csv"])
def test_a_tables_name_is_a_file_name(tmp_path: Path, name: str):
    (tmp_path / "tables.yaml").write_text(f"? {name!r}\n: {{title: T, benchmarks: [MMMB]}}\n".replace("\\\\", "\\"))
    with pytest.raises(UserError, match=r"tables\.yaml: .*: a table's name is made of letters, digits, _ and -$"):
        report_stage(Suite.load(), catalogues=tmp_path)


def test_a_table_of_an_unknown_benchmark_is_refused_where_it_is_chosen(tmp_path: Path):
    shipped = Path("config/tables.yaml").read_text(encoding="utf-8")
    (tmp_path / "tables.yaml").write_text(f"{shipped}\nmine: {{title: T, benchmarks: [MMMBB]}}\n", encoding="utf-8")
    suite = Suite.load()
    report_stage(suite, catalogues=tmp_path)
    chosen, _ = shipped.split("\npublished:\n")
    (tmp_path / "tables.yaml").write_text(chosen.replace("[MMMB, MMBench_dev]", "[MMMBB]"), encoding="utf-8")
    with pytest.raises(UserError, match=r"fig7c: benchmarks: unknown benchmark MMMBB; did you mean MMMB or "):
        report_stage(suite, catalogues=tmp_path)
