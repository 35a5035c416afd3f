"""Keeps Ray quiet: what a study has to say of it, it says itself, in a line."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from harness.environment import environment

LOGGERS: Final = ("ray", "ray.data", "ray.tune", "ray.train")
# Read by the driver's core, which writes of each of Ray Data's actor pools as an error.
CORE_ENVIRONMENT: Final = {"RAY_BACKEND_LOG_LEVEL": "fatal"}
# Ray prints a dozen lines of what may have killed a worker, of which harness.tuning.worker_deaths
# knows more, and a line for each try of Ray Data's.
TOLD: Final = ("A worker died or was killed", "so the task will be retried")
_PRINTER: Final = "print_to_stdstream"


@contextmanager
def quiet_ray(verbose: bool) -> Iterator[None]:
    """Silence Ray's loggers on the driver, and its words on dead workers, unless verbose."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    if not verbose:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
    try:
        with _deaths_untold(verbose):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def quiet_core() -> Iterator[None]:
    """Silence the core of a driver that starts inside; it announces even this, past any logger."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with environment(CORE_ENVIRONMENT):
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@contextmanager
def _deaths_untold(verbose: bool) -> Iterator[None]:
    """Errors that raylets push to a driver are printed whatever its loggers are set to.

    Ray has no switch for it. The others, an autoscaler's say, are printed as ever; where Ray prints
    in another way, nothing is changed.
    """
    from ray._private import worker

    original = getattr(worker, _PRINTER, None)
    if verbose or original is None:
        yield
        return

    def printed(data: Mapping[str, Any], *given: Any, **keys: Any) -> None:
        text = "\n".join(map(str, data.get("lines", ())))
        if not any(words in text for words in TOLD):
            original(data, *given, **keys)

    setattr(worker, _PRINTER, printed)
    try:
        yield
    finally:
        setattr(worker, _PRINTER, original)
