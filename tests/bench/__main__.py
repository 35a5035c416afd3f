"""python -m tests.bench [--smoke]: training steps against the plain loop's, side by side.

The full run takes some 25 minutes on two cores and 15 GiB. Others are run by their own names:
tests.bench.bench_settings (thousands of settings: whole commands, with a store of as many runs),
bench_planted (which factor a report names, of planted studies and of null ones), bench_answers (how
often an answer says what is not so), bench_detect (what --detect errs and saves), bench_launches
(what a step asks of a GPU, counted on an emulated one), bench_idle (what trials that do nothing
cost their driver).

--smoke runs each at sizes that say nothing: does it run?
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from harness.config import load_study
from ship.clip.frozen_clip import FrozenCLIP
from tests.bench import bench_answers, bench_detect, bench_idle, bench_planted
from tests.bench.bench_launches import BACKBONE, show
from tests.bench.bench_settings import fill, space_file
from tests.bench.bench_steps import Comparison, Sizes, against_naive, trial_of_steps

TINY = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
IDLE = "--search 20 --asked 5 --store 20 --epochs 3 --flushes 1"


def smoke() -> Iterator[Comparison]:
    """Every benchmark, as quickly as it can be run."""
    yield from with_trial(FrozenCLIP.load("pocket"), TINY, repeats=1)
    for bench in (bench_planted, bench_answers, bench_detect):
        bench.main(["--smoke"])
    bench_idle.main(IDLE.split())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        seconds = fill(load_study(space_file(40, Path(name))), Path(name))
    print(f"a ledger of 40 settings: {seconds:.3f} s")
    show(BACKBONE, TINY)  # as many launches as at sizes that say something


def with_trial(clip: FrozenCLIP, sizes: Sizes, repeats: int) -> Iterator[Comparison]:
    """Steps against the plain loop's, and the trial that they make."""
    rows = list(against_naive(clip, sizes, repeats))
    yield from rows
    yield trial_of_steps(clip, sizes, generator=rows[1], coop=rows[2])


def full(batch: int) -> Iterator[Comparison]:
    """Every comparison, at the sizes of the paper.

    Args:
        batch: pictures a generator step; the plain loop keeps some 40 MB for each.
    """
    large = FrozenCLIP.load("ViT-B-16-quickgelu:random")
    for n_ctx in (4, 16):
        yield from with_trial(large, Sizes(n_ctx=n_ctx, batch=batch), repeats=1)
    yield from with_trial(FrozenCLIP.load("pocket"), Sizes(), repeats=3)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--batch", type=int, default=256, help="pictures a generator step")
    options = parser.parse_args()
    columns = ("what", "plain s", "fast s", "ratio", "target")
    table = Table(*columns, title=f"{torch.get_num_threads()} threads")
    for row in smoke() if options.smoke else full(options.batch):
        target = "" if row.target is None else f"{row.target:.0f}x"
        seconds = f"{row.plain_s:.3f}", f"{row.fast_s:.3f}"
        table.add_row(row.name, *seconds, f"{row.ratio:.1f}x", target)
    Console().print(table)


if __name__ == "__main__":
    main()
