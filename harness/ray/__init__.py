"""Ray as the harness uses it: one session, its nodes, and extraction shared out over them.

Answers for: a Ray on loopback alone with a token of its own, what Ray may print, and every name of
Ray's that is not public. Importing it imports Ray, which takes two seconds.
"""

from harness.ray.extract import ClusterEncoder
from harness.ray.internals import (
    Death,
    dead_daemon,
    death_of,
    error_text,
    kill_worker,
    last_error,
    memory_kills_as_worker_deaths,
)
from harness.ray.session import cluster_resources, ray_session
