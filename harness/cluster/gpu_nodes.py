"""Whether torch can use the GPUs that Ray counts: node by node, before anything is extracted.

Ray counts what the driver's library lists; a torch that is built for a newer CUDA than the driver
knows cannot use one of them. Each trial would fail with the same words.
"""

from collections.abc import Callable
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.config import Resources
from harness.errors import ClusterError
from harness.resources import unusable_gpus, why_no_gpu

PATIENCE_SECONDS: Final = 60.0
_SHARE: Final = 0.001  # of a GPU, so that Ray shows the process one


def check_gpus(
    resources: Resources,
    ask: Callable[[], str | None] = why_no_gpu,
    seconds: float = PATIENCE_SECONDS,
) -> None:
    """Ask a process on each node of the open session that has GPUs.

    Args:
        resources: of one trial.
        ask: run on the node; why torch cannot use a GPU, None if it can.
        seconds: how long to wait for nodes that are busy; what they do not say is not asked again.

    Raises:
        ClusterError: torch cannot use the GPUs of some node; a line for each.
    """
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    asked: dict[Any, str] = {}
    for node in nodes:
        if node["Alive"] and node["Resources"].get("GPU"):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, num_gpus=_SHARE, max_retries=0)(ask)
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
