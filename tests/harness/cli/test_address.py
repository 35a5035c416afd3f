"""What --address may be, and why not Ray Client."""

import pytest
from typer.testing import CliRunner

from harness.cli import main as cli
from harness.cli.address import address_fault


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "10.0.0.1:20003"])
def test_addresses_that_can_be_meant(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, a cluster that Ray finds, and a cluster by name."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_fault(address) is None


@pytest.mark.parametrize("address", ["ray://head:10001", "ray://", "auto"])
def test_ray_client_is_refused_and_the_line_says_what_to_do(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as --address or by RAY_ADDRESS, it exits with 2 before anything is started."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    result = CliRunner().invoke(cli.app, ["--space", "prompt_len", "--address", address])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("--address must not be Ray Client's")
    assert "--address auto on a node" in line and "`ray job submit`" in line and "ray://" in line
