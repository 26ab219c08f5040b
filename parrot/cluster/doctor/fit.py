"""Whether what jobs ask for fits the nodes of their partition and its time limit."""

from __future__ import annotations

from collections.abc import Iterator

from parrot.cluster.doctor.cluster import Node, Partition
from parrot.cluster.doctor.finding import Finding, failed, ok, warning
from parrot.cluster.doctor.profile import Request
from parrot.config.hardware import GPU_MODEL


def fit(request: Request, where: list[Partition]) -> list[Finding]:
    """One line for each thing of `request` that no partition of `where` gives, else one that says what fits."""
    nodes = list({node.name: node for partition in where for node in partition.nodes}.values())
    name = ", ".join(partition.name for partition in where)
    problems = [*_too_much(request, nodes, name), *_too_long(request, where, name)]
    if problems:
        return problems
    fitting = [node for node in nodes if _fits(request, node)]
    what = f"{request.rule}: {_told(request)}"
    if len(fitting) < request.nodes:
        found = f"{what}; of partition {name} {_count(len(fitting))} all of that"
        return [failed("resources", found, "ask for less of what few nodes have, or for fewer nodes")]
    usable = sum(node.usable for node in fitting)
    if usable < request.nodes:
        found = f"{what}; of partition {name} {_count(len(fitting))} that, {usable} of them usable"
        return [warning("resources", found, "jobs wait until more come back (sinfo -R says why they are away)")]
    return [ok("resources", f"{what}; {_count(len(fitting))} that")]


def _too_much(request: Request, nodes: list[Node], partition: str) -> Iterator[Finding]:
    model = request.gpu_model
    kinds = sorted({kind for node in nodes for kind in node.gpus if kind})
    known = not model or model in kinds
    if not known:
        found = f"{request.rule}: GPU model {model} is not known on partition {partition}, which has "
        other = "name one of them, or " if any(map(GPU_MODEL.fullmatch, kinds)) else ""
        advice = f"hardware.gpu_model: {other}leave it out and choose nodes by `constraint` in the profile"
        yield failed("resources", found + (", ".join(kinds) or "no models named"), advice)
    asked = [
        (f"{model or ''} GPUs".strip(), request.gpus if known else 0, [node.gpus_of(model) for node in nodes]),
        ("cores", request.cpus, [node.cpus for node in nodes]),
        ("MB of memory", request.memory, [node.memory for node in nodes]),
    ]
    lower = {"cores": "hardware.threads", "MB of memory": f"set-resources: {request.rule}: mem_mb"}
    for unit, amount, there in asked:
        enough = sum(each >= amount for each in there)
        if amount and not enough:
            found = f"{request.rule}: asks {amount} {unit} a node, partition {partition} has at most {max(there)}"
            yield failed("resources", found, f"lower {lower.get(unit, 'hardware.gpus')}, or name another partition")
    if len(nodes) < request.nodes:
        found = f"{request.rule}: asks {request.nodes} nodes, partition {partition} has {len(nodes)}"
        yield failed("resources", found, "lower hardware.nodes, or name another partition")


def _too_long(request: Request, where: list[Partition], name: str) -> Iterator[Finding]:
    limits = [partition.limit for partition in where]
    longest = max((limit for limit in limits if limit is not None), default=0)
    if None not in limits and request.minutes > longest:
        found = f"{request.rule}: asks {_hours(request.minutes)}, partition {name} gives at most {_hours(longest)}"
        advice = f"lower set-resources: {request.rule}: runtime (a training goes on where it was stopped)"
        yield failed("resources", found, advice)


def _fits(request: Request, node: Node) -> bool:
    enough = node.cpus >= request.cpus and node.memory >= request.memory
    return enough and node.gpus_of(request.gpu_model) >= request.gpus


def _told(request: Request) -> str:
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
