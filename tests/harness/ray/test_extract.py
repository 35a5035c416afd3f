"""Features are extracted by actors, on a simulated machine and on a cluster of two nodes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from harness.config import Resources
from harness.errors import ClusterError
from harness.ray.extract import ClusterEncoder, count_decoding_threads
from ship.clip import FrozenCLIP
from ship.features import extract_features
from tests.harness.cluster_driver import VIEWS, hash_features, load_images
from tests.harness.conftest import RunOnCluster
from tests.ship.features import encoders
from tests.ship.features.encoders import FakeEncoder


class DriverBackbone(FakeEncoder):
    """The driver's backbone, which must not encode."""

    def encode_images(self, images: torch.Tensor, /) -> torch.Tensor:
        raise RuntimeError("the driver encodes")


def make_loader(folder: Path) -> Callable[[str, str], Any]:
    """Return a function that logs process and device, and returns a backbone."""

    def load(name: str, device: str) -> Any:
        with (folder / "loaded").open("a") as file:
            file.write(f"{os.getpid()} {device}\n")
        return encoders.FakeEncoder(name)

    return load


def read_log(folder: Path) -> list[str]:
    """Return the lines that the loader has logged."""
    return (folder / "loaded").read_text().splitlines()


@pytest.mark.slow
def test_actors_with_gpus_encode_every_split(
    local_ray: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One set of actors encodes all splits and backbones. A node with other weights is refused."""
    ray.cloudpickle.register_pickle_by_value(encoders)  # actors cannot import the tests
    request.addfinalizer(lambda: ray.cloudpickle.unregister_pickle_by_value(encoders))
    dataset = load_images()
    events: list[str] = []

    @contextmanager
    def session() -> Iterator[None]:
        events.append("open")
        yield
        events.append("closed")

    with ClusterEncoder(Resources(gpus=1), make_loader(tmp_path), "cpu", session) as encoder:
        assert events == []
        features = extract_features(DriverBackbone(), dataset, 5, tmp_path / "a", encode=encoder)
        assert events == ["open"] and len(read_log(tmp_path)) == 1
        again = extract_features(DriverBackbone(), dataset, 0, tmp_path / "b", encode=encoder)
        assert len(read_log(tmp_path)) == 1
        extract_features(DriverBackbone("other"), dataset, 0, tmp_path / "other", encode=encoder)
        assert len(read_log(tmp_path)) == 2 and len(set(read_log(tmp_path))) == 1
        third = DriverBackbone("third", fingerprint="f1")
        with pytest.raises(ClusterError, match="differ between a node and the driver"):
            extract_features(third, dataset, 0, tmp_path / "third", encode=encoder)
    assert events == ["open", "closed"]
    with encoder:  # the actors of the first context have ended
        extract_features(DriverBackbone(), dataset, 0, tmp_path / "d", encode=encoder)
    assert events == ["open", "closed"] * 2
    expected = extract_features(FakeEncoder(), dataset, 5, tmp_path / "c")
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(features, split), getattr(expected, split))
    np.testing.assert_array_equal(again.train, expected.train[:, :1])


@pytest.mark.parametrize(
    ("resources", "cores", "gpus", "threads"),
    [
        (Resources(gpus=1), 64, 4, 16),
        (Resources(gpus=0.25), 16, 2, 2),
        (Resources(cpus=6, gpus=1), 8, 2, 6),
        (Resources(gpus=1), 0, 1, 1),
        (Resources(cpus=2), 64, 4, 2),
        (Resources(cpus=0.5), 64, 4, 1),
    ],
)
def test_gpu_actor_uses_its_share_of_cores(
    resources: Resources, cores: float, gpus: int, threads: int
) -> None:
    """It uses at least the cores that it reserves. An actor without a GPU uses only those."""
    assert count_decoding_threads(resources, cores, gpus) == threads


@pytest.fixture(scope="module")
def local_hash(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the features that this machine extracts."""
    return hash_features(
        extract_features(FrozenCLIP.load(), load_images(), VIEWS, tmp_path_factory.mktemp("local"))
    )


def test_small_dataset_is_encoded_by_the_driver(tmp_path: Path) -> None:
    """No session is opened and no actor is started."""

    def fail(*_: Any) -> Any:
        raise AssertionError("Ray is used")

    with ClusterEncoder(Resources(), fail, session=fail) as encoder:
        features = extract_features(FakeEncoder(), load_images(), 0, tmp_path / "a", encode=encoder)
    expected = extract_features(FakeEncoder(), load_images(), 0, tmp_path / "b")
    np.testing.assert_array_equal(features.train, expected.train)


@pytest.mark.weekly
def test_killed_actor_costs_only_its_shard(
    run_on_cluster: RunOnCluster, tmp_path: Path, local_hash: str
) -> None:
    """Another actor encodes the shard, with identical features."""
    result, _ = run_on_cluster("kill")
    assert (tmp_path / "killed").exists()
    assert result["digest"] == local_hash
    assert result["files"] == 5


@pytest.mark.weekly
def test_broken_images_of_all_shards_are_listed_in_one_error(run_on_cluster: RunOnCluster) -> None:
    """The error is the same as on one machine."""
    result, output = run_on_cluster("broken")
    assert result["error"] == (
        "DatasetError: dataset emoji: 2 images of train cannot be decoded: broken 5, broken 390"
    )
    assert "Traceback" not in output


@pytest.mark.weekly
def test_actors_that_cannot_start_are_one_line_error(run_on_cluster: RunOnCluster) -> None:
    """The line has the cause once, without Ray's tracebacks."""
    result, output = run_on_cluster("weights")
    assert result["error"] == (
        "ClusterError: cannot extract the features of emoji: "
        "ValueError: no such weights on this node and advice"
    )
    assert output == ""
