"""Helpers that run ship-sweep in the tests' process, in an empty working directory."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import harness.study
import reports.cli
from harness.cli import main as cli
from harness.study.run import StudyOutcome

URI = "sqlite:////some where's $(x)/mlflow.db"


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def invoke(*args: str, **keys: Any) -> Any:
    """Run ship-sweep in this process and return its result."""
    return CliRunner().invoke(cli.app, list(args), **keys)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace run_study and prepare_report, and return a mapping that records their calls.

    Keys that a test may set:
        outcome: Counts of the study's outcome.
        publishes: Whether run_study publishes a report.

    Keys that the calls set:
        study, options: Arguments of run_study.
        published: The published report, or None.
        reports: Arguments of each call of prepare_report.
    """
    recorded: dict[str, Any] = {"outcome": {"done": 5}, "publishes": False, "reports": []}

    def run_study(study: Any, publish: Any, **options: Any) -> StudyOutcome:
        counts = {"done": 0, "failed": 0, "pruned": 0, "missing": 0, **recorded["outcome"]}
        outcome = StudyOutcome(**counts, experiment=study.name, tracking_uri=URI)
        recorded.update(study=study, options=options)
        recorded["published"] = publish(outcome) if recorded["publishes"] else None
        print("progress")
        return outcome

    def prepare_report(*args: str) -> Any:
        recorded["reports"].append(args)
        name = f"report {len(recorded['reports'])}"

        def show(out: object) -> None:
            print(f"{name} in {out}")

        return SimpleNamespace(publication="publication", show=show)

    monkeypatch.setattr(harness.study, "run_study", run_study)
    monkeypatch.setattr(reports.cli, "prepare_report", prepare_report)
    return recorded
