"""`ship-sweep --path` as a batch system runs it: packaged weights, no terminal, no home."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import run_study
from reports import load_study
from tests.harness.study.drivers import ROOT

STUDY = """
space:
  generator.kl_weight: {low: 1.0e-3, high: 1.0, log: true}
  finetuner.lr: {choices: [0.003, 0.03], baseline: 0.003}
sampler: random
trials: 3
dataset: photos
max_classes: 20
shots: 2
seeds: 2
reference_arms: false
generator: {name: vae, latent_dim: 8, encoder_hidden: 16, generator_hidden: 16, n_ctx: 4,
            kl_weight: 0.01, epochs: 1, batch_size: 64}
finetuner: {name: clip_adapter, epochs: 12}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_ends_with_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal tells each round and shows the path; Python's call then finds nothing to do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SHIP_SWEEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", "/proc/nowhere")  # where nobody, root included, can write
    (tmp_path / "small.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "harness.cli.main", "--space", "small.yaml", "--path"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("path")]
    assert told[0] == "path: its first setting, the baseline, is missing: kl_weight=0.01, lr=0.003"
    assert told[-1].endswith(", lr=0.03: nothing is missing, 2 steps")
    assert "path from the baseline to what selection prefers" in done.stdout
    outcome = run_study("small.yaml", path=True)
    assert outcome.complete and not outcome.ran
    study = load_study("small")
    path = study.table("path")
    assert path.frame["added"].to_list() == [True, True, False]
    assert not any(note.startswith("not run") for note in path.table.notes)
    assert study.table("ranks").frame["n"].to_list() == [3, 3]
