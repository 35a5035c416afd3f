"""slurm.sbatch with a real Ray and study, or a real PostgreSQL, and stand-ins for Slurm."""

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
from tests.harness.listening import command, descendants
from tests.harness.servers import postgres_programs

SMALL = ["dataset=image_folder:few", "seeds=2", "shots=2", "generator.epochs=2"]
SMALL += ["finetuner.epochs=2", "space.generator.n_ctx.choices=[1, 2, 4]", "controls=false"]


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
    store = open_existing_store(f"sqlite:///{folder}/mlflow.db")
    experiment = store.find_experiment("prompt_len") if store else None
    if store is None or experiment is None:
        return []
    runs = store.client.search_runs([experiment])
    return [r.data.tags["ship.state"] for r in runs if r.data.tags["ship.kind"] == "trial"]


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_a_study_continues_in_the_requeued_job(job: Job, tmp_path: Path) -> None:
    """The time limit stops the study in order, the next job runs the rest, and Ray has ended."""
    draw_images(tmp_path / "data")
    words = ["--data-root", str(tmp_path / "data")]
    words += [word for key in SMALL for word in ("--set", key)]
    out = tmp_path / "out"
    # three configurations with two seeds: Ray is told of enough cores for a trial of each seed
    with out.open("w") as file, job.started(*words, stdout=file, stderr=file) as process:
        end = time.monotonic() + 240
        while "[1/6]" not in out.read_text():
            assert process.poll() is None and time.monotonic() < end, out.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        code = process.wait(120)
    assert code == 130, out.read_text()
    assert job.named("scontrol")[-1] == ["requeue", job.environment["SLURM_JOB_ID"]]
    before = states(tmp_path)
    assert 1 <= before.count("COMPLETE") < 6 and "RUNNING" not in before
    job.environment["SLURM_RESTART_COUNT"] = "1"
    with out.open("w") as file, job.started(*words, stdout=file, stderr=file) as process:
        assert process.wait(400) == 0, out.read_text()
    assert states(tmp_path).count("COMPLETE") == 6
    assert [call[0] for call in job.named("scontrol")] == ["show", "requeue", "show"]
    assert not Path(f"/tmp/ship-ray-{os.getpid()}").exists()
    assert not list(tmp_path.glob(".ship-sweep-*"))


# In ship-sweep's place: says what the tracking server has, and adds to it.
STUDY = """
import os
from mlflow import MlflowClient
client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
known = client.search_experiments(order_by=["name"])
print(*(one.name for one in known), *(one.artifact_location for one in known[-1:]))
client.create_experiment(f"job {len(known)}")
"""


@pytest.fixture
def tracking() -> Iterator[Path]:
    """A folder that PostgreSQL's owner can reach; root's is nobody."""
    folder = Path(tempfile.mkdtemp(prefix="ship-tracking-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def put_real(job: Job, programs: Path) -> None:
    """PostgreSQL's own programs, which root must not run: as nobody, in folders of nobody's."""
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
def test_a_jobs_own_tracking_server_keeps_its_results(tmp_path: Path, tracking: Path) -> None:
    """A real PostgreSQL and a real mlflow server serve two jobs, and no process is left."""
    programs = postgres_programs()
    names = set(COMMANDS) - {"initdb", "postgres", "pg_isready", "mlflow"}
    job = Job(tmp_path, names=sorted(names), number=str(os.getpid()))
    put_real(job, programs)
    del job.environment["MLFLOW_TRACKING_URI"]
    study = job.folder / "bin" / "ship-sweep"
    study.write_text(f"#!{sys.executable}\n{STUDY}")
    job.environment["PATH"] = f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    outputs = []
    for _ in range(2):
        job.log.write_text("")
        with job.started(TRACKING=str(tracking)) as process:
            out, err = process.communicate(timeout=280)
        assert process.returncode == 0, (err, *(log.read_text() for log in tracking.glob("*.log")))
        outputs.append(out.split())
    assert outputs == [
        ["Default", "mlflow-artifacts:/0"],
        ["Default", "job", "1", f"mlflow-artifacts:/{1}"],
    ]
    assert not Path(f"/tmp/ship-sql-{os.getpid()}").exists()
    left = [command(pid) for pid in descendants(os.getpid())[1:]]
    assert not [line for line in left if "mlflow" in line or "postgres" in line]
