"""Waiting for the nodes of a cluster; missing nodes are a one-line error."""

import pytest
import ray
from ray.exceptions import AuthenticationError

from harness.config import Resources
from harness.errors import ClusterError
from harness.ray import wait_for_nodes
from harness.ray.session import ray_session


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of results of count_alive(), one per call. A negative one means no answer."""
    remaining: list[int] = []

    def count_alive(address: str) -> int:
        count = remaining.pop(0)
        if count < 0:
            raise ClusterError(f"no Ray cluster at {address}: refused")
        return count

    monkeypatch.setattr(wait_for_nodes, "count_alive", count_alive)
    monkeypatch.setattr(wait_for_nodes, "PAUSE_SECONDS", 0.0)
    return remaining


def test_wait_ends_when_all_nodes_are_alive(counts: list[int]) -> None:
    """It also waits for a head node that has not started yet."""
    counts += [-1, 1, 1, 3]
    assert wait_for_nodes.main(["head:20000", "3"]) == 0
    assert not counts


@pytest.mark.parametrize(
    ("last", "reason"),
    [(1, "1 of 3 nodes are alive"), (-1, "no Ray cluster at head:20000: refused")],
)
def test_wait_ends_after_the_timeout(
    counts: list[int], capsys: pytest.CaptureFixture[str], last: int, reason: str
) -> None:
    """The line has the number of nodes, or the reason why the head does not answer."""
    counts += [last]
    assert wait_for_nodes.main(["head:20000", "3", "-1"]) == 1
    assert capsys.readouterr().err == f"Ray at head:20000 is not ready after -1 s: {reason}\n"


def test_closed_port_is_reported_at_once() -> None:
    """Ray would try for minutes."""
    with pytest.raises(ClusterError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        wait_for_nodes.count_alive("127.0.0.1:1")


# Message of Ray 2.60 (ray._private.utils.check_version_info).
MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.52.0
    Python: 3.11.9
This process on node 10.0.0.1 was started with:
    Ray: 2.60.0
    Python: 3.11.15
"""
MISMATCH_LINE = (
    "Version mismatch: The cluster was started with: Ray: 2.52.0 Python: 3.11.9 This process on "
    "node 10.0.0.1 was started with: Ray: 2.60.0 Python: 3.11.15"
)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (AuthenticationError("Token authentication is enabled"), "Token authentication is enabled"),
        (RuntimeError(MISMATCH), MISMATCH_LINE),
    ],
)
def test_refusing_cluster_is_one_line_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    """The error is a missing token, or other versions of Ray and Python, all of which are named."""

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(wait_for_nodes, "check_resources", lambda *_: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    words = f"no Ray cluster at host:6379: {line}"
    with pytest.raises(ClusterError, match=words):
        wait_for_nodes.count_alive("host:6379")
    with (
        pytest.raises(ClusterError, match=words),
        ray_session(Resources(), "host:6379", 0, verbose=False),
    ):
        pass
