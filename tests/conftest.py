"""Shapes in the annotations of ship are checked, and nothing depends on who runs the tests."""

import os
import signal

import pytest
from jaxtyping import install_import_hook

# must run before anything imports ship
install_import_hook(
    [
        "ship.architectures",
        "ship.backbone",
        "ship.datasets",
        "ship.extraction",
        "ship.feature_cache",
        "ship.features",
        "ship.finetuners",
        "ship.calibration",
        "ship.generators",
        "ship.judge",
        "ship.metrics",
        "ship.prompts",
        "ship.protocols",
        "ship.quality",
        "ship.replicas",
        "ship.selection",
        "ship.shards",
        "ship.splits",
        "ship.streaming",
        "ship.synthesis",
        "ship.task",
        "ship.text_tower",
        "ship.views",
    ],
    "beartype.beartype",
)

# Ray's core reads them once, when it is imported
for _name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
    os.environ.pop(_name, None)

# Ignored where a script runs the tests in its background; what they start would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads them
def pytest_cmdline_main(config: pytest.Config) -> None:
    """`-m faults` runs two files at a time: most of its time it waits. `-n 0` stops that."""
    asked = str(config.option.markexpr)
    one_of_them = hasattr(config, "workerinput")
    if "faults" not in asked or "not faults" in asked or config.option.usepdb or one_of_them:
        return
    if config.getoption("numprocesses", None) is None and config.getoption("dist", None) == "no":
        config.option.numprocesses, config.option.dist = 2, "loadfile"
