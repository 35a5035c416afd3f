"""Mistakes of a command line: each is one line on stderr, all at once, and the exit code is 2."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli.main import address_fault
from harness.device import why_no_gpu
from tests.harness.cli.conftest import invoke
from tests.told import told

MISTAKES = told(__file__, "mistakes.yaml")


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case["command"])
def test_mistakes_exit_2_with_one_line_each(
    case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every mistake of the command line and the YAML is its own line on stderr."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    Path("broken.py").write_text("1 / 0")
    Path("empty.py").touch()
    result = invoke(*shlex.split(case["command"]))
    assert (result.exit_code, result.stdout) == (2, "")
    found = result.stderr.splitlines()
    assert len(found) == len(case["lines"]), found
    for line, start in zip(found, case["lines"], strict=True):
        assert line.startswith(start)
    assert "geheim" not in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_cannot_use_is_refused_in_torchs_words() -> None:
    """Before anything is extracted."""
    result = invoke("--space", "prompt_len", "--set", "resources.gpus=0.5")
    assert (result.exit_code, result.stdout) == (2, "")
    said = f"resources ask for a GPU, and torch cannot use a GPU here: {why_no_gpu()}"
    assert result.stderr.startswith(said) and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "10.0.0.1:20003"])
def test_addresses_that_can_be_meant(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, a cluster that Ray finds, and a cluster by name."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_fault(address) is None
