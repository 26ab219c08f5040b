"""Check that Slurm accepts the jobs and reports their state: test submissions, accounts and accounting."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Iterable
from typing import Any

from parrot.cluster.doctor.finding import Finding, execute, failed, ok, warning
from parrot.cluster.doctor.requests import Request

SECONDS_BEFORE_CHECKS = 40  # the executor plugin's default


def check_submission(requests: Iterable[Request]) -> list[Finding]:
    """Return a finding for each request that Slurm rejects, else one with the latest expected start."""
    rejected, starts = [], []
    for request in requests:
        outcome = execute("sbatch", "--test-only", *_options(request), "--wrap=true")
        if outcome.code != 0:
            advice = "correct the profile, or ask the cluster's administrators"
            rejected.append(failed("submission", f"{request.rule}: Slurm rejects it: {outcome.why}", advice))
        starts += re.findall(r"to start at (\S+)", outcome.err + outcome.out)
    if rejected or not starts:
        return rejected
    return [ok("submission", f"Slurm accepts each of these; the last would start at {max(starts)}")]


def _options(request: Request) -> list[str]:
    """Return the request as options of sbatch, with one task per node."""
    size = [f"--nodes={request.nodes}", f"--ntasks={request.nodes}", "--ntasks-per-node=1"]
    time = [f"--time={request.minutes}"] if request.minutes else []
    cores = [f"--cpus-per-task={request.cpus}", f"--mem={request.memory}"]
    return [*size, *cores, *request.gpu_options, *time, *request.places]


def check_account(requests: Iterable[Request]) -> list[Finding]:
    """Check that the user may use the accounts and QOS that jobs name."""
    wanted = sorted({(request.account, request.qos) for request in requests})
    user = getpass.getuser()
    outcome = execute("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", "format=account,qos")
    if outcome.code != 0:
        return [_unchecked(account, qos) for account, qos in wanted]
    known: dict[str, set[str]] = {}
    for line in outcome.out.splitlines():
        account, _, qualities = line.partition("|")
        known.setdefault(account.strip(), set()).update(qualities.strip().split(","))
    if not known:
        advice = "ask the cluster's administrators for one, unless jobs need none"
        return [warning("account", f"accounting knows no account of {user}", advice)]
    return [_valid(account, qos, known) for account, qos in wanted]


def _unchecked(account: str, qos: str) -> Finding:
    if not account and not qos:
        return ok("account", "none named, and no accounting that requires one")
    named = f"account {account or '(default)'}" + (f", qos {qos}" if qos else "")
    advice = "try: srun --account=... --qos=... true"
    return warning("account", f"{named}: cannot be checked, accounting does not answer", advice)


def _valid(account: str, qos: str, known: dict[str, set[str]]) -> Finding:
    there = ", ".join(sorted(known))
    if account and account.lower() not in known:
        advice = "name one of them: slurm_account in the profile's default-resources"
        return failed("account", f"{account}: not one of your accounts, which are {there}", advice)
    qualities = known[account.lower()] if account else set().union(*known.values())
    if qos and qos not in qualities:
        mine = ", ".join(sorted(qualities)) or "none"
        return failed(
            "account",
            f"qos {qos}: not one of yours for this account, which are {mine}",
            "name one of them in the profile",
        )
    return ok("account", (account or f"none named, the default of {there}") + (f", qos {qos}" if qos else ""))


def check_status(profile: dict[str, Any]) -> Finding:
    """Check that the command with which Snakemake queries the state of its jobs works."""
    named = profile.get("slurm-status-command")
    # The executor plugin's choice if the profile names none.
    command = named or ("sacct" if shutil.which("sacct") else "squeue")
    setting = f"slurm-status-command: {command}" + ("" if named else ", as the profile names none")
    recorded = execute("sacct", "--noheader", "--allocations", "--starttime=now").code == 0
    if command == "sacct" and not recorded:
        return failed("status", f"{setting}, but accounting does not answer", "set slurm-status-command: squeue")
    wait = 3 * int(profile.get("slurm-init-seconds-before-status-checks", SECONDS_BEFORE_CHECKS))
    kept = re.search(r"^MinJobAge\s*=\s*(\d+)", execute("scontrol", "show", "config").out, re.MULTILINE)
    if command == "squeue" and kept and int(kept[1]) < wait:
        found = f"{setting}, which forgets a finished job after {kept[1]} s"
        other = "set slurm-status-command: sacct" if recorded else "request a longer MinJobAge"
        return warning("status", found, f"{other}, or lower slurm-init-seconds-before-status-checks")
    return ok("status", f"{setting}; accounting {'answers' if recorded else 'does not answer'}")
