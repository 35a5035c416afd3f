"""`ship-sweep --path` as a batch system runs it: packaged weights, no terminal, no home."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import run_study
from reports import load_study
from tests.harness.fakes import draw_pictures
from tests.harness.study.drivers import ROOT

STUDY = str(Path(__file__).parent / "two_factors.yaml")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_ends_with_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal tells each round and shows the path; Python's call then finds nothing to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SHIP_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", "/proc/nowhere")  # where nobody, root included, can write
    draw_pictures(tmp_path / "data")
    sweep = [sys.executable, "-m", "harness.cli.main", "--data-root", str(tmp_path / "data")]
    done = subprocess.run(
        [*sweep, "--space", STUDY, "--path"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("path")]
    assert told[0] == "path: its first setting, the baseline, is missing: kl_weight=0.01, lr=0.0001"
    assert told[-1].endswith(", lr=0.01: nothing is missing, 2 steps")
    assert "path from the baseline to what selection prefers" in done.stdout
    outcome = run_study(STUDY, path=True, data_root=tmp_path / "data")
    assert outcome.complete and not outcome.ran
    study = load_study("two_factors")
    path = study.table("path")
    assert path.frame["added"].to_list() == [True, True, False]
    assert not any(note.startswith("not run") for note in path.table.notes)
    assert study.table("ranks").frame["n"].to_list() == [3, 3]
