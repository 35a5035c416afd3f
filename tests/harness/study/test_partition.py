"""Two hosts as network namespaces with a raylet each, and a cut link between them."""

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
SIX: dict[str, Any] = {"space": {"generator.n_ctx": [1, 2, 3, 4, 6, 8]}}
CASES = re.compile("its node was lost|the connection to its worker was lost")
# With Ray's own patience the node is kept, and a connection to it may break or not; with less
# patience the node is given up, and goes on its own way when it comes back.
LITTLE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


pytestmark = pytest.mark.weekly


def ip(*words: str, check: bool = True) -> bool:
    """Run ip, and return whether it succeeded."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.returncode == 0


@dataclass
class Hosts:
    """Two hosts, `a` with Ray's head and `b` with another node, and a cable between them."""

    folder: Path
    ray_folder: Path
    patience: dict[str, str]
    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, str]:
        """Names of the namespaces, and of the ends of the cable in them."""
        return f"ship-{self.tag}a", f"ship-{self.tag}b"

    def connect(self) -> None:
        """Create the hosts and the cable, or skip the test if this user may not."""
        a, b = self.names
        if not shutil.which("ip") or not ip("netns", "add", a, check=False):
            pytest.skip("may not make network namespaces")
        ip("netns", "del", a)
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", a, "netns", a, "type", "veth", "peer", "name", b, "netns", b)
        for name, address in zip(self.names, (HEAD, WORKER), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")

    def start(self, place: int, *words: str) -> subprocess.Popen[bytes]:
        """Start a command on a host."""
        quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        variables = {"SHIP_TEST_MARK": self.tag, "PYTHONPATH": str(ROOT)}
        log = (self.folder / f"host-{place}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.names[place], *words],
            cwd=ROOT,
            env={**os.environ, **quiet, **self.patience, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def raylet(self, place: int, *arguments: str) -> None:
        """Start a node with one CPU."""
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        node = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats",
                f"--temp-dir={self.ray_folder}"]  # fmt: skip
        self.start(place, *ray, *node, *arguments)

    def trains(self, place: int) -> bool:
        """Return True if a trial is running on a host: Ray names workers after their task."""
        inside = ["ip", "netns", "pids", self.names[place]]
        pids = subprocess.run(inside, capture_output=True, text=True).stdout.split()
        return any("ShipTrial.train" in get_command_line(int(pid)) for pid in pids)

    def link(self, state: str) -> None:
        """Connect (up) or disconnect (down) the cable."""
        ip("-n", self.names[0], "link", "set", self.names[0], state)

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
            ip("netns", "del", name, check=False)


@pytest.fixture(params=[{}, LITTLE], ids=["is kept", "is given up"])
def hosts(tmp_path: Path, ray_folder: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Start a Ray cluster on two hosts."""
    two_hosts = Hosts(tmp_path, ray_folder, request.param)
    try:
        two_hosts.connect()
        two_hosts.raylet(0, "--head", f"--port={PORT}", f"--node-ip-address={HEAD}",
                    "--include-dashboard=false")  # fmt: skip
        waiting = [sys.executable, "-m", "harness.ray.wait_for_nodes", f"{HEAD}:{PORT}"]
        assert two_hosts.start(0, *waiting, "1", "90").wait(timeout=120) == 0
        two_hosts.raylet(1, f"--address={HEAD}:{PORT}", f"--node-ip-address={WORKER}")
        assert two_hosts.start(0, *waiting, "2", "90").wait(timeout=120) == 0
        yield two_hosts
    finally:
        two_hosts.close()


def test_study_survives_a_cut_link(
    bench: Bench, run_undisturbed: Callable[[StudyConfig], str], hosts: Hosts, tmp_path: Path
) -> None:
    """It continues on the reachable host; no configuration fails, and the table is the same."""
    fault = {"address": f"{HEAD}:{PORT}", "study": SIX}
    paths = [bench.uri, str(bench.log), str(bench.cache), "2.0", json.dumps(fault)]
    driver = hosts.start(0, sys.executable, "-m", "tests.harness.driver", *paths)
    output = tmp_path / f"host-0-{len(hosts.processes) - 1}.log"
    wait_for(lambda: hosts.trains(0) and hosts.trains(1))
    hosts.link("down")
    time.sleep(CUT_SECONDS)
    if hosts.patience:
        wait_for(lambda: "INTERRUPTED" in bench.list_states())  # the node has been given up
    hosts.link("up")
    code = driver.wait(timeout=200)
    assert code == 0, output.read_text()
    assert "FAIL" not in bench.list_states()
    assert bench.list_states().count("COMPLETE") == 6
    reasons = {run.data.tags["ship.reason"] for run in bench.list_trials()
               if run.data.tags["ship.state"] == "INTERRUPTED"}  # fmt: skip
    assert all(CASES.match(reason) for reason in reasons), reasons
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(make_driver_study(**SIX)))
    hosts.close()
    wait_for(lambda: not find_marked_processes(hosts.tag), 90)
