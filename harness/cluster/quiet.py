"""Keeps Ray quiet: what a study has to say of it, it says itself, in a line."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from harness.cluster.ray_internals import worker_deaths_unprinted
from harness.environment import environment

LOGGERS: Final = ("ray", "ray.tune", "ray.train")
# Read by the driver's core, which writes of what becomes of actors, past any logger.
CORE_ENVIRONMENT: Final = {"RAY_BACKEND_LOG_LEVEL": "fatal"}


@contextmanager
def quiet_ray(verbose: bool) -> Iterator[None]:
    """Silence Ray's loggers on the driver, and its words on dead workers, unless verbose.

    Of dead workers harness.tuning.worker_deaths knows more than Ray prints.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    if not verbose:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
    try:
        with nullcontext() if verbose else worker_deaths_unprinted():
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
