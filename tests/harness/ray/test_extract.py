"""Extraction on a simulated cluster of two nodes gives what this machine gives, to the bit."""

from pathlib import Path

import pytest

from harness.ray.extract import _undecodable
from ship.clip import FrozenCLIP
from ship.features import extract_features
from tests.harness.cluster_driver import VIEWS, digest, pictures
from tests.harness.conftest import OnCluster


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the features as this machine alone extracts them."""
    return digest(
        extract_features(FrozenCLIP.load(), pictures(), VIEWS, tmp_path_factory.mktemp("local"))
    )


@pytest.mark.slow
def test_two_nodes_give_what_this_machine_gives(cluster: OnCluster, local: str) -> None:
    """To the bit, with actors on both nodes, counted, cleared up, and without a word of Ray's."""
    found, noise = cluster("plain")
    assert found["digest"] == local
    assert (found["nodes"], found["files"]) == (2, 5)
    assert found["last"] == [1320, 1320]
    assert noise == ""


@pytest.mark.slow
def test_a_small_dataset_stays_on_the_driver(cluster: OnCluster, local: str) -> None:
    """No actor is started for fewer views than are worth it."""
    found, _ = cluster("small")
    assert (found["digest"], found["nodes"]) == (local, 0)


@pytest.mark.faults
def test_a_killed_actor_costs_its_shard_alone(
    cluster: OnCluster, tmp_path: Path, local: str
) -> None:
    """kill -9 of an actor in mid shard: another one encodes it, and no bit differs."""
    found, _ = cluster("kill")
    assert (tmp_path / "killed").exists()
    assert found["digest"] == local
    assert found["files"] == 5


@pytest.mark.faults
def test_broken_pictures_are_named_together(cluster: OnCluster) -> None:
    """The one error that this machine gives too, with pictures of other shards in it."""
    found, noise = cluster("broken")
    assert found["error"] == (
        "DatasetError: dataset emoji: 2 pictures of train cannot be decoded: broken 5, broken 390"
    )
    assert "Traceback" not in noise


@pytest.mark.faults
def test_actors_that_cannot_start_give_one_line(cluster: OnCluster) -> None:
    """It names the cause, once, without Ray's tracebacks."""
    found, noise = cluster("weights")
    assert found["error"].startswith(
        "ClusterError: features of emoji cannot be extracted: "
        "ValueError: no such weights on this node"
    )
    assert noise == ""


@pytest.mark.slow
def test_a_study_joins_a_cluster_before_it_extracts(cluster: OnCluster, tmp_path: Path) -> None:
    """Extraction is given the cluster; the trials then run in the same session."""
    found, noise = cluster("study")
    assert found == {"done": 3, "complete": True}
    assert (tmp_path / "log").read_text().splitlines()[0] == "extract emoji on a cluster"
    assert noise == ""


def test_a_picture_that_only_the_driver_has_is_no_broken_one() -> None:
    """The error tells what nodes of the cluster lack."""
    dataset = pictures()
    name = dataset.splits["train"].pictures[3].name
    error = _undecodable(dataset, "train", name)
    assert f"{name} can be decoded here, but not on every node" in str(error)
    assert "--data-root" in str(error)
