"""Trials on clusters whose nodes differ: each has to fit on one, and torch has to use its GPUs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config import Resources
from harness.errors import ClusterError
from harness.ray import check_gpus
from harness.resources import lacking


def asked(folder: Path, why: str | None) -> Callable[[], str | None]:
    """A node's answer; it leaves the process that gave it."""

    def ask() -> str | None:
        (folder / str(os.getpid())).touch()
        return why

    return ask


@pytest.mark.usefixtures("local_ray")
def test_a_node_whose_gpus_torch_cannot_use_is_named(tmp_path: Path) -> None:
    """By its address, with torch's words; another process than this one was asked."""
    with pytest.raises(ClusterError) as caught:
        check_gpus(Resources(gpus=1), asked(tmp_path, "Torch not compiled with CUDA enabled"))
    line = str(caught.value)
    assert line.startswith("resources.gpus is 1, but torch cannot use a GPU on node ")
    assert ": Torch not compiled with CUDA enabled (install a torch that is built with" in line
    (process,) = tmp_path.iterdir()
    assert process.name != str(os.getpid())
    check_gpus(Resources(gpus=1), asked(tmp_path, None))  # one whose GPUs can be used passes


@pytest.mark.usefixtures("local_ray")
def test_a_node_that_is_busy_holds_nothing_up(tmp_path: Path) -> None:
    """Its trials will tell."""
    import ray

    class Holder:
        def here(self) -> None:
            """Once it has its GPU."""

    holder = ray.remote(Holder).options(num_gpus=1).remote()
    try:
        ray.get(holder.here.remote())
        check_gpus(Resources(gpus=1), asked(tmp_path, "not asked"), seconds=0.5)
        assert not list(tmp_path.iterdir())
    finally:
        ray.kill(holder)


LARGE, SMALL, GPU = {"CPU": 16.0}, {"CPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "said"),
    [
        # whatever the others are like
        (16, 0, [SMALL, LARGE], None),
        (4, 0.25, [LARGE, GPU], None),
        (0.5, 0, [SMALL], None),
        (1, 2, [SMALL, GPU], None),
        (3, 0, [SMALL, SMALL], "resources.cpus must be at most 2, which is all that a node has"),
        (1, 3, [GPU, GPU], "resources.gpus must be at most 2, which is all that a node has"),
        (8, 1, [LARGE, GPU], "no node has resources.cpus 8 and .gpus 1 at once"),
        (1, 0, [], "resources.cpus must be at most 0"),
    ],
)
def test_a_trial_needs_one_node_with_room_for_it(
    cpus: float, gpus: float, nodes: list[dict[str, float]], said: str | None
) -> None:
    """The nodes together are not enough: Ray would let it wait for ever."""
    found = lacking(Resources(cpus=cpus, gpus=gpus), nodes, "a node")
    assert [line.startswith(said or "") for line in found] == [True] * bool(said)
