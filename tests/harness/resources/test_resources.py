"""Resources of trials: how many run at once, what is idle, and what is refused."""

import shlex
import socket
from contextlib import nullcontext
from typing import Any

import pytest

from harness import resources as machine
from harness.config import Resources, load_study
from harness.errors import ClusterError
from harness.resources import (
    check_capacity,
    check_resources,
    count_fitting_trials,
    describe_idle_gpus,
    resolve_resources,
)
from tests.case_files import load_cases


@pytest.mark.parametrize("case", load_cases(__file__, "gpu_sharing.yaml"), ids=str)
def test_a_trials_resources_determine_how_many_run_at_once(case: dict[str, Any]) -> None:
    """The default is one GPU if there is any. The scarcer of cores and GPUs limits the number."""
    nodes = case["there"] if isinstance(case["there"], list) else [case["there"]]
    takes = resolve_resources(Resources(**case["resources"]), nodes)
    assert takes == Resources(**case["takes"])
    assert count_fitting_trials(takes, nodes) == case["at_once"]


@pytest.mark.parametrize("case", load_cases(__file__, "idle.yaml"), ids=str)
def test_idle_gpus_are_reported_with_the_keys_that_use_them(case: dict[str, Any]) -> None:
    """The line has their number, and the keys that let more trials run at once."""
    nodes = case.get("there", {"CPU": 16.0, "GPU": 8.0})
    resources = Resources(**case["resources"])
    message = describe_idle_gpus(resources, [nodes], case.get("max_concurrent_trials"))
    many = case["idle"] and f"{case['idle']} of {nodes['GPU']:g} GPUs would be idle"
    assert (message and message.partition(":")[0]) == many


@pytest.mark.parametrize("case", load_cases(__file__, "refusals.yaml"), ids=str)
def test_resources_that_exceed_this_machine_are_refused(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has torch's reason, and an override that helps."""
    monkeypatch.setattr(machine, "count_usable_cpus", lambda: 2)
    monkeypatch.setattr(machine, "count_visible_gpus", lambda: case.get("gpus", 8))
    monkeypatch.setattr(machine, "find_gpu_fault", lambda: case.get("why"))
    line = None
    try:
        check_resources(None, Resources(**case["resources"]))
    except ClusterError as error:
        line = str(error)
    assert line == case.get("line")
    if "(set " in (line or ""):
        load_study("prompt_len", shlex.split(str(line).partition("(set ")[2])[:1])


def test_a_listening_port_passes_and_a_closed_one_is_named() -> None:
    """The error names the address at once. An address that Ray has to find is not checked."""
    check_resources("auto", Resources(cpus=10_000))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_resources(address, Resources())
    with pytest.raises(ClusterError, match=f"no Ray cluster at {address}"):
        check_resources(address, Resources())


LARGE, SMALL, GPU = {"CPU": 16.0}, {"CPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "message"),
    [
        # whatever the others are like
        (16, 0, [SMALL, LARGE], None),
        (4, 0.25, [LARGE, GPU], None),
        (0.5, 0, [SMALL], None),
        (1, 1, [SMALL, GPU], None),
        (3, 0, [SMALL, SMALL], r"\(2 cores and 0 GPUs\), got cpus 3 and gpus 0"),
        (8, 1, [LARGE, GPU], r"\(16 cores and 0 GPUs; 4 cores and 2 GPUs\), got cpus 8 and gpus 1"),
        (1, 0, [], "must fit one machine"),
    ],
)
def test_a_trial_must_fit_on_one_node(
    cpus: float, gpus: float, nodes: list[dict[str, float]], message: str | None
) -> None:
    """The sum of all nodes is not enough, because Ray would let the trial wait forever."""
    refused: Any = pytest.raises(ClusterError, match=message) if message else nullcontext()
    with refused:
        check_capacity(Resources(cpus=cpus, gpus=gpus), nodes)
