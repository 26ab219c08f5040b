"""All checks, in the order in which one failure explains another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from parrot.cluster.doctor import accounting, cluster, machine, nodes, packages
from parrot.cluster.doctor import profile as profiles
from parrot.cluster.doctor.data import check_data
from parrot.cluster.doctor.finding import Finding, failed, ok, warning
from parrot.cluster.doctor.fit import fit
from parrot.cluster.doctor.room import check_room
from parrot.cluster.doctor.storage import check_store
from parrot.cluster.doctor.submission import check_submission
from parrot.config.runs import DEFAULT_CONFIG, Suite
from parrot.errors import ConfigError
from parrot.tracking.store import store_uri


def examine(profile: str | None, configfiles: list[str], wait: int | None) -> Iterator[Finding]:
    """Check this machine, and with the name of a Snakemake `profile` also its cluster.

    `wait` is how many seconds a node may take to come free; None leaves out what only jobs can tell.
    """
    settings: dict[str, Any] = {}
    read = "profile"
    try:
        if profile is not None:
            path = profiles.find_profile(profile)
            settings = profiles.read_profile(path)
            yield ok("profile", str(path))
        read = "config"
        suite = _load(configfiles or profiles.files_of(settings))
    except ConfigError as error:
        yield failed(read, str(error), "correct it; nothing else was checked")
        return
    yield ok("config", f"scale {suite.config.scale}, runs {', '.join(suite.config.report.runs)}")
    yield machine.check_python()
    yield packages.check_packages()
    yield check_data(map(suite.run, suite.config.report.runs))
    yield from check_room(profile, configfiles)
    if profile is None:
        yield machine.check_threads(suite.config.hardware)
        yield nodes.check_imports_here(suite.config.hardware)
        yield check_store(store_uri(), elsewhere=False)
        return
    answers = cluster.controller()
    yield answers
    if answers.status == "failed":
        return
    try:
        asked = profiles.requests(profile, configfiles, str(settings.get("slurm-qos", "")))
    except ConfigError as error:
        yield failed("workflow", str(error), "correct it")
        return
    yield ok("workflow", f"jobs of {', '.join(dict.fromkeys(request.rule for request in asked))}")
    yield from _examine_cluster(settings, asked, suite, wait)


def _load(configfiles: list[str]) -> Suite:
    suite = Suite.load((*DEFAULT_CONFIG, *configfiles))
    for run in suite.config.report.runs:
        suite.run(run).check()
    return suite


def _examine_cluster(
    settings: dict[str, Any], asked: list[profiles.Request], suite: Suite, wait: int | None
) -> Iterator[Finding]:
    known = cluster.partitions()
    yield from cluster.check_partitions({request.partition for request in asked}, known)
    where = {request.partition: cluster.named(request.partition, known) for request in asked}
    fitting = []
    for request in asked:
        findings = fit(request, where[request.partition]) if where[request.partition] else []
        yield from findings
        if findings and findings[0].status != "failed":
            fitting.append(request)
    yield from check_submission(fitting)
    yield from accounting.check_account(asked)
    yield accounting.check_status(settings)
    hosts = {node.host for partitions in where.values() for partition in partitions for node in partition.nodes}
    elsewhere = {host.partition(".")[0] for host in hosts} - {os.uname().nodename.partition(".")[0]}
    yield check_store(store_uri(), bool(elsewhere))
    if wait is not None:
        yield from _examine_nodes(asked, fitting, suite, wait)


def _examine_nodes(
    asked: list[profiles.Request], fitting: list[profiles.Request], suite: Suite, wait: int
) -> Iterator[Finding]:
    """What the nodes of every partition see, and what those import that the largest of the jobs `asked` runs on."""
    by_size = sorted(fitting, key=_size)
    for request in {each.partition: each for each in by_size}.values():
        yield nodes.check_shared(request, wait)
    if by_size and _size(by_size[-1]) == max(map(_size, asked)):
        yield from nodes.check_imports(by_size[-1], suite.config.hardware, wait)
    else:
        yield warning("imports", "not checked: no nodes have what a training asks for", "see above")


def _size(request: profiles.Request) -> tuple[int, int]:
    return request.nodes, request.gpus
