"""python -m tests.bench: does every benchmark run? The sizes are such that they say nothing.

Each is run by its own name to say something: tests.bench.bench_settings (thousands of settings:
whole commands, with a store of as many runs), bench_answers (how often an answer says what is not
so), bench_statistics (how often each claim is false, by the shape of the noise), bench_launches
(what a step asks of a GPU, counted on an emulated one), bench_idle (what trials that do nothing
cost their driver), bench_trial (how near a whole trial comes to the rate of plain products),
bench_selection (which epoch to choose, and how to train up to it), bench_search (how many trials
samplers need).
"""

import tempfile
from pathlib import Path

from harness.config import load_study
from tests.bench import (
    bench_answers,
    bench_idle,
    bench_search,
    bench_selection,
    bench_statistics,
    bench_trial,
)
from tests.bench.bench_launches import BACKBONE, show
from tests.bench.bench_settings import fill, space_file
from tests.bench.steps import Sizes

TINY = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
IDLE = "--search 20 --asked 5 --store 20 --epochs 3"


def main() -> None:
    """Run each, as quickly as it can be run."""
    for bench in (
        bench_answers,
        bench_statistics,
        bench_trial,
        bench_search,
        bench_selection,
    ):
        bench.main(["--smoke"])
    bench_idle.main(IDLE.split())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        seconds = fill(load_study(space_file(40, Path(name))), Path(name))
    print(f"a ledger of 40 settings: {seconds:.3f} s")
    show(BACKBONE, TINY)  # as many launches as at sizes that say something


if __name__ == "__main__":
    main()
