"""Start or join Ray, and extract features on its nodes.

Responsible for a private Ray that listens only on loopback and has its own token, for Ray's output,
and for all uses of private names of Ray. Importing this package imports Ray, which takes 2 s.
"""

from harness.ray.extract import ClusterEncoder
from harness.ray.patches import (
    Death,
    find_dead_daemon,
    find_last_error,
    kill_worker,
    parse_death,
    read_error_file,
    report_memory_kills_as_deaths,
)
from harness.ray.session import get_cluster_resources, ray_session
