"""Trials on clusters whose nodes differ: each has to fit on one of them."""

from contextlib import nullcontext

import pytest

from harness.cluster.session import check_nodes
from harness.config.choices import Resources
from harness.errors import ClusterError

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
    with pytest.raises(ClusterError, match=said) if said else nullcontext():
        check_nodes(Resources(cpus=cpus, gpus=gpus), nodes)
