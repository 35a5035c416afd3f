"""Start or join Ray, and extract features on its nodes.

A Ray that is started here is private: it listens only on loopback and requires its own token. All
uses of private names of Ray are in this package. Importing it imports Ray, which takes 2 s.
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
