"""Imports go one way, and commands start light; looked at in a fresh interpreter."""

import json
import subprocess
import sys

import pytest


def loaded(statement: str) -> set[str]:
    """Top-level modules in sys.modules after a statement."""
    code = f"{statement}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(out.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        (
            "import ship.trial.run, ship.features.feature_set",
            {"ray", "optuna", "mlflow", "harness", "reports"},
        ),
        ("import reports.cli, reports.tables.build", {"torch", "ray", "ship", "harness"}),
        ("import harness.cli.main", {"torch", "ray", "mlflow", "optuna", "open_clip"}),
        ("import reports.cli", {"mlflow", "matplotlib", "scipy", "polars"}),
        ("import harness.study.run", {"reports"}),
        ("import harness.data.cli", {"torch", "torchvision", "numpy", "PIL", "ship"}),
    ],
)
def test_does_not_import(statement: str, banned: set[str]) -> None:
    """What a package must not know, it does not load."""
    assert not loaded(statement) & banned
