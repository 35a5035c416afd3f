"""slurm.sbatch with a real Ray and a real study; only Slurm's commands are stand-ins."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from harness.store.open import open_store
from tests.harness.deploy.slurm_stand_ins import Job

SMALL = ["seeds=2", "max_classes=10", "generator.epochs=2", "finetuner.epochs=2", "fuse=off"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of two "nodes" of one core, both of them this machine."""
    job = Job(tmp_path, names=("srun", "scontrol"), number=str(os.getpid()))
    del job.environment["HEAD_IP"]
    job.environment |= {
        "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SHIP_SWEEP_CACHE": str(tmp_path / "cache"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "SLURM_MEM_PER_NODE": "1000",
        "NODE_CPUS": "1",
    }
    return job


def states(folder: Path) -> list[str]:
    """Of the study's trials as MLflow has them."""
    store = open_store(f"sqlite:///{folder}/mlflow.db", folder, create=False)
    found = store.experiment("prompt_len") if store else None
    if store is None or found is None:
        return []
    runs = store.client.search_runs([found])
    return [r.data.tags["ship.state"] for r in runs if r.data.tags["ship.kind"] == "trial"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_over_two_jobs(job: Job, tmp_path: Path) -> None:
    """The time limit stops a study in order; the requeued job runs the rest, and Ray is gone."""
    sets = [word for key in SMALL for word in ("--set", key)]
    out = tmp_path / "out"
    with out.open("w") as file, job.started(*sets, stdout=file, stderr=file) as process:
        end = time.monotonic() + 240
        while "[2/9]" not in out.read_text():
            assert process.poll() is None and time.monotonic() < end, out.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        code = process.wait(120)
    assert code == 130, out.read_text()
    assert job.named("scontrol")[-1] == ["requeue", job.environment["SLURM_JOB_ID"]]
    before = states(tmp_path)
    assert 2 <= before.count("COMPLETE") < 9 and "RUNNING" not in before
    job.environment["SLURM_RESTART_COUNT"] = "1"
    with out.open("w") as file, job.started(*sets, stdout=file, stderr=file) as process:
        assert process.wait(400) == 0, out.read_text()
    assert states(tmp_path).count("COMPLETE") == 9
    assert [call[0] for call in job.named("scontrol")] == ["show", "requeue", "show"]
    assert not Path(f"/tmp/ship-ray-{os.getpid()}").exists()
    assert not list(tmp_path.glob(".ship-sweep-*"))
