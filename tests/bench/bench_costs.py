"""python -m tests.bench.bench_costs [--smoke]: estimated cost of the paper's studies on a GPU.

The studies `authors` and `datasets` on the eleven datasets of the paper: trials, operations, kernel
launches, memory for activations, and the time on one H100 or A10 that follows from the assumed
rates (harness.study.gpu_cost). Everything is computed from the configurations; nothing is measured.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.config import load_study
from harness.method import MethodFunctions
from harness.planning import Fingerprints, make_plan
from harness.store import RunHistory
from harness.study.gpu_cost import GPU_RATES, LAUNCH_SECONDS, compute_trial_costs
from harness.wording import format_duration
from tests.harness.fakes import FakeClip, FakeImages

# Number of classes of each dataset of the paper.
CLASSES = {
    "imagenet": 1000, "caltech101": 100, "oxford_pets": 37, "stanford_cars": 196, "flowers102": 102,
    "food101": 101, "fgvc_aircraft": 100, "sun397": 397, "dtd": 47, "eurosat": 10, "ucf101": 101,
}  # fmt: skip


def make_dataset(name: str, *_: object, **__: object) -> FakeImages:
    """Return a dataset with as many classes as the published one."""
    return FakeImages(name, f"images-of-{name}", class_names=("",) * CLASSES[name])


def make_cost_row(space: str, datasets: Sequence[str]) -> tuple[str, ...]:
    """Return a row of the table: a study, its number of trials, and their costs."""
    overrides = [f"space.dataset.choices=[{', '.join(datasets)}]"]
    if space == "authors":
        overrides = [f"space.dataset=[{', '.join(datasets)}]"]
    study = load_study(space, overrides, check_existence=False)
    method = replace(MethodFunctions(), load_dataset=make_dataset, load_backbone=FakeClip)
    with tempfile.TemporaryDirectory(prefix="bench-") as cache_dir:
        prints = Fingerprints(method, None, Path(cache_dir))
        costs = compute_trial_costs(make_plan(study, RunHistory(), prints), prints)
    seconds = [sum(c.seconds(rate, LAUNCH_SECONDS) for c in costs) for rate in GPU_RATES.values()]
    return (
        space,
        f"{len(costs)}",
        f"{sum(cost.operations for cost in costs) / 1e15:,.0f}",
        f"{sum(cost.launches for cost in costs) / 1e6:,.0f}",
        f"{max(cost.memory for cost in costs) / 2**30:.1f}",
        *map(format_duration, seconds),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one dataset only")
    smoke = parser.parse_args(arguments).smoke
    columns = ("study", "trials", "PFLOP", "million launches", "GiB", *GPU_RATES)
    table = Table(*columns, title="five seeds, ViT-B/16; not measured")
    for space in ("authors", "datasets"):
        table.add_row(*make_cost_row(space, ["caltech101", "dtd"] if smoke else [*CLASSES]))
    Console().print(table)


if __name__ == "__main__":
    main()
