"""GPUs that Ray counts and torch cannot use, found out on the node that has them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cluster import check_gpus
from harness.config.choices import Resources
from harness.errors import ClusterError


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
