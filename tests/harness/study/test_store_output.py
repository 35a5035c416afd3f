"""MLflow prints nothing during a study, which waits for a server that cannot store files."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store import CORRECT_FILE, SEEDS_CSV
from harness.store.errors import StoreUnavailable
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.study.drivers import IN_PROCESS, Driver


@pytest.mark.faults
def test_study_waits_for_server_that_cannot_store_files(
    start_server: Callable[[Path], Bench], tmp_path: Path
) -> None:
    """No run is COMPLETE without its files. Once the folder is fixed, a rerun is complete."""
    (tmp_path / "file").touch()
    bench = start_server(tmp_path / "file" / "inside")
    with pytest.raises(StoreUnavailable, match="too many 500 error"):
        bench.run(make_study(), store_timeout=2.0)
    assert "COMPLETE" not in bench.list_states()
    (tmp_path / "file").unlink()
    assert bench.run(make_study()).complete
    bench.check_invariants()
    assert len(bench.list_started()) == 6
    client = bench.open_store().client
    complete = [run for run in bench.list_trials() if run.info.status == "FINISHED"]
    files = [[file.path for file in client.list_artifacts(run.info.run_id)] for run in complete]
    assert files == [[CORRECT_FILE, SEEDS_CSV]] * 3


# Lines that a study prints itself.
STUDY_LINE = re.compile(
    r"features: .*|start     n_ctx=.*|\[\d/4\] complete  n_ctx=.*|StudyOutcome\(.*|"
)


def list_other_lines(bench: Bench) -> list[str]:
    """Run a study with a report, and return the printed lines that are not the study's own."""
    code, output = Driver(bench, 0.0, fault={**IN_PROCESS, "publish": True}).end(240)
    assert code == 0, output
    assert "[4/4] complete" in output
    assert bench.get_study_run().data.metrics["headline/best/harmonic_mean"] > 0
    return [line for line in output.splitlines() if not STUDY_LINE.fullmatch(line)]


@pytest.mark.slow
def test_creating_a_store_prints_nothing(tmp_path: Path) -> None:
    """By default, Alembic logs about a hundred migrations."""
    bench = Bench(f"sqlite:///{tmp_path}/new.db", tmp_path / "log", tmp_path / "cache")
    assert list_other_lines(bench) == []


@pytest.mark.slow
def test_tracking_server_prints_nothing(
    start_server: Callable[[Path], Bench], tmp_path: Path
) -> None:
    """By default, MLflow's client prints the address of each run, and progress bars."""
    assert list_other_lines(start_server(tmp_path / "files")) == []
