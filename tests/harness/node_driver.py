"""A study on three nodes, one of which is killed under its trials; Ray has one session a process.

python -m tests.harness.node_driver URI LOG CACHE prints one line of JSON.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from harness.cluster.session import DRIVER_ENVIRONMENT, environment
from harness.config.study_config import StudyConfig
from harness.study.run import run_study
from ship.trial_config import TrialConfig
from tests.harness import fakes

NODE = {"object_store_memory": 100 * 2**20}


def study() -> StudyConfig:
    """Six settings, three at once."""
    levels = [1, 2, 3, 4, 6, 8]
    return fakes.make_study(space={"generator.n_ctx": levels}, concurrency=None)


def behave_in(folder: Path) -> fakes.Behaviour:
    """The first trial on a node that is not the head's hangs; all others wait for a new node."""

    def behave(config: TrialConfig, epoch: int) -> None:
        node = ray.get_runtime_context().get_node_id()
        doomed = folder / "doomed"
        if node != (folder / "head").read_text() and not doomed.exists():
            doomed.write_text(node)
        if doomed.exists() and doomed.read_text() == node:
            (folder / "under-way").touch()
            time.sleep(600)
        while not (folder / "added").exists():
            time.sleep(0.05)

    return behave


def main(uri: str, log: str, cache: str) -> None:
    """Start the cluster, run the study, lose a node, add one."""
    folder = Path(log).parent
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.cloudpickle.register_pickle_by_value(fakes)
    head = {"num_cpus": 1, "include_dashboard": False, **NODE}
    with environment(DRIVER_ENVIRONMENT):
        # at exit: by a signal handler, which only the main thread may set
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        nodes = [cluster.add_node(num_cpus=1, **NODE) for _ in range(2)]
    (folder / "head").write_text(cluster.head_node.node_id)
    seen: dict[str, Any] = {"lost": False, "added": False}

    def lose_and_add() -> None:
        while not (folder / "under-way").exists():
            time.sleep(0.05)
        doomed = (folder / "doomed").read_text()
        (node,) = [node for node in nodes if node.node_id == doomed]
        cluster.remove_node(node, allow_graceful=False)
        seen["lost"] = True
        cluster.add_node(num_cpus=1, **NODE)
        seen["added"] = True
        (folder / "added").touch()

    thread = threading.Thread(target=lose_and_add, daemon=True)
    thread.start()
    try:
        outcome = run_study(
            study(),
            data_root=None,
            address=cluster.address,
            tracking_uri=uri,
            cache_dir=Path(cache),
            method=fakes.make_method(Path(log), behave_in(folder)),
            console=Console(file=sys.stderr),
        )
        thread.join(timeout=60)
        print(json.dumps({"done": outcome.done, "complete": outcome.complete, **seen}), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
