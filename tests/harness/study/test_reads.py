"""How often a command reads all runs of a study, which takes seconds for large studies."""

from pathlib import Path
from typing import Any

import pytest

import harness.store.history
from harness.cli.run import FinalReport, print_dry_run
from harness.store.runs import Run, list_runs
from reports.cli import prepare_report
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that records the experiment of each read."""
    names: list[str] = []

    def list_and_count(client: Any, experiment_id: str) -> list[Run]:
        names.append(experiment_id)
        return list_runs(client, experiment_id)

    monkeypatch.setattr(harness.store.history, "list_runs", list_and_count)
    monkeypatch.setattr("harness.store.runs.list_runs", list_and_count)
    return names


def test_command_reads_its_study_at_most_twice(
    bench: Bench, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads once if nothing is left to run, and again after trials."""
    monkeypatch.chdir(tmp_path)

    def count_reads(n_seeds: int) -> int:
        reads.clear()
        report = FinalReport()
        study = make_study(seeds=tuple(range(n_seeds)), space={"generator.n_ctx": [1, 2]})
        outcome = bench.run(study, publish=report.publication)
        report.show(outcome)
        return len(reads)

    assert [count_reads(2), count_reads(2), count_reads(3)] == [2, 1, 2]
    reads.clear()
    prepare_report("small", bench.uri)
    assert len(reads) == 1


def test_dry_run_reads_its_study_once(
    bench: Bench, reads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan and the line on detectable differences share the runs."""
    study = make_study(seeds=(0, 1, 2), space={"generator.n_ctx": [1, 2]})
    bench.run(study)
    reads.clear()
    options = {"tracking_uri": bench.uri, "cache_dir": bench.cache, "method": bench.method}
    print_dry_run(study, None, options)
    assert len(reads) == 1
    assert "seeds can detect" in capsys.readouterr().out


def test_report_of_runs_in_memory_equals_report_of_store(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are equal even if a new factor has just changed the tags of the study's own run."""
    monkeypatch.chdir(tmp_path)
    for space in (
        {"generator.n_ctx": [1, 2]},
        {"generator.n_ctx": [1, 2], "generator.ctx_init": [None]},
    ):
        report = FinalReport()
        outcome = bench.run(make_study(space=space), publish=report.publication)
        report.show(outcome)
        prepared = prepare_report("small", bench.uri, outcome.history.all_runs).report
        assert outcome.history.all_runs and prepared.study.rows.equals(
            prepare_report("small", bench.uri).report.study.rows
        )
        assert report._prepared is not None
        assert report._prepared.report.study.rows.equals(prepared.study.rows)
        assert report._prepared.report.study.factors == prepared.study.factors
