"""What the paper's grid costs on H100s, by counts: `python -m tests.bench.bench_scale`.

Eleven datasets, five prompt lengths, three seeds fused (tests.bench.paper_grid), ViT-B/16. Launches
and waits are counted on the emulated device, kernels with their operations and bytes on the meta
device; the seconds that come out are estimates (tests.bench.grid_estimate.Rates). Tables are in
Markdown, as docs/scale.md has them. Some three minutes on an idle core, 2 GiB.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.tuning import array_bytes
from ship.features import FeatureSet
from ship.quality import measure_quality
from ship.training import ReplicaRng
from tests.bench.bench_launches import BACKBONE, VIEWS, counted
from tests.bench.bench_steps import Sizes
from tests.bench.grid_estimate import Estimate, Step, total
from tests.bench.paper_grid import ELEVEN, SEEDS, data_shape
from tests.bench.scale_tables import (
    ARITHMETICS,
    WAYS,
    arithmetic_table,
    features_table,
    grid_table,
    scale_table,
    steps_table,
    trials_table,
)
from tests.emulated import emulated_device

# Launches hardly depend on sizes: a step at those of the paper has one more.
TINY: Final = Sizes(
    n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16), seeds=SEEDS
)


def features_of(dataset: str) -> FeatureSet:
    """Arrays of the sizes that a feature set has, with nothing behind them."""
    data, width = data_shape(dataset), 512

    def zeros(*shape: int, kind: Any = np.float32) -> np.ndarray:
        return np.broadcast_to(kind(0), shape)

    parts: list[np.ndarray] = []
    for split, views in ((data.train, (1 + VIEWS,)), (data.val, ()), (data.test, ())):
        parts += [zeros(sum(split), *views, width), zeros(sum(split), kind=np.int64)]
    return FeatureSet(data.class_names, data.template, dataset, "", "", *parts)


def made_sets(classes: int, each: int, real: int, device: str) -> tuple[Any, ...]:
    """Arguments of measure_quality of one replica, random."""
    draw = torch.Generator().manual_seed(0)

    def unit(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, 512, generator=draw), dim=-1).to(device)

    labels = [torch.arange(classes).repeat_interleave(n).to(device) for n in (each, real)]
    pictures = [unit(classes * real)]
    return unit(1, classes * each), labels[0][None], pictures, [labels[1]], unit(classes)


def quality() -> tuple[float, int, int]:
    """Judging one seed's features once: processor seconds here, launches and waits on a device."""
    sets = made_sets(50, 20, 20, "cpu")  # as many as are ever compared
    began = time.process_time()
    measure_quality(*sets, ReplicaRng(range(1), "bench"))
    seconds = time.process_time() - began
    with emulated_device() as device:
        sets = made_sets(8, 10, 10, device.name)
        with device.counting() as counts:
            measure_quality(*sets, ReplicaRng(range(1), "bench"))
    return seconds, counts.n_launches, counts.n_syncs


def tables(driver_s: float | None) -> Iterator[str]:
    """All of them."""
    now = {
        row.name: Step(row.counts.n_launches, row.counts.n_syncs, row.recorded.n_launches)
        for row in counted(BACKBONE, TINY)
    }
    if not now:  # this torch has no emulated device, which has been said
        return
    yield steps_table(now)
    quality_s, launches, waits = quality()
    yield (
        f"Judging one seed's features once: {quality_s:.1f} s on this processor, "
        f"{launches} launches and {waits} waits on a device.\n"
    )
    estimate = Estimate(now)
    grid = {(way, a): estimate.trials(way, a) for way in WAYS for a in ARITHMETICS}
    spent = {key: total(trials.values()) for key, trials in grid.items()}
    yield grid_table(spent, quality_s)
    yield arithmetic_table(spent, estimate)
    yield trials_table(estimate, grid["as run", "fp32"])
    stored = array_bytes({dataset: features_of(dataset) for dataset in ELEVEN})
    yield features_table(estimate, stored)
    yield scale_table({a: grid["as run", a] for a in ARITHMETICS}, driver_s)
    yield f"{estimate.rates}\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--driver", type=float, help="processor seconds of a driver a trial (bench_idle)"
    )
    for table in tables(parser.parse_args().driver):
        print(table, flush=True)


if __name__ == "__main__":
    main()
