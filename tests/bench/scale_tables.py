"""The tables of tests.bench.bench_scale."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from harness.resources import CountedCosts
from tests.bench.bench_launches import VIEWS
from tests.bench.grid_estimate import (
    BEFORE,
    Arithmetic,
    Estimate,
    Spent,
    Step,
    Way,
    makespan,
)
from tests.bench.markdown import markdown
from tests.bench.paper_grid import ELEVEN, LENGTHS, SEEDS, configs, data_shape, stages
from tests.bench.paper_tasks import DataShape

ARITHMETICS: Final[Sequence[Arithmetic]] = ("fp32", "tf32", "bf16")
WAYS: Final[Sequence[Way]] = ("before", "padded", "as run", "recorded")
DECODED: Final = (90, 270)  # pictures a second and core
CORES: Final = (1, 16, 64)
GPUS: Final = (1, 8, 64)
MANY: Final = 10_000
HOUR: Final = 3600.0

Costs = Mapping[tuple[Way, Arithmetic], Spent]
Trials = Mapping[tuple[str, int], Spent]


def steps_table(now: Mapping[str, Step]) -> str:
    """Launches and waits of each kind of step."""
    rows = (
        (
            name,
            f"{was.launches:,}",
            was.waits,
            now[name].launches,
            now[name].waits,
            now[name].recorded,
        )
        for name, was in BEFORE.items()
    )
    return markdown(
        ("step", "launches before", "waits before", "launches now", "waits now", "recorded"), *rows
    )


def grid_table(spent: Costs, quality_s: float) -> str:
    """GPU-hours of the grid in float32, by what takes them.

    Args:
        spent: by way and arithmetic.
        quality_s: processor seconds of judging one seed's features once, which was on the CPU.
    """
    n = len(ELEVEN) * len(LENGTHS)
    judging = 2 * SEEDS * n * quality_s / HOUR
    found = [spent[way, "fp32"] for way in WAYS]
    judged = [judging if way == "before" else 0.0 for way in WAYS]
    return markdown(
        ("fp32", *WAYS),
        ("launches, millions", *(f"{s.launches / 1e6:,.1f}" for s in found)),
        ("times that the host waits, thousands", *(f"{s.waits / 1e3:,.0f}" for s in found)),
        ("operations, PFLOP", *(f"{s.flops / 1e15:,.0f}" for s in found)),
        ("launching, h", *(f"{s.host / HOUR:.2f}" for s in found)),
        ("kernels, h", *(f"{s.device / HOUR:.2f}" for s in found)),
        ("judging features on the CPU, h", *(f"{x:.2f}" for x in judged)),
        (
            "together, GPU-hours",
            *(f"**{s.seconds / HOUR + x:.2f}**" for s, x in zip(found, judged, strict=True)),
        ),
        (
            "launches are the bound if one takes more than, µs",
            "waits",
            *(f"{1e6 * s.device / s.launches:,.0f}" for s in found[1:]),
        ),
    )


def arithmetic_table(spent: Costs, estimate: Estimate) -> str:
    """Each arithmetic: hours, and what bounds them."""
    rows = []
    for arithmetic in ARITHMETICS:
        rate = estimate.rates.flops[arithmetic]
        for way in WAYS:
            s = spent[way, arithmetic]
            products = s.flops / rate
            parts = {"products": products, "memory": s.device - products, "launches": s.host}
            rows.append(
                (
                    arithmetic,
                    way,
                    *(f"{seconds / HOUR:.2f}" for seconds in parts.values()),
                    f"{s.seconds / HOUR:.2f}",
                    max(parts, key=parts.__getitem__),
                )
            )
    return markdown(
        (
            "arithmetic",
            "way",
            "products, h",
            "memory beyond them, h",
            "launching, h",
            "GPU-hours",
            "largest",
        ),
        *rows,
    )


def trials_table(estimate: Estimate, trials: Trials) -> str:
    """A trial of each dataset, of four contexts."""
    rows, costs = [], CountedCosts(None, lambda name: _pictures(data_shape(name)))
    for dataset in ELEVEN:
        data = data_shape(dataset)
        (config,) = (one for one in configs(dataset) if one.generator.n_ctx == 4)
        both = stages(config, data)
        steps = (sum(s.generator_steps for s in both), sum(s.coop_steps for s in both))
        flops = costs(config, SEEDS)
        spent = trials[dataset, 4]
        names = estimate.names.lengths(data.class_names)
        rows.append(
            (
                dataset,
                len(data.class_names),
                f"{np.mean(names):.1f} / {max(names)}",
                *(f"{n:,}" for n in steps),
                f"{flops / 1e12:,.0f}",
                f"{spent.flops / 1e12:,.0f}",
                f"{spent.seconds:.0f}",
            )
        )
    return markdown(
        (
            "dataset",
            "classes",
            "tokens of a name, mean / longest",
            "generator steps",
            "CoOp steps",
            "TFLOP by ship.cost",
            "TFLOP padded",
            "seconds, fp32, as run",
        ),
        *rows,
    )


def _pictures(data: DataShape) -> Any:
    """The labels of a dataset, as the survey of one has them."""
    splits = {
        split: SimpleNamespace(labels=np.repeat(np.arange(len(counts)), counts))
        for split, counts in (("train", data.train), ("val", data.val), ("test", data.test))
    }
    return SimpleNamespace(class_names=data.class_names, splits=splits, n_seen=None)


def features_table(estimate: Estimate, stored: int) -> str:
    """What is done once for a backbone.

    Args:
        estimate: for the image tower.
        stored: bytes of the features.
    """
    shapes = [data_shape(dataset) for dataset in ELEVEN]
    train = sum(sum(shape.train) for shape in shapes)
    others = sum(sum(shape.val) + sum(shape.test) for shape in shapes)
    pictures, views = train + others, (1 + VIEWS) * train + others
    rates = estimate.rates.flops
    flops = views * estimate.passes.picture(224)
    slow, fast = (pictures / rate / 60 for rate in DECODED)
    return markdown(
        ("once for a backbone", ""),
        ("pictures / views of them", f"{pictures:,} / {views:,}"),
        *((f"decoding on {n} cores, minutes", f"{fast / n:.1f} to {slow / n:.1f}") for n in CORES),
        ("image tower, PFLOP", f"{flops / 1e15:.1f}"),
        ("the same in fp32 on one GPU, minutes", f"{flops / rates['fp32'] / 60:.1f}"),
        ("features of the eleven sets, bytes", f"{stored:,}"),
    )


def scale_table(grids: Mapping[Arithmetic, Trials], driver_s: float | None) -> str:
    """More GPUs, one trial on each at a time.

    Args:
        grids: trials of the grid, by arithmetic.
        driver_s: the driver's processor seconds a trial; None: not known.
    """
    head = ("arithmetic", "GPUs", "grid, minutes", "GPUs busy", f"{MANY:,} trials, hours")
    rows = []
    for arithmetic, trials in grids.items():
        seconds = [spent.seconds for spent in trials.values()]
        mean = sum(seconds) / len(seconds)
        for gpus in GPUS:
            ends, pace = makespan(seconds, gpus), gpus / mean
            row = (
                f"{ends / 60:.1f}",
                f"{sum(seconds) / ends / gpus:.0%}",
                f"{MANY / pace / HOUR:.1f}",
                f"{pace:.2f}",
            )
            driver = () if driver_s is None else (f"{pace * driver_s:.0%}",)
            rows.append((arithmetic, gpus, *row, *driver))
    driver_head = () if driver_s is None else ("driver's core busy",)
    return markdown((*head, "trials a second", *driver_head), *rows)
