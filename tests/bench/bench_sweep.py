"""What a sweep adds to the compute of its trials.

    python -m tests.bench.bench_sweep [--trials N] [--epochs N] [--seeds N]

Wall time counts from the moment when the first trial began to compute; the start of Ray and of the
first workers is shown apart. Trials of `--epochs 4 --seeds 3` take some five seconds: less than a
worker takes to start where the machine is busy, so that they show whether every core has one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.config.load import load_study
from harness.config.study_config import StudyConfig
from harness.study.context import default_cache_dir
from harness.study.run import run_study
from tests.bench.timing import spans

LEVELS = tuple(round(0.001 * 2**i, 6) for i in range(12))


@dataclass(frozen=True)
class SweepTime:
    """A sweep's time, seconds.

    start: from the call until the first trial computes (features from the cache, Ray, workers).
    wall: from there until the last trial's end.
    compute: of all trials, added up.
    cores: trials that run side by side.
    end: from the last trial's end until the call returns.
    used: cores that computed, in the mean, from the first trial's end to the last one's.
    """

    start: float
    wall: float
    compute: float
    cores: int
    end: float
    used: float

    @property
    def overhead(self) -> float:
        """Wall time over what the compute would take if it filled all cores; 1 is the best."""
        return self.wall / (self.compute / self.cores)


def study_of(trials: int, epochs: int, seeds: int) -> StudyConfig:
    """A study of that many settings, all of one size, on the packaged backbone and pictures."""
    overrides = [
        f"seeds={seeds}",
        f"generator.epochs={epochs}",
        f"finetuner.epochs={epochs}",
        "space.generator.n_ctx=null",
        f"space.generator.kl_weight={{choices: {list(LEVELS[:trials])}, baseline: {LEVELS[0]}}}",
        "reference_arms=false",
    ]
    return load_study("prompt_len.yaml", overrides, None)


def sweep_time(study: StudyConfig) -> SweepTime:
    """Run a study in a folder of its own."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            uri = f"sqlite:///{folder}/mlflow.db"
            called = time.time()
            run_study(
                study,
                data_root=None,
                tracking_uri=uri,
                cache_dir=default_cache_dir(),
                console=Console(quiet=True),
            )
            returned = time.time()
            begins, ends = zip(*spans(uri, study.name, called), strict=True)
        finally:
            os.chdir(before)
    return SweepTime(
        min(begins) - called,
        max(ends) - min(begins),
        sum(ends) - sum(begins),
        min(os.cpu_count() or 1, len(ends)),
        returned - max(ends),
        cores_used(begins, ends),
    )


def cores_used(begins: Sequence[float], ends: Sequence[float]) -> float:
    """Cores that compute, in the mean, from the first trial's end to the last one's.

    Args:
        begins, ends: of each trial, seconds.
    """
    first, last = min(ends), max(ends)
    busy = [max(0.0, end - max(first, begin)) for begin, end in zip(begins, ends, strict=True)]
    return sum(busy) / max(last - first, 1e-9)


def main() -> None:
    """Print where a sweep's time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=len(LEVELS), help=f"at most {len(LEVELS)}")
    parser.add_argument("--epochs", type=int, default=20, help="of the generator, and as many more")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    found = sweep_time(study_of(options.trials, options.epochs, options.seeds))
    print(
        f"{options.trials} trials on {found.cores} cores: {found.compute:.1f} s of compute, "
        f"{found.wall:.1f} s of wall time: {found.overhead:.3f}x of compute / cores; "
        f"{found.used:.2f} cores computed from the first trial's end on; "
        f"{found.start:.1f} s until the first computes, {found.end:.1f} s after the last"
    )


if __name__ == "__main__":
    main()
