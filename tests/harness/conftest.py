"""Fixtures of the harness: one Ray session for all tests, and a new MLflow store for each."""

import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.config.study_config import StudyConfig
from harness.method import MethodFunctions
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan
from harness.store.history import RunHistory, read_history
from harness.store.lease import Timing
from harness.store.open import Store, open_store
from harness.study.run import StudyOutcome, run_study
from harness.study.state import plan_study
from tests.harness import fakes

RunOnCluster = Callable[[str], tuple[dict[str, Any], str]]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an sqlite file with MLflow's tables once, since that takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    open_store(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def uri(empty_store: Path, tmp_path: Path) -> str:
    """Create an empty store for the test."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def store(uri: str, tmp_path: Path) -> Store:
    """Open the test's store."""
    return open_store(uri)


@pytest.fixture
def prints(tmp_path: Path) -> Fingerprints:
    """Return fingerprints of the analytic method."""
    return Fingerprints(fakes.make_method(tmp_path / "log"), None, tmp_path / "cache")


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Create a folder for a cluster. Its path is short because it contains Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ship-ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run_on_cluster(tmp_path: Path, ray_folder: Path) -> RunOnCluster:
    """Return a function that runs a scenario and returns its result and all other output."""
    from harness.ray.patches import MODE, TOKEN_PATH

    def run_scenario(scenario: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, "-m", "tests.harness.cluster_driver", scenario, str(tmp_path)]
        # The cluster has its own token: some of Ray's processes require the token in the user's
        # home, but not all of them send it.
        (ray_folder / "token").write_text(secrets.token_hex(32))
        env = {**os.environ, "RAY_TMPDIR": str(ray_folder)}
        env |= {MODE: "token", TOKEN_PATH: str(ray_folder / "token")}
        for _ in range(2):
            result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)
            # On a busy machine, Ray's core may end a driver without a message if Ray's processes
            # do not answer in time. This happened once in several hundred runs of these tests.
            if result.returncode != 1 or result.stdout or result.stderr:
                break
        assert result.returncode == 0, result.stderr
        *other_lines, last = result.stdout.splitlines()
        return json.loads(last), "\n".join([*other_lines, result.stderr]).strip()

    return run_scenario


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Start a local Ray with two cores, whose workers can unpickle the analytic method."""
    import ray

    from harness.machine import set_environment, silence_loggers
    from harness.ray.patches import MODE
    from harness.ray.session import DRIVER_ENVIRONMENT

    ray.cloudpickle.register_pickle_by_value(fakes)
    with set_environment(DRIVER_ENVIRONMENT), silence_loggers("ray", "ray.tune", "ray.train"):
        # By default, Ray requires a token and sets its mode in this process's environment. If a
        # test then changed the mode, the driver would no longer send the token that its session
        # requires, and Ray's core would end the process without a message.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MODE, "disabled")
            ray.init(
                address="local",
                num_cpus=2,
                num_gpus=1,  # Ray does not check that the GPU exists
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=100 * 2**20,
            )
        yield
        ray.shutdown()


@pytest.fixture
def pickle_by_value(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pickle the test module's functions by value, because workers cannot import it."""
    import ray

    ray.cloudpickle.register_pickle_by_value(request.module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(scope="session")
def run_undisturbed(empty_store: Path) -> Callable[[StudyConfig], str]:
    """Return a function that runs a study without faults, once, and returns the store's URI."""
    uris: dict[str, str] = {}

    def run(study: StudyConfig) -> str:
        key = study.model_dump_json()
        if key not in uris:
            folder = empty_store.parent / f"undisturbed-{len(uris)}"
            folder.mkdir()
            shutil.copy(empty_store, folder / "mlflow.db")
            uris[key] = f"sqlite:///{folder}/mlflow.db"
            Bench(uris[key], folder / "log", folder / "cache").run(study)
        return uris[key]

    return run


@dataclass
class Bench:
    """A test bench: runs studies with the analytic method in the test's store.

    Attributes:
        uri: Address of the store.
        log: File in which the method logs the seeds that it trains.
        cache: Cache directory.
        behave: Function that the method calls before each selection epoch.
        ray: Whether trials run on the session's Ray. By default they run in this process.
        reuse: Whether studies reuse results of other studies.
    """

    uri: str
    log: Path
    cache: Path
    behave: fakes.Behavior | None = None
    ray: bool = False
    reuse: bool = True

    @property
    def method(self) -> MethodFunctions:
        """The analytic method with the current behavior."""
        return fakes.make_method(self.log, self.behave)

    @property
    def prints(self) -> Fingerprints:
        """Fingerprints of the studies."""
        return Fingerprints(self.method, None, self.cache)

    def run(self, study: StudyConfig, **keys: Any) -> StudyOutcome:
        """Run a study without output."""
        return run_study(
            study,
            data_root=None,
            tracking_uri=self.uri,
            cache_dir=self.cache,
            method=keys.pop("method", self.method),
            console=keys.pop("console", Console(quiet=True)),
            timing=keys.pop("timing", Timing(claim_pause=0.0)),
            in_process=keys.pop("in_process", not self.ray),
            reuse=keys.pop("reuse", self.reuse),
            **keys,
        )

    def run_and_capture(self, study: StudyConfig, **keys: Any) -> tuple[StudyOutcome, list[str]]:
        """Run a study, and return the outcome and the printed lines."""
        out = io.StringIO()
        return self.run(study, console=Console(file=out), **keys), out.getvalue().splitlines()

    def plan(self, study: StudyConfig, **keys: Any) -> Plan:
        """Return the plan of a study, as a dry run does."""
        options = {"tracking_uri": self.uri, "cache_dir": self.cache, "method": self.method}
        return plan_study(study, **{"details": False, **options, **keys})

    def open_store(self) -> Store:
        """Open the store."""
        return open_store(self.uri)

    def list_runs(self, name: str = "small") -> list[Any]:
        """Return every run of the study's experiment as MLflow has it, oldest first."""
        store, order = self.open_store(), ["attributes.start_time ASC"]
        experiment_ids = [str(store.find_experiment(name))]
        return list(store.client.search_runs(experiment_ids, order_by=order, max_results=1000))

    def list_trials(self, name: str = "small") -> list[Any]:
        """Return the runs of trials, oldest first."""
        return [run for run in self.list_runs(name) if run.data.tags["ship.kind"] == "trial"]

    def get_study_run(self, name: str = "small") -> Any:
        """Return the study's own run."""
        runs = self.list_runs(name)
        (study_run,) = [run for run in runs if run.data.tags["ship.kind"] == "study"]
        return study_run

    def read_history(self, name: str = "small", objective: str = "harmonic_mean") -> RunHistory:
        """Return the run history."""
        store = self.open_store()
        return read_history(store.client, str(store.find_experiment(name)), objective)

    def list_started(self) -> list[str]:
        """Return a line for each (configuration, seed) pair that was started, in order."""
        return fakes.read_trial_lines(self.log)

    def list_states(self) -> list[str]:
        """Return the states of the trials' runs, sorted."""
        return sorted(run.data.tags["ship.state"] for run in self.list_trials())

    def check_invariants(self, name: str = "small") -> None:
        """Check what must be true of a study that is not running.

        Each (configuration, seed) pair has at most one COMPLETE run, no run is RUNNING, and only
        COMPLETE runs have an objective.
        """
        run_ids: dict[tuple[str, int], str] = {}
        for run in self.list_runs(name):
            assert run.info.status != "RUNNING"
            assert run.data.tags["ship.state"] != "RUNNING"
        for run in self.read_history(name).runs:
            if run.state == "COMPLETE":
                for seed in run.seeds:
                    assert (run.config_key, seed) not in run_ids
                    run_ids[run.config_key, seed] = run.logged.run_id
            else:
                assert not run.objective


@pytest.fixture
def bench(uri: str, tmp_path: Path) -> Bench:
    """Return a bench that runs trials in this process."""
    return Bench(uri, tmp_path / "log", tmp_path / "cache")


@pytest.fixture
def ray_bench(bench: Bench, local_ray: None) -> Bench:
    """Return a bench on the session's Ray."""
    return replace(bench, ray=True)
