"""A study as a process of its own, for tests that interrupt or kill it.

python -m tests.harness.driver URI LOG CACHE SECONDS_PER_EPOCH [NAME] prints the outcome; 0 if
complete. SHIP_TEST_BEAT and SHIP_TEST_EXPIRY are seconds of its lease.
"""

import os
import sys
from pathlib import Path

import ray
from rich.console import Console

from harness.lease import StudyLost, Timing
from harness.study import StudyOutcome, run_study
from tests.harness import fakes


def main(uri: str, log: str, cache: str, seconds: str, name: str = "small") -> int:
    """Run the small study over four settings with the analytic method."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    timing = Timing(
        beat=float(os.environ.get("SHIP_TEST_BEAT", "10")),
        expiry=float(os.environ.get("SHIP_TEST_EXPIRY", "60")),
    )
    try:
        outcome = _run(uri, log, cache, seconds, name, timing)
    except StudyLost as error:
        print(error, flush=True)
        return 3
    print(outcome, flush=True)
    return 130 if outcome.interrupted else 0 if outcome.complete else 3


def _run(uri: str, log: str, cache: str, seconds: str, name: str, timing: Timing) -> StudyOutcome:
    study = fakes.make_study(space={"generator.n_ctx": [1, 2, 4, 8]}, concurrency=2)
    return run_study(
        study.model_copy(update={"name": name}),
        data_root=None,
        tracking_uri=uri,
        cache_dir=Path(cache),
        method=fakes.make_method(Path(log), fakes.sleepy(float(seconds))),
        console=Console(force_terminal=False),
        timing=timing,
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
