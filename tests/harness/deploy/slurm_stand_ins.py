"""Run slurm.sbatch with stand-ins for the commands that it calls."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

from harness.deploy import FILES, FOLDER
from tests.case_files import load_cases

SCRIPT = FOLDER / FILES["slurm"]
JOB = "4001"  # slurm.sbatch derives its ports from this number: they begin at 20003
STAND_INS = load_cases(__file__, "stand_ins.yaml")
COMMANDS: dict[str, str] = STAND_INS["commands"]


class Job:
    """A job that runs slurm.sbatch with stand-ins, in a separate folder.

    Attributes:
        folder: Working directory of the script.
        log: File in which stand-ins log their calls.
        environment: Environment of the script.
    """

    def __init__(self, folder: Path, names: Iterable[str] = COMMANDS, number: str = JOB) -> None:
        """Write the stand-ins without starting the script.

        Args:
            folder: Folder of the job.
            names: Commands that have a stand-in. All others are the real ones.
            number: Number of the job.
        """
        self.folder = folder
        self.log = folder / "log"
        self.log.touch()
        binaries = folder / "bin"
        binaries.mkdir()
        for name in names:
            path = binaries / name
            path.write_text(STAND_INS["head"] + COMMANDS[name])
            path.chmod(0o755)
        self.environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "LOG": str(self.log),
            "SPACE": "prompt_len",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "LISTEN": STAND_INS["listen"],
            "PYTHON": sys.executable,
            "HEAD_IP": "127.0.0.1",
            "SLURM_JOB_ID": number,
            "SLURM_JOB_NODELIST": "[one,two]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_ON_NODE": "8",
        }

    @contextmanager
    def start(
        self, *arguments: str, stdout: Any = PIPE, stderr: Any = PIPE, **more: str
    ) -> Iterator[subprocess.Popen[str]]:
        """Start the script, and kill it at the end of the context."""
        process = subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            cwd=self.folder,
            env={**self.environment, **more},
            stdout=stdout,
            stderr=stderr,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str, **more: str) -> tuple[int, str]:
        """Run the script to its end, and return its exit code and stderr."""
        with self.start(*arguments, **more) as process:
            _, err = process.communicate(timeout=60)
        return process.returncode, err

    def run_and_signal(self, number: signal.Signals, **more: str) -> tuple[int, str]:
        """Run the script, send a signal while the study runs, and return exit code and stderr."""
        with self.start(STUDY_WAITS="1", **more) as process:
            end = time.monotonic() + 60
            while "up study" not in self.read_calls():
                assert time.monotonic() < end, self.read_calls()
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        return process.returncode, err

    def read_calls(self) -> list[str]:
        """Return the logged calls, in order."""
        return self.log.read_text().splitlines()

    def list_arguments(self, name: str) -> list[list[str]]:
        """Return the arguments of each call of a command."""
        return [shlex.split(line)[1:] for line in self.read_calls() if line.startswith(f"{name} ")]
