"""What cannot run is refused before anything is extracted or written."""

import shlex
import socket
from typing import Any

import pytest
import torch

from harness import resources as machine
from harness.config import Resources
from harness.config.load import load_study
from harness.errors import ClusterError
from harness.resources import preflight
from tests.told import told

CASES = told(__file__, "refusals.yaml")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_this_machine_cannot_run_is_refused(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores and GPUs at once; in torch's words, with a --set that helps and can be given."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(machine, "usable_cpus", lambda: 2)
    monkeypatch.setattr(machine, "usable_gpus", lambda: case.get("gpus", 8))
    monkeypatch.setattr(machine, "why_no_gpu", lambda: case.get("why"))
    lines = []
    try:
        preflight(None, Resources(**case["resources"]))
    except ClusterError as error:
        lines = str(error).splitlines()
    assert lines == case.get("lines", [])
    for line in lines:
        load_study("prompt_len", shlex.split(line.partition("--set ")[2])[:1])


def test_a_listening_port_passes_and_a_closed_one_is_named() -> None:
    """The error has the address, at once; an address that is Ray's to find is left to it."""
    preflight("auto", Resources(cpus=10_000))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        preflight(address, Resources())
    with pytest.raises(ClusterError, match=f"no Ray cluster at {address}"):
        preflight(address, Resources())
