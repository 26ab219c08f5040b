"""Whether Slurm would take the jobs, and tell what became of them: its own test, accounts, and accounting."""

from __future__ import annotations

import getpass
import re
import shutil
from collections.abc import Iterable
from typing import Any

from parrot.cluster.doctor.finding import Finding, ask, failed, ok, warning
from parrot.cluster.doctor.requests import Request

SECONDS_BEFORE_CHECKS = 40  # the executor plugin's default


def check_submission(asked: Iterable[Request]) -> list[Finding]:
    """One line for each of `asked` that Slurm refuses, else one that says when the last of them would start."""
    refused, starts = [], []
    for request in asked:
        answer = ask("sbatch", "--test-only", *_options(request), "--wrap=true")
        if answer.code != 0:
            advice = "correct the profile, or ask who runs the cluster"
            refused.append(failed("submission", f"{request.rule}: Slurm refuses it: {answer.why}", advice))
        starts += re.findall(r"to start at (\S+)", answer.err + answer.out)
    if refused or not starts:
        return refused
    return [ok("submission", f"Slurm takes each of these; the last would start at {max(starts)}")]


def _options(request: Request) -> list[str]:
    """What `request` asks for, with one task on each node."""
    size = [f"--nodes={request.nodes}", f"--ntasks={request.nodes}", "--ntasks-per-node=1"]
    time = [f"--time={request.minutes}"] if request.minutes else []
    cores = [f"--cpus-per-task={request.cpus}", f"--mem={request.memory}"]
    return [*size, *cores, *request.gpu_options, *time, *request.places]


def check_account(asked: Iterable[Request]) -> list[Finding]:
    """Whether the accounts and the qualities of service that jobs name are the user's."""
    wanted = sorted({(request.account, request.qos) for request in asked})
    user = getpass.getuser()
    answer = ask("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", "format=account,qos")
    if answer.code != 0:
        return [_unchecked(account, qos) for account, qos in wanted]
    known: dict[str, set[str]] = {}
    for line in answer.out.splitlines():
        account, _, qualities = line.partition("|")
        known.setdefault(account.strip(), set()).update(qualities.strip().split(","))
    if not known:
        advice = "ask who runs the cluster for one, unless jobs need none"
        return [warning("account", f"accounting knows no account of {user}", advice)]
    return [_valid(account, qos, known) for account, qos in wanted]


def _unchecked(account: str, qos: str) -> Finding:
    if not account and not qos:
        return ok("account", "none named, and no accounting that would ask for one")
    named = f"account {account or '(default)'}" + (f", qos {qos}" if qos else "")
    advice = "try: srun --account=... --qos=... true"
    return warning("account", f"{named}: cannot be checked, accounting does not answer", advice)


def _valid(account: str, qos: str, known: dict[str, set[str]]) -> Finding:
    there = ", ".join(sorted(known))
    if account and account.lower() not in known:
        advice = "name one of them: slurm_account in the profile's default-resources"
        return failed("account", f"{account}: not an account of yours, which are {there}", advice)
    qualities = known[account.lower()] if account else set().union(*known.values())
    if qos and qos not in qualities:
        mine = ", ".join(sorted(qualities)) or "none"
        return failed("account", f"qos {qos}: not yours here, which are {mine}", "name one of them in the profile")
    return ok("account", (account or f"none named, the default of {there}") + (f", qos {qos}" if qos else ""))


def check_status(profile: dict[str, Any]) -> Finding:
    """Whether the command by which Snakemake asks after its jobs is one that answers."""
    named = profile.get("slurm-status-command")
    # What the executor plugin takes where the profile names none.
    taken = named or ("sacct" if shutil.which("sacct") else "squeue")
    said = f"slurm-status-command: {taken}" + ("" if named else ", as the profile names none")
    recorded = ask("sacct", "--noheader", "--allocations", "--starttime=now").code == 0
    if taken == "sacct" and not recorded:
        return failed("status", f"{said}, but accounting does not answer", "write slurm-status-command: squeue")
    wait = 3 * int(profile.get("slurm-init-seconds-before-status-checks", SECONDS_BEFORE_CHECKS))
    kept = re.search(r"^MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config").out, re.MULTILINE)
    if taken == "squeue" and kept and int(kept[1]) < wait:
        found = f"{said}, which forgets a finished job after {kept[1]} s"
        other = "write slurm-status-command: sacct" if recorded else "ask for a longer MinJobAge"
        return warning("status", found, f"{other}, or lower slurm-init-seconds-before-status-checks")
    return ok("status", f"{said}; accounting {'answers' if recorded else 'does not answer'}")
