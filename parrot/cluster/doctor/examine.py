"""All checks, ordered so that a failure comes before those that it causes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parrot.cluster.doctor import machine, nodes, slurm, submission
from parrot.cluster.doctor.finding import Finding, failed, ok, warning
from parrot.cluster.doctor.mlflow import check_store
from parrot.cluster.doctor.requests import Request, fit, requests
from parrot.cluster.jobs import Listing, find_profile, list_jobs
from parrot.cluster.plan.summary import summarise
from parrot.config.strict_yaml import read_yaml
from parrot.config.suite import DEFAULT_CONFIG, Suite
from parrot.errors import UserError
from parrot.tracking.store import store_uri


def examine(profile: str | None, configfiles: list[str], wait: int | None) -> Iterator[Finding]:
    """Check this machine and, given a Snakemake `profile`, its Slurm cluster.

    `wait` is how many seconds to wait for a free node; None skips the checks that need a job.
    """
    settings: dict[str, Any] = {}
    read = "profile"
    try:
        if profile is not None:
            path = find_profile(profile)
            settings = _read_profile(path)
            yield ok("profile", str(path))
        read = "config"
        suite = _load(configfiles or _files_of(settings))
    except UserError as error:
        yield failed(read, str(error), "correct it; nothing else was checked")
        return
    yield ok("config", f"scale {suite.config.scale}, runs {', '.join(suite.config.report.runs)}")
    yield machine.check_python()
    yield machine.check_packages()
    yield machine.check_data(map(suite.run, suite.config.report.runs))
    listed = _listed(profile, configfiles)
    yield from machine.check_room(_disk(listed, suite))
    if profile is None:
        yield machine.check_threads(suite.config.hardware)
        yield nodes.check_imports_here(suite.config.hardware)
        yield check_store(store_uri(), elsewhere=False)
        return
    reachable = slurm.controller()
    yield reachable
    if reachable.status == "failed":
        return
    if isinstance(listed, UserError):
        yield failed("workflow", str(listed), "correct it")
        return
    requested = requests(listed.jobs, str(settings.get("slurm-qos", "")))
    yield ok("workflow", f"jobs of {', '.join(dict.fromkeys(request.rule for request in requested))}")
    yield from _examine_cluster(settings, requested, suite, wait)


def _read_profile(path: Path) -> dict[str, Any]:
    """Return the profile's settings.

    Raises:
        UserError: the profile is not YAML or not for Slurm.
    """
    profile = read_yaml(path)
    if profile.get("executor") != "slurm":
        raise UserError(f"{path}: executor: expected slurm, found {profile.get('executor', 'none')}")
    return profile


def _files_of(profile: dict[str, Any]) -> list[str]:
    """Return the config files that the profile names."""
    named = profile.get("configfile", profile.get("configfiles", []))
    return [named] if isinstance(named, str) else [str(each) for each in named]


def _load(configfiles: list[str]) -> Suite:
    suite = Suite.load((*DEFAULT_CONFIG, *configfiles))
    for run in suite.config.report.runs:
        suite.run(run).check()
    return suite


def _listed(profile: str | None, configfiles: list[str]) -> Listing | UserError:
    """Return all jobs of the report, or the error that prevents listing them."""
    try:
        return list_jobs(["all"], profile, configfiles)
    except UserError as error:
        return error


def _disk(listed: Listing | UserError, suite: Suite) -> dict[str, int] | UserError:
    """Return the bytes still to be written, by kind, or the error that prevents an estimate."""
    if isinstance(listed, UserError):
        return listed
    try:
        return summarise(listed.jobs, suite, listed.at_a_time).disk
    except UserError as error:
        return error


def _examine_cluster(
    settings: dict[str, Any], requested: list[Request], suite: Suite, wait: int | None
) -> Iterator[Finding]:
    known = slurm.partitions()
    yield from slurm.check_partitions({request.partition for request in requested}, known)
    where = {request.partition: slurm.named(request.partition, known) for request in requested}
    satisfiable = []
    for request in requested:
        findings = fit(request, where[request.partition]) if where[request.partition] else []
        yield from findings
        if findings and findings[0].status != "failed":
            satisfiable.append(request)
    yield from submission.check_submission(satisfiable)
    yield from submission.check_account(requested)
    yield submission.check_status(settings)
    hosts = {node.host for partitions in where.values() for partition in partitions for node in partition.nodes}
    elsewhere = {host.partition(".")[0] for host in hosts} - {os.uname().nodename.partition(".")[0]}
    yield check_store(store_uri(), bool(elsewhere))
    if wait is not None:
        yield from _examine_nodes(requested, satisfiable, suite, wait)


def _examine_nodes(requested: list[Request], satisfiable: list[Request], suite: Suite, wait: int) -> Iterator[Finding]:
    """Check every partition's shared folders, and the imports on the nodes of the largest requested job."""
    by_size = sorted(satisfiable, key=_size)
    for request in {each.partition: each for each in by_size}.values():
        yield nodes.check_shared(request, wait)
    if by_size and _size(by_size[-1]) == max(map(_size, requested)):
        yield from nodes.check_imports(by_size[-1], suite.config.hardware, wait)
    else:
        yield warning("imports", "not checked: no nodes have what a training requests", "see above")


def _size(request: Request) -> tuple[int, int]:
    return request.nodes, request.gpus
