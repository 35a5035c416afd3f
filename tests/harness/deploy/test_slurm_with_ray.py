"""slurm.sbatch with Ray and a study, and with PostgreSQL and MLflow. Slurm has stand-ins."""

import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.store.open import open_existing_store
from tests.harness.deploy.slurm_stand_ins import COMMANDS, Job
from tests.harness.fakes import draw_images
from tests.harness.processes import get_command_line, list_descendants
from tests.harness.servers import find_postgres

SMALL = ["dataset=image_folder:few", "seeds=2", "shots=2", "generator.epochs=2"]
SMALL += ["finetuner.epochs=2", "space.generator.n_ctx.choices=[1, 2, 4]", "controls=false"]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Return a job of two nodes with one core each, both of which are this machine."""
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


def list_states(folder: Path) -> list[str]:
    """Return the states of the study's trials in MLflow."""
    store = open_existing_store(f"sqlite:///{folder}/mlflow.db")
    experiment = store.find_experiment("prompt_len") if store else None
    if store is None or experiment is None:
        return []
    runs = store.client.search_runs([experiment])
    return [r.data.tags["ship.state"] for r in runs if r.data.tags["ship.kind"] == "trial"]


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_a_study_continues_in_the_requeued_job(job: Job, tmp_path: Path) -> None:
    """The signal of the time limit interrupts the study, and the next job completes it."""
    draw_images(tmp_path / "data")
    words = ["--data-root", str(tmp_path / "data")]
    words += [word for key in SMALL for word in ("--set", key)]
    out = tmp_path / "out"
    # Three configurations with two seeds. Ray gets enough cores to run each seed in its own trial.
    with out.open("w") as file, job.start(*words, stdout=file, stderr=file) as process:
        end = time.monotonic() + 240
        while "[1/6]" not in out.read_text():
            assert process.poll() is None and time.monotonic() < end, out.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        code = process.wait(120)
    assert code == 130, out.read_text()
    assert job.list_arguments("scontrol")[-1] == ["requeue", job.environment["SLURM_JOB_ID"]]
    before = list_states(tmp_path)
    assert 1 <= before.count("COMPLETE") < 6 and "RUNNING" not in before
    job.environment["SLURM_RESTART_COUNT"] = "1"
    with out.open("w") as file, job.start(*words, stdout=file, stderr=file) as process:
        assert process.wait(400) == 0, out.read_text()
    assert list_states(tmp_path).count("COMPLETE") == 6
    assert [call[0] for call in job.list_arguments("scontrol")] == ["show", "requeue", "show"]
    assert not Path(f"/tmp/ship-ray-{os.getpid()}").exists()
    assert not list(tmp_path.glob(".ship-sweep-*"))


# Replaces ship-sweep: prints the experiments of the tracking server, and adds one.
STUDY_SCRIPT = """
import os
from mlflow import MlflowClient
client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
experiments = client.search_experiments(order_by=["name"])
print(*(experiment.name for experiment in experiments), experiments[-1].artifact_location)
client.create_experiment(f"job {len(experiments)}")
"""


@pytest.fixture
def tracking() -> Iterator[Path]:
    """Create a folder that the user who runs PostgreSQL can reach, which is nobody for root."""
    folder = Path(tempfile.mkdtemp(prefix="ship-tracking-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def install_postgres(job: Job, programs: Path) -> None:
    """Replace stand-ins by PostgreSQL's programs, which root runs as the user nobody."""
    owner = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    for name, folders in (("initdb", '"${1#*=}"'), ("postgres", '"${6#*=}"')):
        lines = ["#!/usr/bin/env bash", f'exec {programs / name} "$@"']
        if os.getuid() == 0:
            lines[1:] = [
                f"mkdir -p {folders}; chown 65534 {folders}; chmod o+x {folders}/..",
                *(['set -- "$@" --username=root'] if name == "initdb" else []),
                *(['chmod 711 "${6#*=}"'] if name == "postgres" else []),
                f'cd /; exec {shlex.join(owner)} {programs / name} "$@"',
            ]
        path = job.folder / "bin" / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o755)
    (job.folder / "bin" / "pg_isready").symlink_to(programs / "pg_isready")


@pytest.mark.weekly
@pytest.mark.timeout(600)
def test_tracking_server_of_a_job_keeps_its_results(tmp_path: Path, tracking: Path) -> None:
    """PostgreSQL and `mlflow server` run for two jobs in succession, and no process remains."""
    programs = find_postgres()
    names = set(COMMANDS) - {"initdb", "postgres", "pg_isready", "mlflow"}
    job = Job(tmp_path, names=sorted(names), number=str(os.getpid()))
    install_postgres(job, programs)
    del job.environment["MLFLOW_TRACKING_URI"]
    study = job.folder / "bin" / "ship-sweep"
    study.write_text(f"#!{sys.executable}\n{STUDY_SCRIPT}")
    job.environment["PATH"] = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    outputs = []
    for _ in range(2):
        job.log.write_text("")
        with job.start(TRACKING=str(tracking)) as process:
            out, err = process.communicate(timeout=280)
        assert process.returncode == 0, (err, *(log.read_text() for log in tracking.glob("*.log")))
        outputs.append(out.split())
    assert outputs == [
        ["Default", "mlflow-artifacts:/0"],
        ["Default", "job", "1", "mlflow-artifacts:/1"],
    ]
    assert not Path(f"/tmp/ship-sql-{os.getpid()}").exists()
    remaining = [get_command_line(pid) for pid in list_descendants(os.getpid())[1:]]
    assert not [line for line in remaining if "mlflow" in line or "postgres" in line]
