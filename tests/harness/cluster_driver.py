"""Run a scenario on a Ray cluster of two or three nodes.

It needs a separate process, because Ray has one session per process.
`python -m tests.harness.cluster_driver SCENARIO FOLDER` prints the result as a line of JSON.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from harness.config import Resources, StudyConfig
from harness.machine import set_environment
from harness.ray import extract
from harness.ray.session import DRIVER_ENVIRONMENT, ray_session
from harness.study.run import run_study
from ship.clip import FrozenCLIP
from ship.datasets import ImageDataset, ImageFile, Split, load_dataset
from ship.features import extract_features
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig
from tests.harness import fakes

IMAGES = {"train": 400, "val": 60, "test": 60}  # train has three shards, val and test one each
VIEWS = 2
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def load_images(broken: tuple[int, ...] = ()) -> ImageDataset:
    """Load some images of the packaged dataset; the training images at `broken` are unreadable."""
    dataset = load_dataset("emoji")
    splits = {
        name: Split(split.images[: IMAGES[name]], split.labels[: IMAGES[name]])
        for name, split in dataset.splits.items()
    }
    train = list(splits["train"].images)
    for i in broken:
        train[i] = ImageFile(f"broken {i}", b"not an image")
    splits["train"] = Split(tuple(train), splits["train"].labels)
    return replace(dataset, splits=splits)


def hash_features(features: FeatureSet) -> str:
    """Return a hash of all features."""
    arrays = (features.train, features.val, features.test)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def make_loader(
    folder: Path, kill: bool = False, broken: bool = False
) -> Callable[[str, str], Any]:
    """Return a function that loads the backbone on an actor and writes a file with the node's name.

    Args:
        folder: Folder of the files.
        kill: Whether the first actor that encodes a third batch dies.
        broken: Whether the backbone cannot be loaded.
    """

    def load(name: str, device: str) -> Any:
        node = ray.get_runtime_context().get_node_id()
        (folder / f"{node}.{os.getpid()}.actor").touch()
        if broken:
            raise ValueError("no such weights on this node\nand advice")
        clip = FrozenCLIP.load(name, device)
        encode, calls = clip.encode_images, []

        def encode_or_die(batch: Any) -> Any:
            calls.append(1)
            if kill and len(calls) == 3 and not (folder / "killed").exists():
                (folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(batch)

        clip.encode_images = encode_or_die  # type: ignore[method-assign]
        return clip

    return load


def run_extraction(scenario: str, folder: Path) -> dict[str, Any]:
    """Extract features on the cluster, and return their hash or the error."""
    load = make_loader(folder, kill=scenario == "kill", broken=scenario == "weights")
    extract.MIN_VIEWS = 1  # type: ignore[misc]
    encoder = extract.ClusterEncoder(fakes.make_study().resources, load)
    dataset = load_images(broken=(5, 390) if scenario == "broken" else ())
    calls: list[tuple[int, int]] = []
    try:
        features = extract_features(
            FrozenCLIP.load(), dataset, VIEWS, folder, lambda *at: calls.append(at), encode=encoder
        )
    except ValueError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    nodes = {file.name.partition(".")[0] for file in folder.glob("*.actor")}
    files = len(list(folder.glob("*.safetensors")))
    return {
        "digest": hash_features(features),
        "nodes": len(nodes),
        "files": files,
        "last": calls[-1],
    }


def make_cluster_study() -> StudyConfig:
    """Return a study of six configurations that uses all nodes."""
    return fakes.make_study(
        space={"generator.n_ctx": [1, 2, 3, 4, 6, 8]}, max_concurrent_trials=None
    )


def make_behavior(folder: Path) -> fakes.Behavior:
    """Return a behavior for a cluster whose nodes change.

    The first trial on a node other than the head hangs. All others wait for a new node.
    """

    def behave(config: TrialConfig, epoch: int) -> None:
        node = ray.get_runtime_context().get_node_id()
        hanging = folder / "hanging"
        if node != (folder / "head").read_text() and not hanging.exists():
            hanging.write_text(node)
        if hanging.exists() and hanging.read_text() == node:
            (folder / "started").touch()
            time.sleep(600)
        while not (folder / "added").exists():
            time.sleep(0.05)

    return behave


def replace_node(cluster: Cluster, folder: Path) -> None:
    """Kill the raylet of the hanging trial, and add another node."""
    while not (folder / "started").exists():
        time.sleep(0.05)
    hanging = (folder / "hanging").read_text()
    (node,) = [node for node in cluster.worker_nodes if node.node_id == hanging]
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(**NODE)
    (folder / "added").touch()


def run_study_and_replace_node(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Run a study with the analytic method while the node of a trial is killed."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    (folder / "head").write_text(cluster.head_node.node_id)
    threading.Thread(target=replace_node, args=(cluster, folder), daemon=True).start()
    outcome = run_study(
        make_cluster_study(),
        data_root=None,
        address=cluster.address,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        cache_dir=folder / "cache",
        method=fakes.make_method(folder / "log", make_behavior(folder)),
        console=Console(file=sys.stderr),
    )
    return {"done": outcome.done, "complete": outcome.complete}


def main(scenario: str, folder: str) -> None:
    """Start the cluster, run the scenario, and print its result."""
    with set_environment(DRIVER_ENVIRONMENT):
        head = {**NODE, "include_dashboard": False}
        # shutdown_at_exit would replace the signal handlers of this process.
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        for _ in range(2 if scenario == "lose" else 1):
            cluster.add_node(**NODE)
    try:
        if scenario == "lose":
            result = run_study_and_replace_node(cluster, Path(folder))
        else:
            with ray_session(Resources(), cluster.address, 0, verbose=False):
                result = run_extraction(scenario, Path(folder))
        print(json.dumps(result), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
