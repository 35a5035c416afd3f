"""A study as a process of its own, for tests that interrupt, kill or starve it.

python -m tests.harness.driver URI LOG CACHE SECONDS_PER_EPOCH [FAULT] prints the outcome; 0 if
complete. FAULT is JSON, see tests.harness.driver_faults; with "publish" in it the study's run shows
its report, with "in_process" nothing runs on Ray, with "reuse" what other studies have
finished does not run.
SHIP_TEST_BEAT and SHIP_TEST_EXPIRY are seconds of its lease.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import ray

from harness.config.study_config import StudyConfig
from harness.errors import RayLost, UserError
from harness.progress import SteadyConsole
from harness.store.errors import StoreAway
from harness.store.lease import StudyLost, Timing
from harness.study.run import StudyOutcome, run_study
from reports.cli import prepare
from reports.contract import Publication
from tests.harness import fakes
from tests.harness.driver_faults import arrange


def study(**keys: Any) -> StudyConfig:
    """The small study over four settings."""
    four = {"space": {"generator.n_ctx": [1, 2, 4, 8]}, "concurrency": 2}
    return fakes.make_study(**{**four, **keys})


def published(outcome: StudyOutcome) -> Publication:
    """What the study's own run shows, as the command line makes it."""
    return prepare(outcome.experiment, outcome.tracking_uri)[0]


def main(uri: str, log: str, cache: str, seconds: str, fault: str = "{}") -> int:
    """Run the study with the analytic method."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    given = json.loads(fault)
    arrange(given, Path(log))
    try:
        outcome = run_study(
            study(**given.get("study", {})),
            data_root=None,
            address=given.get("address"),
            publish=published if given.get("publish") else None,
            tracking_uri=uri,
            cache_dir=Path(cache),
            method=fakes.make_method(Path(log), fakes.sleepy(float(seconds))),
            console=SteadyConsole(force_terminal=False),
            in_process=given.get("in_process", False),
            reuse=given.get("reuse", False),
            timing=Timing(
                beat=float(os.environ.get("SHIP_TEST_BEAT", "10")),
                expiry=float(os.environ.get("SHIP_TEST_EXPIRY", "60")),
            ),
        )
    except (StudyLost, StoreAway, RayLost) as error:
        print(error, flush=True)
        return 3
    except UserError as error:
        print(f"mistake: {error}", flush=True)
        return 2
    print(outcome, flush=True)
    return 130 if outcome.interrupted else 0 if outcome.complete else 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
