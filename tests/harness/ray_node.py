"""Nodes of a Ray cluster on this machine, each started by `ray start` as on a separate host."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness.ray.patches import MODE
from tests.harness.servers import Daemon

START = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
START += ["--num-gpus=0", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]


class Node:
    """A node with one CPU.

    Ray's token is in the home of the node's user. Drivers on the node have no RAY_AUTH_MODE.

    Attributes:
        home: Home of the node's user, its working directory, and the folder of Ray's sockets.
        environment: Environment of processes on the node.
    """

    def __init__(self, home: Path, token: str, **variables: str) -> None:
        """Create the home without starting anything.

        Args:
            home: Folder to create. Its path is short because it contains Ray's sockets.
            token: Token of the cluster.
            variables: Further environment variables.
        """
        self.home = home
        (home / ".ray").mkdir(parents=True)
        (home / ".ray" / "auth_token").write_text(token, "utf-8")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        folders = {"HOME": str(home), "RAY_TMPDIR": str(home)}
        self.environment = {**inherited, **folders, **variables}
        self._ray: Daemon | None = None

    def start(self, port: int, *, head: bool, n_nodes: int) -> None:
        """Start the node, and wait until the cluster has this many nodes."""
        address = f"127.0.0.1:{port}"
        head_options = ["--head", f"--port={port}", "--include-dashboard=false"]
        command = [*START, *(head_options if head else [f"--address={address}"])]
        # Ray 2.60: only in this mode, a node that is not the head sends the token of its home.
        environment = {**self.environment, **({} if head else {MODE: "token"})}
        self._ray = Daemon(command, self.home / "ray.log", env=environment, cwd=self.home)
        wait = [sys.executable, "-m", "harness.ray.wait_for_nodes", address, str(n_nodes), "120"]
        result = subprocess.run(wait, env=self.environment, capture_output=True, text=True)
        assert result.returncode == 0, (result.stderr, (self.home / "ray.log").read_text())

    def start_driver(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ship-sweep on the node, in a new process group."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness.cli.main", *arguments],
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Kill the node's Ray, if it has started."""
        if self._ray is not None:
            self._ray.end(signal.SIGKILL)
