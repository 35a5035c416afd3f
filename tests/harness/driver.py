"""A study as a process of its own, for tests that interrupt or kill it.

python -m tests.harness.driver URI LOG CACHE SECONDS_PER_EPOCH [NAME] prints the outcome; 0 if
complete.
"""

import sys
from pathlib import Path

import ray
from rich.console import Console

from harness.study import run_study
from tests.harness import fakes


def main(uri: str, log: str, cache: str, seconds: str, name: str = "small") -> int:
    """Run the small study over four settings with the analytic method."""
    ray.cloudpickle.register_pickle_by_value(fakes)
    study = fakes.make_study(space={"generator.n_ctx": [1, 2, 4, 8]}, concurrency=2)
    outcome = run_study(
        study.model_copy(update={"name": name}),
        data_root=None,
        tracking_uri=uri,
        cache_dir=Path(cache),
        method=fakes.make_method(Path(log), fakes.sleepy(float(seconds))),
        console=Console(force_terminal=False),
    )
    print(outcome, flush=True)
    return 130 if outcome.interrupted else 0 if outcome.complete else 3


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
