"""PostgreSQL and `mlflow server` as processes that tests may kill and restart."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DEBIAN_FOLDER = "/usr/lib/postgresql"
# PostgreSQL refuses to run as root. The user nobody exists everywhere.
OWNERS = ("postgres", "nobody")


def find_postgres() -> Path:
    """Return the folder of initdb and postgres, or skip the test."""
    path = shutil.which("initdb")
    folders = [Path(path).resolve().parent] if path else []
    folders += sorted(Path(DEBIAN_FOLDER).glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def find_free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[Any], log: Path) -> None:
    """Wait until a server is ready; fail with the end of its log if it exits or takes too long."""
    end = time.monotonic() + 180
    while not ready():
        text = log.read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"{process.args!r} ended: {text}"
        assert time.monotonic() < end, f"{process.args!r} does not answer: {text}"
        time.sleep(0.2)


class Daemon:
    """A process group that ends with the test run, even if that is killed."""

    def __init__(self, command: list[str], log: Path, **keys: Any) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True, **keys
            )
        # The guard's input ends with this process. The alternative, prctl(PR_SET_PDEATHSIG),
        # would kill the group when the thread that started it ends.
        script = f"read _; kill -KILL -{self.process.pid}"
        self.guard = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True
        )

    def end(self, number: signal.Signals) -> None:
        """Send the group a signal, and wait for its first process."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
            self.process.wait(60)
        self.guard.kill()
        self.guard.wait()
        if self.guard.stdin is not None:
            self.guard.stdin.close()


class Postgres:
    """A PostgreSQL cluster in its own folder, on 127.0.0.1, without passwords."""

    def __init__(self) -> None:
        self.programs = find_postgres()
        self.folder = Path(tempfile.mkdtemp(prefix="ship-postgres-"))
        self.port = find_free_port()
        self.daemon: Daemon | None = None
        self.owner_prefix = self._make_owner_prefix()
        self._run("initdb", "-D", "data", "-U", "mlflow", "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()

    @property
    def uri(self) -> str:
        """Address for MLflow. Its password is not required, but no output may contain it."""
        return f"postgresql+psycopg2://mlflow:geheim@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        log = self.folder / "log"
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", "fsync=off"]
        options += ["unix_socket_directories="]
        flags = [word for option in options for word in ("-c", option)]
        command = [*self.owner_prefix, str(self.programs / "postgres"), "-D", "data", *flags]
        self.daemon = Daemon(command, log, cwd=self.folder)
        wait_until(self._answers, self.daemon.process, log)

    def stop(self) -> None:
        """Stop the server like `systemctl restart`, which closes its connections."""
        if self.daemon is not None:
            self.daemon.end(signal.SIGINT)

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        if self.daemon is not None:
            self.daemon.end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_owner_prefix(self) -> list[str]:
        """Return words that make a command run as a user who is not root."""
        if os.getuid() != 0:
            return []
        import pwd

        names = [entry.pw_name for entry in pwd.getpwall()]
        owner = pwd.getpwnam(next(name for name in OWNERS if name in names))
        os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, "--"]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.owner_prefix, str(self.programs / program), *arguments]
        result = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self.uri.replace("+psycopg2", "")).close()
        except psycopg2.OperationalError:
            return False
        return True


class MlflowServer:
    """`mlflow server` in front of a database, on 127.0.0.1."""

    def __init__(
        self, database: str, folder: Path, files: str = "", allowed_hosts: str = ""
    ) -> None:
        """Start the server.

        Args:
            database: URI of its database.
            folder: Folder for its log.
            files: Folder for the files of runs. Defaults to one in `folder`.
            allowed_hosts: Host names that the server accepts. Defaults to those of MLflow.
        """
        self.database, self.allowed_hosts = database, allowed_hosts
        self.folder = folder
        self.files = files or str(folder / "artifacts")
        self.port = find_free_port()
        self.mark = uuid.uuid4().hex
        self.daemon: Daemon | None = None
        self.start()

    @property
    def uri(self) -> str:
        """Address with a user and a password. The server ignores both; no output may show them."""
        return f"http://me:geheim@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        log = self.folder / "log"
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", self.database]
        command += ["--artifacts-destination", self.files]
        command += ["--allowed-hosts", self.allowed_hosts] if self.allowed_hosts else []
        settings = {"SHIP_TEST_SERVER": self.mark, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.daemon = Daemon(command, log, env={**os.environ, **settings})
        wait_until(self._answers, self.daemon.process, log)

    def kill(self) -> None:
        """Kill the server and its workers with SIGKILL."""
        if self.daemon is not None:
            self.daemon.end(signal.SIGKILL)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except OSError:
            return False
