"""Shapes in the annotations of ship are checked, and nothing depends on who runs the tests."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

import tests.checked

# must run before anything imports ship
install_import_hook("ship", f"{tests.checked.__name__}.checked")

# No test is about time: under load any of them may take long.
_OURS = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.register_profile("unhurried", _OURS, max_examples=25, derandomize=True)
# pytest --hypothesis-profile=long: other examples each time, and many of them (`just weekly`)
settings.register_profile("long", _OURS, max_examples=2000)
settings.load_profile("unhurried")

# Ray's core reads them once, when it is imported
for _name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
    os.environ.pop(_name, None)
# A call that needs Ray where none was started would start one, which no test would ever stop.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

# Ignored where a script runs the tests in its background; what they start would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Two processes of two threads each on two cores would wait for one another, and threads do so in
# tensors as small as most are here.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before xdist reads them
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs two files at a time: much of the time it waits. `-n 0` stops that.

    Slow tests are shared out one by one, as xdist would begin the files with few tests last, which
    are the longest ones.
    """
    option, whole = config.option, config.args_source is pytest.Config.ArgsSource.TESTPATHS
    marks = re.sub(r"\bnot \w+", "", str(option.markexpr))
    one_at_a_time = option.usepdb or option.capture == "no" or "gpu" in marks
    if not whole or one_at_a_time or hasattr(config, "workerinput"):
        return
    if config.getoption("numprocesses", None) is None and config.getoption("dist", None) == "no":
        slow = any(word in marks for word in ("slow", "faults", "weekly"))
        option.numprocesses, option.dist = 2, "worksteal" if slow else "loadfile"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Keep the emulated device out of `-m gpu`: torch would let it pin CUDA's memory."""
    is_emulated = collection_path.name == "emulated"
    return True if is_emulated and config.option.markexpr == "gpu" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that may take longest go first: else one process waits for the other at the end."""

    def longest(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return float(mark.args[0]) if mark else 0.0

    items.sort(key=longest, reverse=True)


@pytest.fixture
def own_tables() -> Iterator[None]:
    """The tables of generators, fine-tuners and datasets are afterwards as they were before."""
    from ship.configs import FINETUNERS, GENERATORS, METRICS
    from ship.datasets import DATASETS

    tables: list[Any] = [GENERATORS, FINETUNERS, DATASETS, METRICS]
    copies = [(dict(table), dict(table.origins)) for table in tables]
    yield
    for table, (entries, origins) in zip(tables, copies, strict=True):
        table.clear()
        table.update(entries)
        table.origins = origins
