"""The catalogues say of the paper's data what `paper_sources.csv` holds: facts that were read where they are published.

A number that begins with ~ is rounded. A fact that is not verified may not be enforced.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import (
    BackboneFolder,
    ConversationSet,
    Dataset,
    HubFile,
    HubFolder,
    ImageArchive,
    WebFile,
    load_catalogue,
)

with open(Path(__file__).with_name("paper_sources.csv"), encoding="utf-8") as file:
    FACTS = list(csv.DictReader(file))
ARCHIVES: dict[str, ImageArchive] = load_catalogue("config/images.yaml", ImageArchive)
DATASETS: dict[str, ConversationSet | BackboneFolder] = load_catalogue("config/datasets.yaml", Dataset)
BENCHMARKS: dict[str, Benchmark] = load_catalogue("config/benchmarks.yaml", Benchmark)
PAPER = {n: e for n, e in DATASETS.items() if isinstance(e, ConversationSet) and isinstance(e.source, HubFile)}


def facts_of(source: HubFile | WebFile) -> list[dict[str, str]]:
    """Rows about a file, wherever its table names it."""
    if isinstance(source, WebFile):
        return [fact for fact in FACTS if fact["repository_or_url"] == source.url]
    name = source.file.rpartition("/")[2]
    return [
        fact
        for fact in FACTS
        if source.repository in fact["repository_or_url"]
        and source.revision in fact["repository_or_url"]
        and name == fact["file"].rpartition("/")[2]
    ]


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name: str) -> None:
    archive = ARCHIVES[name]
    for source in archive.sources:
        facts = facts_of(source)
        assert facts, f"no fact about {source}"
        for fact in facts:
            if fact["digest"]:
                assert getattr(archive, fact["digest_kind"]) == fact["digest"]
            if fact["bytes"].isdigit():
                assert archive.enforced("bytes") == int(fact["bytes"])
            if counted := re.match(r"(\d+) files", fact["count"]):
                assert archive.enforced("members") == int(counted[1])
    known = {fact["digest"] for fact in FACTS if fact["verified"] == "yes"}
    assert {digest for digest in (archive.enforced("sha256"), archive.enforced("md5")) if digest} <= known


def test_volumes() -> None:
    volumes = ARCHIVES["ovis_cc12m"].volumes
    facts = {fact["file"][-3:]: fact for fact in FACTS if re.search(r"ovis_cc12m\.z\d\d$", fact["file"])}
    assert len(facts) == 22
    assert {ending: volume.sha256 or "" for ending, volume in volumes.items()} == {
        ending: fact["digest"] for ending, fact in facts.items()
    }


@pytest.mark.parametrize("name", PAPER)
def test_conversation_sets(name: str) -> None:
    entry, source = PAPER[name], PAPER[name].source
    assert isinstance(source, HubFile)
    (fact,) = [fact for fact in facts_of(source) if fact["kind"] == "json"]
    assert fact["verified"] == "yes"
    assert (entry.sha256 or "") == fact["digest"]
    counted = re.match(r"(\d+) samples", fact["count"])
    assert entry.samples == (int(counted[1]) if counted else None)


@pytest.mark.parametrize("name", [n for n, e in BENCHMARKS.items() if not isinstance(e.source, str)])
def test_benchmarks(name: str) -> None:
    entry = BENCHMARKS[name]
    for language, file in entry.files.items():
        published = entry.published_as.get(language, file)
        facts = [fact for fact in FACTS if fact["kind"] == "tsv" and fact["file"].rpartition("/")[2] == published]
        assert {fact["digest"] for fact in facts} == {entry.md5[language]}
        if isinstance(entry.source, HubFolder):
            assert all(fact["repository_or_url"].endswith(f"@{entry.source.revision}") for fact in facts)


@pytest.mark.parametrize("name", ["clip_vit_large_336", "qwen15_7b_chat", "qwen2_7b_instruct"])
def test_backbones_are_pinned(name: str) -> None:
    source = DATASETS[name].source
    assert isinstance(source, HubFolder)
    facts = [fact for fact in FACTS if fact["repository_or_url"] == f"{source.repository}@{source.revision}"]
    assert facts
    assert {fact["verified"] for fact in facts} == {"yes"}
