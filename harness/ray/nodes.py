"""The nodes of the open Ray session: what they have, and whether trials can use it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.config import Resources
from harness.device import why_no_gpu
from harness.errors import ClusterError
from harness.ray.internals import alive_nodes
from harness.resources import LARGEST_NODE, unusable_gpus

PATIENCE_SECONDS: Final = 60.0
_SHARE: Final = 0.001  # of a GPU, so that Ray shows the process one


def cluster_resources() -> dict[str, float]:
    """All that the open session has, in use or not: CPU, GPU, memory (bytes), LARGEST_NODE."""
    largest = max(cores_of_nodes().values(), default=0.0)
    return {**ray.cluster_resources(), LARGEST_NODE: largest}  # type: ignore[no-untyped-call]


def cores_of_nodes() -> dict[str, float]:
    """The cores of each living node of the open session, by its id."""
    return {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in alive_nodes()}


def check_nodes(resources: Resources, nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse trials that no node has room for, which would wait for ever: a trial has one node.

    Args:
        nodes: what each has, whatever of it is in use: CPU, GPU.

    Raises:
        ClusterError: each resource that no node has enough of, or that no node has them together.
    """
    asked = {"CPU": resources.cpus, "GPU": resources.gpus}
    most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in asked}
    faults = [
        f"resources.{name.lower()}s must be at most {most[name]:g}, which is all that a node has, "
        f"got {value:g}"
        for name, value in asked.items()
        if value > most[name]
    ]
    if not faults and not any(
        all(node.get(name, 0.0) >= value for name, value in asked.items()) for node in nodes
    ):
        faults = [f"no node has resources.cpus {asked['CPU']:g} and .gpus {asked['GPU']:g} at once"]
    if faults:
        raise ClusterError("\n".join(faults))


def check_gpus(
    resources: Resources,
    ask: Callable[[], str | None] = why_no_gpu,
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Ask a process on each node that has GPUs whether torch can use them, before anything is done.

    Ray counts what the driver's library lists; a torch that is built for a newer CUDA than the
    driver knows cannot use one of them. Each trial would fail with the same words.

    Args:
        resources: of one trial.
        ask: run on the node; why torch cannot use a GPU, None if it can.
        seconds: how long to wait for nodes that are busy; what they do not say is not asked again.

    Raises:
        ClusterError: torch cannot use the GPUs of some node; a line for each.
    """
    task = ray.remote(num_cpus=0, num_gpus=_SHARE, max_retries=0)(ask)
    asked: dict[Any, str] = {}
    for node in alive_nodes():
        if node["Resources"].get("GPU"):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[task.options(scheduling_strategy=there).remote()] = str(node["NodeName"])
    if not asked:
        return
    answered, busy = ray.wait(list(asked), num_returns=len(asked), timeout=seconds)
    for reference in busy:
        ray.cancel(reference)
    said = {asked[reference]: ray.get(reference) for reference in answered}
    faults = [
        unusable_gpus(resources, f"on node {address}", why) for address, why in said.items() if why
    ]
    if faults:
        raise ClusterError("\n".join(faults))
