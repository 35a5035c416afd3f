"""Run a study in a separate process, for tests that interrupt or kill it, or take its store away.

Usage: python -m tests.harness.driver URI LOG CACHE SECONDS_PER_EPOCH [OPTIONS]

The process prints the outcome, and exits with 0 if the study is complete. OPTIONS is JSON. It
contains the faults that prepare_faults() describes, and the keys

- "study": overrides of the study's keys
- "address": address of a Ray cluster
- "publish": whether the study's run shows its report
- "in_process": whether trials run without Ray
- "reuse": whether results of other studies are reused
- "store_timeout": seconds

The environment variables SHIP_TEST_BEAT and SHIP_TEST_EXPIRY contain the seconds of its lease.
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
from tests.harness.fakes import read_trial_lines


def prepare_faults(options: Mapping[str, Any], log: Path) -> None:
    """Prepare the faults that options describe.

    Args:
        options: Faults by name:

            - {"die": {"in": METHOD, "call": N, "after": BOOL}}: kill -9 before or after the N-th
              call of a method of MlflowClient
            - {"terminate": FUNCTION}: SIGTERM when the function with this dotted name is called
            - {"start": SECONDS}: how long Ray may take to start
            - {"jump": SECONDS, "at": N}: the wall clock jumps once N (configuration, seed) pairs
              have been started
            - {"shell": COMMAND, "at": N}: a shell command runs at that time
        log: Log of the analytic method.
    """
    if "die" in options:
        die = options["die"]
        method = f"mlflow.tracking.MlflowClient.{die['in']}"
        _send_signal_at_call(method, signal.SIGKILL, die["call"], die["after"])
    if "start" in options:
        session.START_SECONDS = options["start"]
    if "terminate" in options:
        _send_signal_at_call(options["terminate"], signal.SIGTERM, 1, False)
    if "jump" in options:
        _call_when_started(log, options["at"], lambda: _shift_clock(options["jump"]))
    if "shell" in options:
        _call_when_started(
            log, options["at"], lambda: subprocess.run(options["shell"], shell=True, check=False)
        )


def _send_signal_at_call(
    dotted_name: str, number: signal.Signals, call_number: int, after: bool
) -> None:
    """Send this process a signal before or after the n-th call of a function."""
    owner_name, _, name = dotted_name.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    original, calls = getattr(owner, name), itertools.count(1)

    def call_and_signal(*args: Any, **keys: Any) -> Any:
        is_due = next(calls) == call_number
        if is_due and not after:
            os.kill(os.getpid(), number)
        result = original(*args, **keys)
        if is_due and after:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, call_and_signal)


def _call_when_started(log: Path, n_pairs: int, act: Callable[[], object]) -> None:
    """Call `act` once the method has started this many (configuration, seed) pairs."""

    def watch() -> None:
        while len(read_trial_lines(log)) < n_pairs:
            time.sleep(0.02)
        act()

    threading.Thread(target=watch, daemon=True).start()


def _shift_clock(seconds: float) -> None:
    """Shift Python's wall clock, but not its monotonic clock."""
    original = time.time
    time.time = lambda: original() + seconds


def make_driver_study(**keys: Any) -> StudyConfig:
    """Return the small study with four configurations and two workers."""
    defaults = {"space": {"generator.n_ctx": [1, 2, 4, 8]}, "max_concurrent_trials": 2}
    return fakes.make_study(**{**defaults, **keys})


def build_publication(outcome: StudyOutcome) -> Publication:
    """Build the report that the study's own run shows, like the command line."""
    return prepare_report(outcome.experiment, outcome.tracking_uri).publication


def main(uri: str, log: str, cache: str, seconds: str, options_json: str = "{}") -> int:
    """Run the study with the analytic method."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    options = json.loads(options_json)
    prepare_faults(options, Path(log))
    try:
        outcome = run_study(
            make_driver_study(**options.get("study", {})),
            data_root=None,
            address=options.get("address"),
            publish=build_publication if options.get("publish") else None,
            tracking_uri=uri,
            cache_dir=Path(cache),
            method=fakes.make_method(Path(log), fakes.make_sleeping_behavior(float(seconds))),
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
