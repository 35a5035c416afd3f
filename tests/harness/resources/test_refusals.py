"""What cannot run is refused before anything is extracted or written."""

import shlex
import socket

import pytest
import torch

from harness.config.choices import Resources
from harness.config.load import load_study
from harness.errors import ClusterError, ConfigError
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
    monkeypatch.setattr(module, "why_no_gpu", lambda: None)
    with pytest.raises(ClusterError) as caught:
        preflight(None, Resources(cpus=3, gpus=0.25))
    assert str(caught.value).splitlines() == [
        "resources.cpus must be at most 2, which is all that this machine has, got 3",
        "resources.gpus must be at most 0, which is all that this machine has, got 0.25",
    ]


OLD = "The NVIDIA driver on your system is too old (found version 12020)."


@pytest.mark.parametrize(
    ("resources", "why", "head", "hint"),
    [
        (Resources(gpus=0.25), OLD.rstrip("."), "resources.gpus is 0.25",
         "update NVIDIA's driver, or install a torch that is built for an older CUDA (this one is "
         "for 13.0); --set resources.gpus=0"),
        (Resources(auto=True), "Torch not compiled with CUDA enabled", "resources.auto finds GPUs",
         "install a torch that is built with CUDA (this one is for the CPU alone); --set "
         "'resources={cpus: 1}'"),
        (Resources(gpus=1), "No CUDA GPUs are available", "resources.gpus is 1",
         "nvidia-smi lists what the driver sees; CUDA_VISIBLE_DEVICES may hide it; --set "
         "resources.gpus=0"),
    ],
)  # fmt: skip
def test_gpus_that_torch_cannot_use_are_refused(
    monkeypatch: pytest.MonkeyPatch, resources: Resources, why: str, head: str, hint: str
) -> None:
    """Though the driver's library lists eight: in torch's words, with what to do about it."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(module, "usable_gpus", lambda: 8)
    monkeypatch.setattr(module, "why_no_gpu", lambda: f"{why}.")
    with pytest.raises(ClusterError) as caught:
        preflight(None, resources)
    said = f"{head}, but torch cannot use a GPU here: {why} ({hint} runs on the CPU)"
    assert str(caught.value) == said
    load_study("prompt_len", shlex.split(hint.partition("--set ")[2]))  # what it says can be set
    preflight(None, Resources())


def test_auto_without_gpus_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is listed there is nothing that torch could use."""
    monkeypatch.setattr(module, "usable_gpus", lambda: 0)
    monkeypatch.setattr(module, "why_no_gpu", lambda: "Torch not compiled with CUDA enabled")
    preflight(None, Resources(auto=True))


@pytest.mark.parametrize(("gpus", "fine"), [(0.5, True), (1, True), (2, True), (1.5, False)])
def test_gpus_are_a_fraction_of_one_or_whole(gpus: float, fine: bool) -> None:
    """Ray shares one GPU among trials, but gives a trial only whole ones beyond that."""
    if fine:
        assert Resources(gpus=gpus).gpus == gpus
        return
    with pytest.raises(ValueError, match="below 1, or a whole number"):
        Resources(gpus=gpus)


def test_auto_and_a_number_of_gpus_contradict_each_other() -> None:
    """A number beside it was left out without a word, in a --set, too."""
    with pytest.raises(ConfigError, match=r"--set: resources.gpus must be left out where resource"):
        load_study("prompt_len", ["resources=auto", "resources.gpus=0.5"])
    assert load_study("prompt_len", ["resources=auto", "resources.cpus=4"]).resources == Resources(
        auto=True, cpus=4
    )
