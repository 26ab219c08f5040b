"""Whether the data, backbones and benchmarks of the report's runs are on disk: compute nodes never download."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from parrot.cluster.doctor.finding import Finding, failed, listed, ok, warning
from parrot.config.catalog import BackboneFolder, Benchmark, ConversationSet, Dataset
from parrot.config.runs import Run


def check_data(runs: Iterable[Run]) -> Finding:
    """What `runs` name: there; made or downloaded by the rule `fetch`, which runs on this machine; or missing."""
    named: dict[str, Dataset | Benchmark] = {}
    for run in runs:
        named |= {**run.fetch.datasets, **run.fetch.benchmarks}
    given: list[str] = []
    online: list[str] = []
    made: list[str] = []
    for name, entry in named.items():
        for path, source in _files(entry):
            if not Path(path).exists():
                kind = {"composed": made, "local": given, "shipped": given}.get(source, online)
                kind.append(f"{path} ({name})")
    if given:
        return failed("data", f"missing: {listed(given)}", "put them there, or name others in the config")
    if online and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        found = f"to be downloaded: {listed(online)}, but HF_HUB_OFFLINE is set"
        return failed("data", found, "unset it; compute nodes never download, whatever it is")
    if online:
        advice = "get them with `parrot fetch`, on a machine with network: compute nodes never download"
        return warning("data", f"to be downloaded: {listed(online)}", advice)
    later = ", some of which the first run makes" if made else " are here"
    return ok("data", f"{len(named)} data sets, backbones and benchmarks{later}")


def _files(entry: Dataset | Benchmark) -> Iterator[tuple[str, str]]:
    """What must be there, and where it comes from: a download brings no pictures."""
    source = entry.source if isinstance(entry.source, str) else "download"
    match entry:
        case ConversationSet():
            yield entry.file, source
            yield entry.images, source if source == "composed" else "local"
        case BackboneFolder():
            yield f"{entry.path}/config.json", source
        case Benchmark():
            yield from ((f"{entry.folder}/{file}", source) for file in entry.files.values())
