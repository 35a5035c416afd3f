"""ship-sweep in the tests' own process, in an empty folder."""

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
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def invoke(*args: str, **keys: Any) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(cli.app, list(args), **keys)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Puts a run_study in place that answers, if need be published, and counts reports."""
    seen: dict[str, Any] = {"outcome": {"done": 5}, "publishes": False, "reports": []}

    def run_study(study: Any, publish: Any, **options: Any) -> StudyOutcome:
        counts = {"done": 0, "failed": 0, "pruned": 0, "missing": 0, **seen["outcome"]}
        outcome = StudyOutcome(**counts, experiment=study.name, tracking_uri=URI)
        seen.update(study=study, options=options)
        seen["published"] = publish(outcome) if seen["publishes"] else None
        print("progress")
        return outcome

    def prepare(*of: str) -> Any:
        seen["reports"].append(of)
        name = f"report {len(seen['reports'])}"
        show = lambda out: print(f"{name} in {out}")  # noqa: E731
        return SimpleNamespace(publication="publication", show=show)

    monkeypatch.setattr(harness.study, "run_study", run_study)
    monkeypatch.setattr(reports.cli, "prepare_report", prepare)
    return seen
