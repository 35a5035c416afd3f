"""A study with Ray whose trials share one emulated GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from polars import selectors
from polars.testing import assert_frame_equal

from reports.study.load import load_records
from tests.emulated import explain_absence
from tests.emulated.execution import NAME
from tests.gpu.conftest import CLASSES, PHOTOS
from tests.gpu.test_studies import ACCURACIES, CONTINUOUS
from tests.harness.same_table import select_comparable_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(explain_absence() is not None, reason=str(explain_absence()))
def test_two_trials_share_an_emulated_gpu(tmp_path: Path) -> None:
    """Each one has half of the GPU and its own process, and the table equals the CPU's."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.emulated.shared_gpu", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-2000:]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tables = [select_comparable_rows(load_records(name, uri)) for name in ("plain", "shared")]
    assert [table.height for table in tables] == [4, 4]  # two configurations with two seeds
    trials = [line.split() for line in (tmp_path / "processes").read_text().splitlines()]
    assert len({pid for pid, *_ in trials}) == len(trials) == 2
    assert all(device == NAME and int(launches) > 1000 for _, device, launches in trials)
    one_image = 100 / (CLASSES / 2 * PHOTOS["test"])
    accuracies = [table.select(selectors.matches(ACCURACIES)) for table in tables]
    assert_frame_equal(*accuracies, abs_tol=one_image, rel_tol=0)
    continuous = [table.select(selectors.matches(CONTINUOUS)) for table in tables]
    assert_frame_equal(*continuous, abs_tol=0, rel_tol=1e-3)
