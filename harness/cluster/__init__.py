"""Ray as the harness uses it: one session, its nodes, and extraction shared out over them.

Answers for: a Ray on loopback alone with a token of its own, what Ray may print, and every name of
Ray's that is not public. Importing it imports Ray, which takes two seconds.
"""

from harness.cluster.extract import ClusterEncoder
from harness.cluster.gpu_nodes import check_gpus
from harness.cluster.ray_internals import (
    CONNECTION_BROKE,
    LOW_MEMORY,
    MEMORY_USED,
    RAISED_IN_SETUP,
    Nodes,
    address_of_result,
    dead_daemon,
    driver_address,
    error_text,
    kill_worker,
    living_nodes,
    memory_kills_as_worker_deaths,
)
from harness.cluster.session import (
    Session,
    cluster_resources,
    ray_session,
    threads,
)

__all__ = [
    "CONNECTION_BROKE",
    "LOW_MEMORY",
    "MEMORY_USED",
    "RAISED_IN_SETUP",
    "ClusterEncoder",
    "Nodes",
    "Session",
    "address_of_result",
    "check_gpus",
    "cluster_resources",
    "dead_daemon",
    "driver_address",
    "error_text",
    "kill_worker",
    "living_nodes",
    "memory_kills_as_worker_deaths",
    "ray_session",
    "threads",
]
