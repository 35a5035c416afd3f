"""Stand-ins for the commands that slurm.sbatch calls: they log, and do what a test asks for."""

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

SCRIPT = FOLDER / FILES["slurm"]
JOB = "4001"  # its ports begin at 20003
LOG = 'printf "%s\\n" "${0##*/} ${*@Q}" >>"$LOG"\n'
# A command that goes on until SIGTERM; `wait` lets bash see the signal at once.
UNTIL_TERM = (
    'trap "kill \\$!; echo stopped {0} >>$LOG; exit {1}" TERM\n'
    'sleep 60 >/dev/null 2>&1 &\necho "up {0}" >>"$LOG"\nwait "$!"\n'
)

# Listens on a socket of the name, or on a port of the number, until it is signalled.
LISTEN = """
import os, signal, socket, sys
at = sys.argv[1]
found = socket.socket(socket.AF_INET if at.isdigit() else socket.AF_UNIX)
found.bind(("127.0.0.1", int(at)) if at.isdigit() else at)
found.listen()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
done = signal.sigwait({signal.SIGINT, signal.SIGTERM})
with open(os.environ["LOG"], "a") as log:
    print("stopped", "server" if at.isdigit() else "database", done.name, file=log)
"""

COMMANDS = {
    # exec, so that whoever ends srun ends what it runs
    "srun": LOG
    + "while [[ $1 == --* ]]; do shift; done\n[[ $1 == rm ]] || export SLURM_CPUS_ON_NODE=8\n"
    + 'exec "$@"\n',
    "scontrol": LOG + '[[ $1 != show ]] || printf "%s\\n" one two\n',
    "nvidia-cuda-mps-control": LOG + 'echo "$CUDA_MPS_PIPE_DIRECTORY" >>"$LOG.mps"\n',
    "initdb": LOG + 'data=${1#*=}; mkdir "$data"; echo 15 >"$data/PG_VERSION"\n',
    "pg_isready": LOG + "[[ -S ${1#*=}/.s.PGSQL.5432 ]]\n",
    "postgres": LOG
    + "[[ -z ${DATABASE_FAILS:-} && -f $2/PG_VERSION ]] || exit 1\n"
    + f'exec {sys.executable} - "${{6#*=}}/.s.PGSQL.5432" <<<"$LISTEN"\n',
    "mlflow": LOG + f'exec {sys.executable} - "$5" <<<"$LISTEN"\n',
    "hostname": 'echo "127.0.1.1 ::1"\n',
    "ray": LOG
    + 'echo "$RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH") '
    + '$(stat -c %a "${RAY_AUTH_TOKEN_PATH%/*}") '
    + '$(<"$RAY_AUTH_TOKEN_PATH") ${RAY_AUTH_TOKEN-}" >>"$LOG.token"\n'
    + UNTIL_TERM.format("ray", "0"),
    "python3": LOG
    + 'until (($(grep -c "^up ray" "$LOG") >= $4)); do sleep 0.02; done\n'
    + 'exit "${NODES_CODE:-0}"\n',
    "ship-sweep": LOG
    + 'printf "%s\\0" "$@" >"$LOG.arguments"\necho "$MLFLOW_TRACKING_URI" >"$LOG.uri"\n'
    + '[[ -n ${STUDY_WAITS:-} ]] || exit "${STUDY_CODE:-0}"\n'
    + UNTIL_TERM.format("study", "${STUDY_CODE:-130}"),
}


class Job:
    """One run of slurm.sbatch among the stand-ins, in a folder of its own.

    names: of the commands that are stood in for; the others are the real ones.
    number: of the job.
    """

    def __init__(self, folder: Path, names: Iterable[str] = COMMANDS, number: str = JOB) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.log.touch()
        binaries = folder / "bin"
        binaries.mkdir()
        for name in names:
            path = binaries / name
            path.write_text(f"#!/usr/bin/env bash\n{COMMANDS[name]}")
            path.chmod(0o755)
        self.environment = {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "LOG": str(self.log),
            "SPACE": "prompt_len",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "LISTEN": LISTEN,
            "HEAD_IP": "127.0.0.1",
            "SLURM_JOB_ID": number,
            "SLURM_JOB_NODELIST": "[one,two]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_ON_NODE": "8",
        }

    @contextmanager
    def started(
        self, *arguments: str, stdout: Any = PIPE, stderr: Any = PIPE, **more: str
    ) -> Iterator[subprocess.Popen[str]]:
        """The script as a process."""
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
        """(exit code, stderr) of a run that nobody disturbs."""
        with self.started(*arguments, **more) as process:
            _, err = process.communicate(timeout=60)
        return process.returncode, err

    def signalled(self, number: signal.Signals, **more: str) -> tuple[int, str]:
        """(exit code, stderr) of a run that gets a signal while the study runs."""
        with self.started(STUDY_WAITS="1", **more) as process:
            end = time.monotonic() + 60
            while "up study" not in self.calls():
                assert time.monotonic() < end, self.calls()
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        return process.returncode, err

    def calls(self) -> list[str]:
        """What was called, in order."""
        return self.log.read_text().splitlines()

    def named(self, name: str) -> list[list[str]]:
        """The arguments of each call of a command."""
        return [shlex.split(line)[1:] for line in self.calls() if line.startswith(f"{name} ")]
