"""A real tracking server that cannot keep files: it answers 500 to them, and takes all else."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.servers import MlflowServer


@pytest.mark.faults
def test_a_study_goes_on_without_its_files(
    empty_store: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No write waits behind a file, each run is complete, and the user is told why."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    no_folder = tmp_path / "file"
    no_folder.touch()
    server = MlflowServer(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, str(no_folder / "inside"))
    try:
        bench = Bench(server.uri, tmp_path / "log", tmp_path / "cache")
        with caplog.at_level(logging.WARNING):
            assert bench.run(make_study()).complete
        bench.check_invariants()
        client = bench.store().client
        assert all(run.data.tags["ship.state"] == "COMPLETE" for run in bench.trials())
        assert not any(client.list_artifacts(run.info.run_id) for run in bench.trials())
    finally:
        server.kill()
    assert "hits.parquet could not be kept in MLflow: it answers 500" in caplog.text
    told = "".join(capfd.readouterr())
    assert "geheim" not in caplog.text + told and "View run" not in told
    queue = tmp_path / "cache" / "outbox" / "queue.sqlite3"
    assert not queue.exists()
