"""The network link between two hosts of a Ray cluster is cut. The hosts are network namespaces."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from tests.harness.conftest import Bench
from tests.harness.driver import make_driver_study
from tests.harness.processes import find_marked_processes, get_command_line
from tests.harness.same_table import assert_same_table
from tests.harness.study.drivers import ROOT, wait_for

HEAD, WORKER = "10.99.0.1", "10.99.0.2"
PORT = 26379
CUT_SECONDS = 5
SIX_CONFIGURATIONS: dict[str, Any] = {"space": {"generator.n_ctx": [1, 2, 3, 4, 6, 8]}}
REASONS = re.compile("its node was lost|the connection to its worker was lost")
# With these health checks, Ray regards the node as lost during the cut. With Ray's defaults, the
# node stays in the cluster, and a connection to it may or may not break.
FREQUENT_CHECKS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
pytestmark = pytest.mark.weekly


def run_ip(*words: str, check: bool = True) -> bool:
    """Run the command `ip`, and return True if it succeeded."""
    result = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert not check or result.returncode == 0, f"ip {' '.join(words)}: {result.stderr}"
    return result.returncode == 0


@dataclass
class Hosts:
    """Two hosts with a cable between them.

    Attributes:
        folder: Folder of logs.
        ray_folder: Folder of Ray's sockets, with a short path.
        health_checks: Environment variables with Ray's health checks.
        tag: Part of the hosts' names, and mark of their processes.
        processes: Processes that were started on the hosts.
    """

    folder: Path
    ray_folder: Path
    health_checks: dict[str, str]
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, str]:
        """Names of the namespaces and of the cable's ends. Ray's head node is on the first."""
        return f"ship-{self.tag}a", f"ship-{self.tag}b"

    def connect(self) -> None:
        """Create the hosts and the cable, or skip the test if this user is not allowed to."""
        a, b = self.names
        if not shutil.which("ip") or not run_ip("netns", "add", a, check=False):
            pytest.skip("this user may not create network namespaces")
        run_ip("netns", "del", a)
        for name in self.names:
            run_ip("netns", "add", name)
            run_ip("-n", name, "link", "set", "lo", "up")
        run_ip("link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b)
        for name, address in zip(self.names, (HEAD, WORKER), strict=True):
            run_ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            run_ip("-n", name, "link", "set", name, "up")

    def start(self, host: int, *words: str) -> subprocess.Popen[bytes]:
        """Start a command on a host."""
        quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        variables = {"SHIP_TEST_MARK": self.tag, "PYTHONPATH": str(ROOT)}
        log = (self.folder / f"host-{host}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *words],
            cwd=ROOT,
            env={**os.environ, **quiet, **self.health_checks, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def start_node(self, host: int, *arguments: str) -> None:
        """Start a node of the cluster with one CPU on a host."""
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        node = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats",
                f"--temp-dir={self.ray_folder}"]  # fmt: skip
        self.start(host, *ray, *node, *arguments)

    def is_training(self, host: int) -> bool:
        """Return True if a trial is running on a host. Ray names workers after their task."""
        command = ["ip", "netns", "pids", self.names[host]]
        pids = subprocess.run(command, capture_output=True, text=True).stdout.split()
        return any("ShipTrial.train" in get_command_line(int(pid)) for pid in pids)

    def set_link(self, state: str) -> None:
        """Connect (up) or disconnect (down) the cable."""
        run_ip("-n", self.names[0], "link", "set", self.names[0], state)

    def close(self) -> None:
        """End all processes, the head last, and remove the hosts."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for name in self.names:
            run_ip("netns", "del", name, check=False)


@pytest.fixture(params=[{}, FREQUENT_CHECKS], ids=["node is kept", "node is lost"])
def hosts(tmp_path: Path, ray_folder: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Start a Ray cluster on two hosts."""
    two_hosts = Hosts(tmp_path, ray_folder, request.param)
    try:
        two_hosts.connect()
        two_hosts.start_node(0, "--head", f"--port={PORT}", f"--node-ip-address={HEAD}",
                    "--include-dashboard=false")  # fmt: skip
        wait = [sys.executable, "-m", "harness.ray.wait_for_nodes", f"{HEAD}:{PORT}"]
        assert two_hosts.start(0, *wait, "1", "90").wait(timeout=120) == 0
        two_hosts.start_node(1, f"--address={HEAD}:{PORT}", f"--node-ip-address={WORKER}")
        assert two_hosts.start(0, *wait, "2", "90").wait(timeout=120) == 0
        yield two_hosts
    finally:
        two_hosts.close()


def test_study_survives_a_cut_link(
    bench: Bench, run_undisturbed: Callable[[StudyConfig], str], hosts: Hosts, tmp_path: Path
) -> None:
    """It continues on the reachable host. No configuration fails, and the table is the same."""
    fault = {"address": f"{HEAD}:{PORT}", "study": SIX_CONFIGURATIONS}
    paths = [bench.uri, str(bench.log), str(bench.cache), "2.0", json.dumps(fault)]
    driver = hosts.start(0, sys.executable, "-m", "tests.harness.driver", *paths)
    output = tmp_path / f"host-0-{len(hosts.processes) - 1}.log"
    wait_for(lambda: hosts.is_training(0) and hosts.is_training(1))
    hosts.set_link("down")
    time.sleep(CUT_SECONDS)
    if hosts.health_checks:
        wait_for(lambda: "INTERRUPTED" in bench.list_states())  # Ray regards the node as lost
    hosts.set_link("up")
    code = driver.wait(timeout=200)
    assert code == 0, output.read_text()
    assert "FAIL" not in bench.list_states()
    assert bench.list_states().count("COMPLETE") == 6
    reasons = {run.data.tags["ship.reason"] for run in bench.list_trials()
               if run.data.tags["ship.state"] == "INTERRUPTED"}  # fmt: skip
    assert all(REASONS.match(reason) for reason in reasons), reasons
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study(**SIX_CONFIGURATIONS)))
    hosts.close()
    wait_for(lambda: not find_marked_processes(hosts.tag), 90)
