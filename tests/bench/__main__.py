"""python -m tests.bench: check that every benchmark runs, with sizes too small to measure.

To measure, run a single benchmark, e.g. python -m tests.bench.bench_trial:

- bench_answers: rate of false claims in answers
- bench_configurations: commands with thousands of configurations
- bench_costs: operations and launches of the packaged studies with CLIP's backbone
- bench_draws: random numbers that are drawn in a thread
- bench_idle: cost of trials for their driver
- bench_launches: kernel launches of a step, counted on an emulated GPU
- bench_search: number of trials that samplers need
- bench_selection: rules that select an epoch
- bench_statistics: rate of false claims of each kind, by the distribution of the noise
- bench_trial: speed of a whole trial relative to matrix products
"""

import tempfile
from pathlib import Path

from harness.config import load_study
from tests.bench import (
    bench_answers,
    bench_costs,
    bench_draws,
    bench_idle,
    bench_search,
    bench_selection,
    bench_statistics,
    bench_trial,
)
from tests.bench.bench_configurations import fill_store, write_space_file
from tests.bench.bench_launches import BACKBONE, print_counts
from tests.bench.steps import Sizes

TINY = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
IDLE = "--search 20 --suggestions 5 --store 20 --epochs 3"


def main() -> None:
    """Run each benchmark with its smallest sizes."""
    for bench in (
        bench_answers,
        bench_costs,
        bench_draws,
        bench_statistics,
        bench_trial,
        bench_search,
        bench_selection,
    ):
        bench.main(["--smoke"])
    bench_idle.main(IDLE.split())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        seconds = fill_store(load_study(write_space_file(40, Path(name))), Path(name))
    print(f"reading the run history of 40 configurations: {seconds:.3f} s")
    print_counts(BACKBONE, TINY)  # the number of launches does not depend on the sizes


if __name__ == "__main__":
    main()
