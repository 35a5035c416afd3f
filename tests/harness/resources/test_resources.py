"""Resources of trials: concurrent trials, idle GPUs, and refused resources."""

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
def test_a_trials_resources_determine_the_number_of_concurrent_trials(
    case: dict[str, Any],
) -> None:
    """By default a trial uses one GPU if there is any. Cores and GPUs limit the number."""
    resources = resolve_resources(Resources(**case["resources"]), case["nodes"])
    assert resources == Resources(**case["trial"])
    assert count_fitting_trials(resources, case["nodes"]) == case["n_concurrent"]


@pytest.mark.parametrize("case", load_cases(__file__, "idle.yaml"), ids=str)
def test_idle_gpus_are_reported_with_the_keys_that_use_them(case: dict[str, Any]) -> None:
    """The line begins with their number."""
    cluster = case.get("cluster", {"CPU": 16.0, "GPU": 8.0})
    resources = Resources(**case["resources"])
    message = describe_idle_gpus(resources, [cluster], case.get("max_concurrent_trials"))
    if case["idle"] is None:
        assert message is None
    else:
        assert message is not None
        beginning = f"{case['idle']} of {cluster['GPU']:g} GPUs would be idle"
        assert message.partition(":")[0] == beginning


@pytest.mark.parametrize("case", load_cases(__file__, "refusals.yaml"), ids=str)
def test_resources_that_exceed_this_machine_are_refused(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has torch's reason, and an override that is valid."""
    monkeypatch.setattr(machine, "count_usable_cpus", lambda: 2)
    monkeypatch.setattr(machine, "count_visible_gpus", lambda: case.get("gpus", 8))
    monkeypatch.setattr(machine, "find_gpu_fault", lambda: case.get("gpu_fault"))
    line = None
    try:
        check_resources(None, Resources(**case["resources"]))
    except ClusterError as error:
        line = str(error)
    assert line == case.get("line")
    if "(set " in (line or ""):
        load_study("prompt_len", shlex.split(str(line).partition("(set ")[2])[:1])


def test_an_address_without_a_ray_cluster_is_refused() -> None:
    """Its port is closed. The address `auto`, which Ray resolves, is not checked."""
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
        # one of the nodes is sufficient
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
    """A trial that only fits on several nodes together would wait forever."""
    expectation: Any = pytest.raises(ClusterError, match=message) if message else nullcontext()
    with expectation:
        check_capacity(Resources(cpus=cpus, gpus=gpus), nodes)
