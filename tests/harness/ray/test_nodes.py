"""Trials on clusters whose nodes differ: each has to fit on one."""

from contextlib import nullcontext
from typing import Any

import pytest

from harness.config import Resources
from harness.errors import ClusterError
from harness.resources import check_room

LARGE, SMALL, GPU = {"CPU": 16.0}, {"CPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "said"),
    [
        # whatever the others are like
        (16, 0, [SMALL, LARGE], None),
        (4, 0.25, [LARGE, GPU], None),
        (0.5, 0, [SMALL], None),
        (1, 2, [SMALL, GPU], None),
        (3, 0, [SMALL, SMALL], r"\(2 cores and 0 GPUs\), got cpus 3 and gpus 0"),
        (8, 1, [LARGE, GPU], r"\(16 cores and 0 GPUs; 4 cores and 2 GPUs\), got cpus 8 and gpus 1"),
        (1, 0, [], "must fit one machine"),
    ],
)
def test_a_trial_needs_one_node_with_room_for_it(
    cpus: float, gpus: float, nodes: list[dict[str, float]], said: str | None
) -> None:
    """The nodes together are not enough: Ray would let it wait for ever."""
    refused: Any = pytest.raises(ClusterError, match=said) if said else nullcontext()
    with refused:
        check_room(Resources(cpus=cpus, gpus=gpus), nodes)
