"""Ray as the harness uses it: one session, its nodes, and extraction shared out over them.

Answers for: a Ray on loopback alone with a token of its own, what Ray may print, and every name of
Ray's that is not public. Importing it imports Ray, which takes two seconds.
"""

from harness.ray.extract import ClusterEncoder
from harness.ray.internals import (
    CONNECTION_BROKE,
    LOW_MEMORY,
    MEMORY_USED,
    RAISED_IN_SETUP,
    Nodes,
    dead_daemon,
    driver_address,
    error_text,
    kill_worker,
    memory_kills_as_worker_deaths,
    raylets,
)
from harness.ray.nodes import check_gpus, cluster_resources
from harness.ray.session import Session, ray_session, threads

__all__ = [
    "CONNECTION_BROKE",
    "LOW_MEMORY",
    "MEMORY_USED",
    "RAISED_IN_SETUP",
    "ClusterEncoder",
    "Nodes",
    "Session",
    "check_gpus",
    "cluster_resources",
    "dead_daemon",
    "driver_address",
    "error_text",
    "kill_worker",
    "memory_kills_as_worker_deaths",
    "ray_session",
    "raylets",
    "threads",
]
