"""What a study says of MLflow: nothing, but of files that it cannot keep."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.study.drivers import HERE, Driver


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
    assert "hits.parquet could not be kept in MLflow: too many 500 error" in caplog.text
    told = "".join(capfd.readouterr())
    assert "geheim" not in caplog.text + told and "View run" not in told
    assert not list(bench.cache.glob("outbox/*"))


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
