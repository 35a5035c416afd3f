"""python -m tests.bench: check that every benchmark runs, with sizes too small to measure.

To measure, run one by name: tests.bench.bench_configurations (whole commands with thousands of
configurations), bench_answers (how often an answer makes a false claim), bench_statistics (how
often each claim is false, by the distribution of the noise), bench_launches (kernel launches of a
step, counted on an emulated GPU), bench_idle (cost of trials for their driver), bench_trial (speed
of a whole trial relative to matrix products), bench_selection (rules of selecting an epoch),
bench_search (how many trials samplers need), bench_draws (random numbers in a thread),
bench_costs (operations and launches of the packaged studies with real backbones).
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
from tests.bench.bench_launches import BACKBONE, show
from tests.bench.steps import Sizes

TINY = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
IDLE = "--search 20 --asked 5 --store 20 --epochs 3"


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
    show(BACKBONE, TINY)  # the number of launches does not depend on the sizes


if __name__ == "__main__":
    main()
