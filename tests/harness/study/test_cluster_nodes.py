"""Trials on clusters whose nodes differ: each has to fit on one of them."""

import pytest

from harness.cluster.session import check_nodes
from harness.config.choices import Resources
from harness.errors import ClusterError

LARGE, SMALL, GPU = {"CPU": 16.0}, {"CPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes"),
    [(16, 0, [SMALL, LARGE]), (4, 0.25, [LARGE, GPU]), (0.5, 0, [SMALL]), (1, 2, [SMALL, GPU])],
)
def test_a_trial_that_one_node_has_room_for(
    cpus: float, gpus: float, nodes: list[dict[str, float]]
) -> None:
    """Whatever the others are like."""
    check_nodes(Resources(cpus=cpus, gpus=gpus), nodes)


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "said"),
    [
        (3, 0, [SMALL, SMALL], "resources.cpus must be at most 2, which is all that a node has"),
        (1, 3, [GPU, GPU], "resources.gpus must be at most 2, which is all that a node has"),
        (8, 1, [LARGE, GPU], "no node has resources.cpus 8 and .gpus 1 at once"),
        (1, 0, [], "resources.cpus must be at most 0"),
    ],
)
def test_a_trial_that_no_node_has_room_for(
    cpus: float, gpus: float, nodes: list[dict[str, float]], said: str
) -> None:
    """The nodes together would have, but a trial has one: Ray would let it wait for ever."""
    with pytest.raises(ClusterError, match=said):
        check_nodes(Resources(cpus=cpus, gpus=gpus), nodes)
