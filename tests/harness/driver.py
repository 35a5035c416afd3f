"""A study in a separate process, for tests that interrupt, kill or starve it.

python -m tests.harness.driver URI LOG CACHE SECONDS_PER_EPOCH [FAULT] prints the outcome, and exits
with 0 if it is complete. FAULT is JSON, see arrange(). Its further keys are "publish" (the study's
run shows its report), "in_process" (without Ray), "reuse" (reuse results of other studies) and
"store_timeout" (seconds). SHIP_TEST_BEAT and SHIP_TEST_EXPIRY are seconds of its lease.
"""

import itertools
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray

from harness.config.study_config import StudyConfig
from harness.errors import RayLost, UserError
from harness.progress import SteadyConsole
from harness.ray import session
from harness.store import Publication
from harness.store.errors import StoreUnavailable
from harness.store.lease import StudyLost, Timing
from harness.store.study_store import STORE_TIMEOUT
from harness.study.run import StudyOutcome, run_study
from reports.cli import prepare_report
from tests.harness import fakes
from tests.harness.fakes import trial_lines


def arrange(fault: Mapping[str, Any], log: Path) -> None:
    """Prepare a fault.

    Args:
        fault: {"die": {"in": method of MlflowClient, "call": n, "after": bool}} for kill -9 at its
            n-th call; {"jump": seconds} for the wall clock, {"shell": command} to run, both once
            `at` (seed, setting) pairs have been started; {"terminate": function} for a SIGTERM when
            that function, by its dotted name, is called; {"start": seconds} that Ray has to start.
        log: of the analytic method.
    """
    if "die" in fault:
        place = f"mlflow.tracking.MlflowClient.{fault['die']['in']}"
        _strike(place, signal.SIGKILL, fault["die"]["call"], fault["die"]["after"])
    if "start" in fault:
        session.START_SECONDS = fault["start"]
    if "terminate" in fault:
        _strike(fault["terminate"], signal.SIGTERM, 1, False)
    if "jump" in fault:
        _once(log, fault["at"], lambda: _jump(fault["jump"]))
    if "shell" in fault:
        _once(log, fault["at"], lambda: subprocess.run(fault["shell"], shell=True, check=False))


def _strike(place: str, number: signal.Signals, call: int, after: bool) -> None:
    """Signal this process at the n-th call of a function, before or after it."""
    home, name = pkgutil.resolve_name(place.rpartition(".")[0]), place.rpartition(".")[2]
    original, calls = getattr(home, name), itertools.count(1)

    def struck(*args: Any, **keys: Any) -> Any:
        now = next(calls) == call
        if now and not after:
            os.kill(os.getpid(), number)
        result = original(*args, **keys)
        if now and after:
            os.kill(os.getpid(), number)
        return result

    setattr(home, name, struck)


def _once(log: Path, lines: int, act: Callable[[], object]) -> None:
    """Call `act` once the method has started a number of (configuration, seed) pairs."""

    def watch() -> None:
        while len(trial_lines(log)) < lines:
            time.sleep(0.02)
        act()

    threading.Thread(target=watch, daemon=True).start()


def _jump(seconds: float) -> None:
    """Shift the wall clock as Python sees it, but not the monotonic clock."""
    original = time.time
    time.time = lambda: original() + seconds


def study(**keys: Any) -> StudyConfig:
    """Return the small study with four configurations."""
    four = {"space": {"generator.n_ctx": [1, 2, 4, 8]}, "max_concurrent_trials": 2}
    return fakes.make_study(**{**four, **keys})


def published(outcome: StudyOutcome) -> Publication:
    """Return the report for the study's own run, as the command line builds it."""
    return prepare_report(outcome.experiment, outcome.tracking_uri).publication


def main(uri: str, log: str, cache: str, seconds: str, fault: str = "{}") -> int:
    """Run the study with the analytic method."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    options = json.loads(fault)
    arrange(options, Path(log))
    try:
        outcome = run_study(
            study(**options.get("study", {})),
            data_root=None,
            address=options.get("address"),
            publish=published if options.get("publish") else None,
            tracking_uri=uri,
            cache_dir=Path(cache),
            method=fakes.make_method(Path(log), fakes.sleepy(float(seconds))),
            console=SteadyConsole(force_terminal=False),
            in_process=options.get("in_process", False),
            reuse=options.get("reuse", False),
            store_timeout=options.get("store_timeout", STORE_TIMEOUT),
            timing=Timing(
                beat_interval=float(os.environ.get("SHIP_TEST_BEAT", "10")),
                expiry=float(os.environ.get("SHIP_TEST_EXPIRY", "60")),
            ),
        )
    except (StudyLost, StoreUnavailable, RayLost) as error:
        print(error, flush=True)
        return 3
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        return 130
    except UserError as error:
        print(f"mistake: {error}", flush=True)
        return 2
    print(outcome, flush=True)
    return 130 if outcome.interrupted else 0 if outcome.complete else 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
