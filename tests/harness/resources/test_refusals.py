"""What cannot run is refused before anything is extracted or written."""

import socket

import pytest

from harness.config.choices import Resources
from harness.errors import ClusterError
from harness.resources import refusals as module
from harness.resources.refusals import preflight


def test_a_small_trial_fits_and_auto_is_left_to_ray() -> None:
    """Nothing to complain of."""
    preflight(None, Resources(cpus=0.5))
    preflight("auto", Resources(cpus=10_000))


def test_a_listening_port_passes_and_a_closed_one_is_named() -> None:
    """The error has the address, at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        preflight(address, Resources())
    with pytest.raises(ClusterError, match=f"no Ray cluster at {address}"):
        preflight(address, Resources())


def test_a_machine_too_small_is_named_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores and GPUs, both at once."""
    monkeypatch.setattr(module, "usable_cpus", lambda: 2)
    monkeypatch.setattr(module, "usable_gpus", lambda: 0)
    with pytest.raises(ClusterError) as caught:
        preflight(None, Resources(cpus=3, gpus=0.25))
    assert str(caught.value).splitlines() == [
        "resources.cpus must be at most 2, which is all that this machine has, got 3",
        "resources.gpus must be at most 0, which is all that this machine has, got 0.25",
    ]


@pytest.mark.parametrize(("gpus", "fine"), [(0.5, True), (1, True), (2, True), (1.5, False)])
def test_gpus_are_a_fraction_of_one_or_whole(gpus: float, fine: bool) -> None:
    """Ray shares one GPU among trials, but gives a trial only whole ones beyond that."""
    if fine:
        assert Resources(gpus=gpus).gpus == gpus
        return
    with pytest.raises(ValueError, match="below 1, or a whole number"):
        Resources(gpus=gpus)
