"""What a study says of MLflow: nothing, but of a server that does not keep its files."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.store import CORRECT_FILE, SEED_TABLE
from harness.store.errors import StoreAway
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.study.drivers import HERE, Driver


@pytest.mark.faults
def test_a_server_that_keeps_no_files_is_waited_for(
    served: Callable[[Path], Bench], tmp_path: Path
) -> None:
    """No run is complete without its files. With the folder mended, the same command resumes."""
    (tmp_path / "file").touch()
    bench = served(tmp_path / "file" / "inside")
    with pytest.raises(StoreAway, match="too many 500 error"):
        bench.run(make_study(), store_timeout=2.0)
    assert "COMPLETE" not in bench.states()
    (tmp_path / "file").unlink()
    assert bench.run(make_study()).complete
    bench.check_invariants()
    assert len(bench.lines()) == 6
    client = bench.store().client
    complete = [run for run in bench.trials() if run.info.status == "FINISHED"]
    files = [[file.path for file in client.list_artifacts(run.info.run_id)] for run in complete]
    assert files == [[CORRECT_FILE, SEED_TABLE]] * 3


# What a study of the driver prints.
OWN = re.compile(r"features: .*|start     n_ctx=.*|\[\d/4\] complete  n_ctx=.*|StudyOutcome\(.*|")


def strange_lines(bench: Bench) -> list[str]:
    """What a study and its report print on both streams, that is not the study's own."""
    code, output = Driver(bench, 0.0, fault={**HERE, "publish": True}).end(240)
    assert code == 0, output
    assert "[4/4] complete" in output
    assert bench.parent().data.metrics["headline/best/harmonic_mean"] > 0
    return [line for line in output.splitlines() if not OWN.fullmatch(line)]


@pytest.mark.slow
def test_a_store_that_is_made_on_the_way_is_quiet(tmp_path: Path) -> None:
    """Alembic makes some hundred tables then, and would tell of each migration."""
    bench = Bench(f"sqlite:///{tmp_path}/new.db", tmp_path / "log", tmp_path / "cache")
    assert strange_lines(bench) == []


@pytest.mark.slow
def test_a_server_is_quiet(served: Callable[[Path], Bench], tmp_path: Path) -> None:
    """Its client would print the address of each run that ends, and bars for files."""
    assert strange_lines(served(tmp_path / "files")) == []
