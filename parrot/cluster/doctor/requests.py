"""The resources that jobs request from Slurm, compared with their partition's nodes and time limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parrot.cluster.doctor.finding import Finding, failed, ok, warning
from parrot.cluster.doctor.slurm import Node, Partition
from parrot.cluster.jobs import Job
from parrot.config.hardware import GPU_MODEL


@dataclass(frozen=True)
class Request:
    """The resources that jobs of one rule request; GPUs, cores and memory (in MB) are per node."""

    rule: str
    partition: str  # "": the cluster's default
    nodes: int
    gpus: int
    gpu_model: str  # "": any
    cpus: int
    memory: int
    minutes: int
    account: str
    qos: str
    constraint: str = ""

    @property
    def places(self) -> list[str]:
        """Partition, account, QOS and constraint as options of Slurm's commands, if set."""
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint")}
        return [f"--{name}={value}" for name, value in named.items() if value]

    @property
    def gpu_options(self) -> list[str]:
        """The GPUs per node as options of Slurm's commands."""
        return [f"--gres=gpu:{f'{self.gpu_model}:' if self.gpu_model else ''}{self.gpus}"] if self.gpus else []


def requests(jobs: Iterable[Job], qos: str) -> list[Request]:
    """Return the distinct requests of those `jobs` that Slurm runs, finished ones included.

    `qos` is the profile's for all jobs, "" for none.
    """
    return list(dict.fromkeys(_request(job, qos) for job in jobs if not job.is_local))


def _request(job: Job, qos: str) -> Request:
    resources = job.resources
    nodes = int(resources.get("nodes", 1))
    model, gpus = str(resources.get("gpu_model", "")), -(-int(resources.get("gpu", 0)) // nodes)
    if (gres := str(resources.get("gres", ""))).startswith("gpu:"):
        *model_of_gres, count = gres.removeprefix("gpu:").split(":")
        model, gpus = "".join(model_of_gres), int(count)
    return Request(
        rule=job.rule,
        partition=str(resources.get("slurm_partition", "")),
        nodes=nodes,
        gpus=gpus,
        gpu_model=model,
        cpus=int(resources.get("cpus_per_task", job.threads)),
        memory=int(resources.get("mem_mb", 0)),
        minutes=int(resources.get("runtime", 0)),
        account=str(resources.get("slurm_account", "")),
        qos=qos or str(resources.get("qos", "")),
        constraint=str(resources.get("constraint", "")),
    )


def fit(request: Request, where: list[Partition]) -> list[Finding]:
    """Return a finding for each resource that no partition of `where` offers, else one on the nodes that fit."""
    nodes = list({node.name: node for partition in where for node in partition.nodes}.values())
    name = ", ".join(partition.name for partition in where)
    problems = [*_too_much(request, nodes, name), *_too_long(request, where, name)]
    if problems:
        return problems
    suitable = [node for node in nodes if _fits(request, node)]
    what = f"{request.rule}: {_described(request)}"
    if len(suitable) < request.nodes:
        found = f"{what}; of partition {name} {_count(len(suitable))} all of that"
        return [failed("resources", found, "request less of the scarce resources, or fewer nodes")]
    usable = sum(node.usable for node in suitable)
    if usable < request.nodes:
        found = f"{what}; of partition {name} {_count(len(suitable))} that, {usable} of them usable"
        return [warning("resources", found, "jobs wait until more are available (sinfo -R shows why they are not)")]
    return [ok("resources", f"{what}; {_count(len(suitable))} that")]


def _too_much(request: Request, nodes: list[Node], partition: str) -> Iterator[Finding]:
    model = request.gpu_model
    kinds = sorted({kind for node in nodes for kind in node.gpus if kind})
    known = not model or model in kinds
    if not known:
        found = f"{request.rule}: GPU model {model} is not known on partition {partition}, which has "
        other = "name one of them, or " if any(map(GPU_MODEL.fullmatch, kinds)) else ""
        advice = f"hardware.gpu_model: {other}leave it out and choose nodes by `constraint` in the profile"
        yield failed("resources", found + (", ".join(kinds) or "no models named"), advice)
    amounts = [
        (f"{model or ''} GPUs".strip(), request.gpus if known else 0, [node.gpus_of(model) for node in nodes]),
        ("cores", request.cpus, [node.cpus for node in nodes]),
        ("MB of memory", request.memory, [node.memory for node in nodes]),
    ]
    lower = {"cores": "hardware.threads", "MB of memory": f"set-resources: {request.rule}: mem_mb"}
    for unit, amount, there in amounts:
        enough = sum(each >= amount for each in there)
        if amount and not enough:
            found = f"{request.rule}: requests {amount} {unit} per node, partition {partition} has at most {max(there)}"
            yield failed("resources", found, f"lower {lower.get(unit, 'hardware.gpus')}, or name another partition")
    if len(nodes) < request.nodes:
        found = f"{request.rule}: requests {request.nodes} nodes, partition {partition} has {len(nodes)}"
        yield failed("resources", found, "lower hardware.nodes, or name another partition")


def _too_long(request: Request, where: list[Partition], name: str) -> Iterator[Finding]:
    limits = [partition.limit for partition in where]
    longest = max((limit for limit in limits if limit is not None), default=0)
    if None not in limits and request.minutes > longest:
        found = f"{request.rule}: requests {_hours(request.minutes)}, partition {name} allows at most {_hours(longest)}"
        advice = f"lower set-resources: {request.rule}: runtime (a stopped training resumes from its checkpoint)"
        yield failed("resources", found, advice)


def _fits(request: Request, node: Node) -> bool:
    enough = node.cpus >= request.cpus and node.memory >= request.memory
    return enough and node.gpus_of(request.gpu_model) >= request.gpus


def _described(request: Request) -> str:
    model = f"{request.gpu_model} " if request.gpu_model else ""
    gpus = f"{_plural(request.gpus, f'{model}GPU')}, " if request.gpus else ""
    nodes = f"{request.nodes} nodes with " if request.nodes > 1 else ""
    return f"{nodes}{gpus}{_plural(request.cpus, 'core')}, {request.memory} MB for {_hours(request.minutes)}"


def _count(nodes: int) -> str:
    return f"{_plural(nodes, 'node')} {'has' if nodes == 1 else 'have'}"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _hours(minutes: int) -> str:
    return f"{minutes / 60:g} h" if minutes % 60 == 0 else f"{minutes} min"
