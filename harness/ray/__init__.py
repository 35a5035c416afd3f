"""Ray as the harness uses it: one session, its nodes, and extraction shared out over them.

Answers for: a Ray on loopback alone with a token of its own, what Ray may print, and every name of
Ray's that is not public. Importing it imports Ray, which takes two seconds.
"""

from harness.ray.deaths import Death, death_of, last_error
from harness.ray.extract import ClusterEncoder
from harness.ray.internals import (
    dead_daemon,
    error_text,
    kill_worker,
    memory_kills_as_worker_deaths,
)
from harness.ray.session import cluster_resources, ray_session, threads
