"""GPUs that stand idle are told, with the line of YAML that uses them."""

import re

import pytest

from harness.config import load_study
from harness.config.choices import Resources
from harness.resources import at_once, idle, idle_gpus, idle_gpus_here

NODE = {"CPU": 16.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("resources", "there", "concurrency", "said"),
    [
        (Resources(), NODE, None, "8 of 8 GPUs stand idle, as no trial takes one: the line "
         "`resources: auto` in the YAML, or --set resources=auto, uses them"),
        (Resources(), {"CPU": 4.0, "GPU": 1.0}, None, "1 GPU stands idle, as no trial takes one: "
         "the line `resources: auto` in the YAML, or --set resources=auto, uses it"),
        (Resources(cpus=4, gpus=1), NODE, None, "4 of 8 GPUs stand idle, as a trial takes 4 of 16 "
         "cores: the line `resources: {cpus: 2, gpus: 1}` in the YAML uses them"),
        (Resources(cpus=2, gpus=0.25), NODE, None, "6 of 8 GPUs stand idle, as a trial takes 2 of "
         "16 cores: the line `resources: {cpus: 0.5, gpus: 0.25}` in the YAML uses them"),
        (Resources(gpus=1), NODE, 7, "1 of 8 GPUs stands idle, as concurrency is 7: the line "
         "`concurrency: null` in the YAML uses it"),
        (Resources(cpus=2, gpus=1), NODE, None, None),
        (Resources(gpus=0.3333), {"CPU": 3.0, "GPU": 1.0}, None, None),
        (Resources(auto=True), NODE, None, None),
        (Resources(), {"CPU": 16.0}, None, None),
    ],
)  # fmt: skip
def test_idle_gpus_are_told_with_what_uses_them(
    resources: Resources, there: dict[str, float], concurrency: int | None, said: str | None
) -> None:
    """How many, why, and the line; nothing where trials take them all."""
    assert idle_gpus(resources, there, concurrency) == said
    line = re.search("`(.*?)`", said or "")
    if line is None:
        return
    key, _, value = line[1].partition(": ")
    study = load_study("prompt_len", [f"{key}={value}"])
    if not study.resources.auto:
        held = study.resources if key == "resources" else resources
        assert at_once(held, there) * held.gpus >= there["GPU"] - 1e-6


def test_gpus_that_torch_cannot_use_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of YAML would not use them."""
    monkeypatch.setattr(idle, "usable_gpus", lambda: 8)
    monkeypatch.setattr(idle, "why_no_gpu", lambda: "Torch not compiled with CUDA enabled")
    assert idle_gpus_here(Resources(), None) == (
        "8 of 8 GPUs stand idle, and torch cannot use them: Torch not compiled with CUDA enabled "
        "(install a torch that is built with CUDA (this one is for the CPU alone))"
    )
    monkeypatch.setattr(idle, "usable_gpus", lambda: 0)
    assert idle_gpus_here(Resources(), None) is None
