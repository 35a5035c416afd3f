"""Ray as the harness uses it: one session, its nodes, and extraction shared out over them.

Answers for: a Ray on loopback alone with a token of its own, what Ray may print, and every name of
Ray's that is not public. Importing it imports Ray, which takes two seconds.
"""

from harness.cluster.feature_extraction import ClusterEncoder
from harness.cluster.session import (
    Session,
    cluster_resources,
    memory_of_a_trial,
    ray_session,
    threads,
)

__all__ = [
    "ClusterEncoder",
    "Session",
    "cluster_resources",
    "memory_of_a_trial",
    "ray_session",
    "threads",
]
