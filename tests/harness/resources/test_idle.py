"""GPUs that stand idle are told, with the line of YAML that uses them."""

import re
from typing import Any

import pytest

from harness import resources as machine
from harness.config import Resources, load_study
from harness.resources import at_once, idle_gpus, idle_gpus_here
from tests.told import told

CASES = told(__file__, "idle.yaml")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_idle_gpus_are_told_with_what_uses_them(case: dict[str, Any]) -> None:
    """How many, why, and the line, with which trials do take them."""
    resources, said = Resources(**case["resources"]), case.get("says")
    there = case.get("there", {"CPU": 16.0, "GPU": 8.0})
    assert idle_gpus(resources, there, case.get("concurrency")) == said
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
    monkeypatch.setattr(machine, "usable_gpus", lambda: 8)
    monkeypatch.setattr(machine, "why_no_gpu", lambda: "Torch not compiled with CUDA enabled")
    assert idle_gpus_here(Resources(), None) == (
        "8 of 8 GPUs stand idle, and torch cannot use them: Torch not compiled with CUDA enabled "
        "(install a torch that is built with CUDA (this one is for the CPU alone))"
    )
    monkeypatch.setattr(machine, "usable_gpus", lambda: 0)
    assert idle_gpus_here(Resources(), None) is None
