"""What the commands say of themselves."""

import pytest
import typer
from typer.testing import CliRunner

import harness.cli.main
import harness.data.cli
import reports.cli


@pytest.mark.parametrize(
    ("app", "subcommand"),
    [
        (harness.cli.main.app, []),
        (reports.cli.app, []),
        (harness.data.cli.app, []),
        (harness.data.cli.app, ["list"]),
        (harness.data.cli.app, ["get"]),
        (harness.data.cli.app, ["check"]),
    ],
)
def test_no_option_shows_the_type_of_a_flag(app: typer.Typer, subcommand: list[str]) -> None:
    """--help takes no value, and shows none."""
    found = CliRunner().invoke(app, [*subcommand, "--help"], env={"COLUMNS": "140"})
    assert found.exit_code == 0 and "--help" in found.output
    assert "bool" not in found.output.lower()
