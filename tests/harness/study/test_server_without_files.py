"""A real tracking server that cannot keep files: it answers 500 to them, and takes all else."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.conftest import Bench
from tests.harness.fakes import make_study


@pytest.mark.faults
def test_a_study_goes_on_without_its_files(
    served: Callable[[Path], Bench],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No write waits behind a file, each run is complete, and the user is told why."""
    (tmp_path / "file").touch()
    bench = served(tmp_path / "file" / "inside")
    with caplog.at_level(logging.WARNING):
        assert bench.run(make_study()).complete
    bench.check_invariants()
    client = bench.store().client
    assert bench.states() == ["COMPLETE"] * 3
    assert not any(client.list_artifacts(run.info.run_id) for run in bench.trials())
    assert "hits.parquet could not be kept in MLflow: it answers 500" in caplog.text
    told = "".join(capfd.readouterr())
    assert "geheim" not in caplog.text + told and "View run" not in told
    assert not (bench.cache / "outbox" / "queue.sqlite3").exists()
