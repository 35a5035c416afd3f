"""The store does not answer for some time during a study."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from mlflow.tracking import MlflowClient
from rich.console import Console

from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.store.errors import StoreUnavailable
from tests.harness.conftest import Bench
from tests.harness.fakes import make_sleeping_behavior, make_study
from tests.harness.same_table import assert_same_table

pytestmark = pytest.mark.faults  # each test waits for seconds, like a driver

RunUndisturbed = Callable[[StudyConfig], str]
REQUESTS = (
    "create_run",
    "delete_experiment_tag",
    "get_experiment",
    "get_run",
    "log_artifact",
    "log_batch",
    "log_inputs",
    "search_runs",
    "set_experiment_tag",
    "set_terminated",
    "update_run",
)


class Outage:
    """An outage of the store, which begins at the n-th call of a method of MLflow's client."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, method: str, call: int, seconds: float
    ) -> None:
        self.method, self.seconds = method, seconds
        self.n_calls_left = call  # until the outage begins
        self.began = threading.Event()
        for name in REQUESTS:
            patched = self._patched(name, getattr(MlflowClient, name))
            monkeypatch.setattr(MlflowClient, name, patched)

    def _patched(self, name: str, original: Any) -> Any:
        def request(*args: Any, **keys: Any) -> Any:
            if name == self.method:
                self.n_calls_left -= 1
                if self.n_calls_left == 0:
                    self.end = time.monotonic() + self.seconds
                    self.began.set()
            if self.began.is_set() and time.monotonic() < self.end:
                raise requests.ConnectionError("[Errno 111] Connection refused")
            return original(*args, **keys)

        return request


@pytest.mark.parametrize("on_ray", [False, True], ids=["in process", "on ray"])
def test_study_waits_for_a_store_outage(
    request: pytest.FixtureRequest,
    run_undisturbed: RunUndisturbed,
    monkeypatch: pytest.MonkeyPatch,
    on_ray: bool,
) -> None:
    """The table is the same, no seed runs twice, and no trial times out."""
    bench: Bench = request.getfixturevalue("ray_bench" if on_ray else "bench")
    study, console = make_study(), Console(file=io.StringIO(), width=300)
    bench.behave = make_sleeping_behavior(0.3)
    Outage(monkeypatch, "create_run", 3, 5.0)  # of the second trial
    limited = study.model_copy(update={"trial_timeout": 4.0})
    assert bench.run(limited, console=console).complete
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert output.count("does not answer (Connection refused): retrying for up to 30.0 min") == 1
    assert output.count("the MLflow store answers again") == 1
    assert len(bench.list_started()) == 6
    assert bench.list_states() == ["COMPLETE"] * 3
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(study))


@pytest.mark.parametrize(
    ("method", "call", "on_ray"),
    [
        # The study's run has two files and each trial's run two, so the second trial has finished.
        pytest.param("log_artifact", 5, False, id="finished"),
        pytest.param("log_artifact", 5, True, id="finished on Ray"),
        # All numbers of the second trial are written.
        pytest.param("set_terminated", 2, False, id="written"),
    ],
)
def test_study_ends_after_the_store_timeout(
    request: pytest.FixtureRequest,
    run_undisturbed: RunUndisturbed,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: int,
    on_ray: bool,
) -> None:
    """The next run records finished trials without training them again."""
    bench: Bench = request.getfixturevalue("ray_bench" if on_ray else "bench")
    study, console = make_study(), Console(file=io.StringIO(), width=300)
    with monkeypatch.context() as patch:
        Outage(patch, method, call, 600.0)
        with pytest.raises(StoreUnavailable, match="Run the same command to resume"):
            bench.run(study, store_timeout=1.0, console=console)
    assert isinstance(console.file, io.StringIO)
    # Trials are shown once they are recorded.
    assert console.file.getvalue().count("/3] complete") == 1
    assert bench.list_states().count("COMPLETE") == (1 if method != "set_terminated" else 2)
    assert "RUNNING" in {run.info.status for run in bench.list_runs()}
    assert bench.run(study).complete
    assert len(bench.list_started()) == 6  # each seed was trained once
    bench.check_invariants()
    assert_same_table(bench.uri, run_undisturbed(study))
    assert not list(bench.cache.rglob("*.safetensors"))


def test_interrupt_ends_the_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study ends within seconds, and the next run completes it."""
    with monkeypatch.context() as patch:
        outage = Outage(patch, "log_artifact", 5, 600.0)

        def interrupt() -> None:
            outage.began.wait(60)
            time.sleep(1.0)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            bench.run(make_study())
        assert time.monotonic() - began < 30
        thread.join()
    assert bench.run(make_study()).complete
    assert len(bench.list_started()) == 6
    bench.check_invariants()


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_invalid_store_timeout_is_refused(bench: Bench, timeout: float) -> None:
    """The error is raised before the store is opened."""
    with pytest.raises(ConfigError, match=r"\(--store-timeout\) must be >= 0, got (-1|nan)"):
        bench.run(make_study(), store_timeout=timeout)
