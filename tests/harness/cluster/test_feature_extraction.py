"""Extraction on a simulated cluster of two nodes gives what this machine gives, to the bit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.feature_extraction import _undecodable
from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import extract_features
from tests.harness.cluster_driver import VIEWS, digest, pictures

Run = Callable[[str], tuple[dict[str, Any], str]]


@pytest.fixture
def run(tmp_path: Path, ray_folder: Path) -> Run:
    """Runs a scenario: what it printed, and what Ray and others wrote beside it."""

    def there(scenario: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, "-m", "tests.harness.cluster_driver", scenario, str(tmp_path)]
        env = {**os.environ, "RAY_TMPDIR": str(ray_folder)}
        for _ in range(2):
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=140)
            # Ray's core may end a driver without a word where its own processes do not answer in
            # time on a busy machine: seen once in some hundred runs of these tests
            if done.returncode != 1 or done.stdout or done.stderr:
                break
        assert done.returncode == 0, done.stderr
        *others, last = done.stdout.splitlines()
        return json.loads(last), "\n".join([*others, done.stderr]).strip()

    return there


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the features as this machine alone extracts them."""
    return digest(
        extract_features(FrozenCLIP.load(), pictures(), VIEWS, tmp_path_factory.mktemp("local"))
    )


@pytest.mark.slow
def test_two_nodes_give_what_this_machine_gives(run: Run, local: str) -> None:
    """To the bit, with actors on both nodes, counted, cleared up, and without a word of Ray's."""
    found, noise = run("plain")
    assert found["digest"] == local
    assert (found["nodes"], found["files"]) == (2, 3)
    assert found["last"] == [1320, 1320]
    assert noise == ""


@pytest.mark.slow
def test_a_small_dataset_stays_on_the_driver(run: Run, local: str) -> None:
    """No actor is started for fewer views than are worth it."""
    found, _ = run("small")
    assert (found["digest"], found["nodes"]) == (local, 0)


@pytest.mark.faults
def test_a_killed_actor_costs_its_shard_alone(run: Run, tmp_path: Path, local: str) -> None:
    """kill -9 of an actor in mid shard: another one encodes it, and no bit differs."""
    found, _ = run("kill")
    assert (tmp_path / "killed").exists()
    assert found["digest"] == local
    assert found["files"] == 3


@pytest.mark.faults
def test_broken_pictures_are_named_together(run: Run) -> None:
    """The one error that this machine gives too, with pictures of other shards in it."""
    found, noise = run("broken")
    assert found["error"] == (
        "DatasetError: dataset emoji: 2 pictures of train cannot be decoded: broken 5, broken 390"
    )
    assert "Traceback" not in noise


@pytest.mark.faults
def test_actors_that_cannot_start_give_one_line(run: Run) -> None:
    """It names the cause, once, without Ray's tracebacks."""
    found, noise = run("weights")
    assert found["error"].startswith(
        "ClusterError: features of emoji cannot be extracted: "
        "ValueError: no such weights on this node"
    )
    assert noise == ""


@pytest.mark.slow
def test_a_study_joins_a_cluster_before_it_extracts(run: Run, tmp_path: Path) -> None:
    """Extraction is given the cluster; the trials then run in the same session."""
    found, noise = run("study")
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
