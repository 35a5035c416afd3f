"""python -m tests.bench [--smoke] [--json FILE]: ratios measured side by side on this machine.

The full run takes some 25 minutes on two cores and 15 GiB. Others are run by their own names:
tests.bench.bench_sweep (what a sweep adds to its trials, and the cores that it keeps busy),
bench_fixed_costs (what a study takes beside its trials), bench_features (extraction), bench_plan (a
plan against the number of its settings), bench_settings (the same of whole commands, with a store
of as many runs), bench_planted (which factor a report names, of planted studies and of null ones),
bench_answers (how often an answer says what is not so), bench_detect (what --detect errs and
saves), bench_page (a large study's report, made and opened), bench_launches (what a step asks of a
GPU, counted on an emulated one), bench_idle (what trials that do nothing cost their driver).

--smoke runs each at sizes that say nothing, but for bench_sweep and bench_fixed_costs, which start
Ray: does it run?
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from harness.config import load_study
from ship.clip.frozen_clip import FrozenCLIP
from ship.datasets import load_dataset
from tests.bench import (
    bench_answers,
    bench_detect,
    bench_idle,
    bench_page,
    bench_plan,
    bench_planted,
)
from tests.bench.bench_features import extraction
from tests.bench.bench_launches import BACKBONE, show
from tests.bench.bench_settings import fill, space_file
from tests.bench.bench_steps import Sizes, against_naive
from tests.bench.bench_trial import trial_of_steps, whole_trial
from tests.bench.timing import Comparison

TINY = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
IDLE = "--search 20 --asked 5 --store 20 --epochs 3 --flushes 1"


def smoke() -> Iterator[Comparison]:
    """Every benchmark, as quickly as it can be run."""
    pocket = FrozenCLIP.load("pocket")
    yield from with_trial(pocket, TINY)
    yield whole_trial(pocket, TINY, epochs=1, repeats=1)
    for bench in (bench_planted, bench_answers, bench_detect, bench_page):
        bench.main(["--smoke"])
    bench_plan.main(["20", "40"])
    bench_idle.main(IDLE.split())
    extraction(pocket, load_dataset("emoji"), n=4)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        seconds = fill(load_study(space_file(40, Path(name))), Path(name))
    print(f"a ledger of 40 settings: {seconds:.3f} s")
    show(BACKBONE, TINY)  # as many launches as at sizes that say something


def with_trial(clip: FrozenCLIP, sizes: Sizes) -> Iterator[Comparison]:
    """Steps against the plain loop's, and the trial that they make."""
    rows = list(against_naive(clip, sizes, repeats=1))
    yield from rows
    yield trial_of_steps(clip, sizes, generator=rows[1], coop=rows[2])


def full(batch: int) -> Iterator[Comparison]:
    """Every comparison, at the sizes of the paper.

    Args:
        batch: pictures a generator step; the plain loop keeps some 40 MB for each.
    """
    large = FrozenCLIP.load("ViT-B-16-quickgelu:random")
    for n_ctx in (4, 16):
        yield from with_trial(large, Sizes(n_ctx=n_ctx, batch=batch))
    pocket = FrozenCLIP.load("pocket")
    yield from against_naive(pocket, Sizes(), repeats=3)
    yield whole_trial(pocket, Sizes(), epochs=4, repeats=1)


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--batch", type=int, default=256, help="pictures a generator step")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    columns = ("what", "plain s", "fast s", "ratio", "target")
    table = Table(*columns, title=f"{torch.get_num_threads()} threads")
    made = []
    for row in smoke() if options.smoke else full(options.batch):
        made.append(row)
        target = "" if row.target is None else f"{row.target:.0f}x"
        seconds = f"{row.plain_s:.3f}", f"{row.fast_s:.3f}"
        table.add_row(row.name, *seconds, f"{row.ratio:.1f}x", target)
        if options.json:  # as they come: a run that is stopped leaves what it has
            options.json.write_text(json.dumps([asdict(one) for one in made], indent=1))
    Console().print(table)


if __name__ == "__main__":
    main()
