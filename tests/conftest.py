"""Settings of all tests: checked tensor shapes in ship, a clean environment, parallel runs."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

import tests.typecheck

# must run before anything imports ship
install_import_hook("ship", f"{tests.typecheck.__name__}.typecheck")

# No deadlines: any example may be slow on a busy machine.
_COMMON = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.register_profile("default_run", _COMMON, max_examples=25, derandomize=True)
# pytest --hypothesis-profile=long: many examples, which are random in each run (`just weekly`)
settings.register_profile("long", _COMMON, max_examples=2000)
settings.load_profile("default_run")

# removed before Ray is imported, because its core reads them at import only
for _name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
    os.environ.pop(_name, None)
# Without this, a Ray call in a test that has not started Ray would start an instance that no test
# stops.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

# A shell ignores SIGINT in background jobs, and child processes inherit that. Tests send SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# One thread per process: two pytest processes with two threads each would compete for two cores,
# and most tensors here are too small to gain from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before xdist reads them
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in two processes, because tests wait much of the time.

    `-n 0` disables that. Slow tests are distributed one by one: by files, xdist would start those
    with few tests last, which take the longest.
    """
    option = config.option
    is_whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    marks = re.sub(r"\bnot \w+", "", str(option.markexpr))
    one_process = option.usepdb or option.capture == "no" or "gpu" in marks
    if not is_whole_suite or one_process or hasattr(config, "workerinput"):
        return
    if config.getoption("numprocesses", None) is None and config.getoption("dist", None) == "no":
        slow = any(word in marks for word in ("slow", "faults", "weekly"))
        option.numprocesses, option.dist = 2, "worksteal" if slow else "loadfile"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the emulated device in `-m gpu`: torch would use it to pin CUDA's memory."""
    is_emulated = collection_path.name == "emulated"
    return True if is_emulated and config.option.markexpr == "gpu" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with long timeouts first, so that both processes finish at about the same time."""

    def get_timeout(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark else 0.0

    items.sort(key=get_timeout, reverse=True)


@pytest.fixture
def restore_registries() -> Iterator[None]:
    """Restore the registries of methods, metrics and datasets after the test."""
    from ship.configs import FINETUNERS, GENERATORS, METRICS
    from ship.datasets import DATASETS

    registries: list[Any] = [GENERATORS, FINETUNERS, DATASETS, METRICS]
    copies = [(dict(registry), dict(registry.origins)) for registry in registries]
    yield
    for registry, (entries, origins) in zip(registries, copies, strict=True):
        registry.clear()
        registry.update(entries)
        registry.origins = origins
