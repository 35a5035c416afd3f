"""The final numbers of a trial's run: means with intervals, each seed's own, cost, and flags."""

import json
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from threading import Thread
from typing import Any

from reports.contract import (
    FLAG,
    OBJECTIVE,
    PROTOCOLS,
    Cost,
    Protocol,
    Tag,
    interval_metrics,
    seed_metric,
)


def load_ahead() -> None:
    """Begin to import, beside whatever else is done, what final_metrics needs.

    It takes half a second, for which the first trial's end would hold up the other trials.
    """
    Thread(target=import_module, args=("reports.stats",), daemon=True).start()


def flag_tags(final: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, str]:
    """ship.flags: JSON of each flag that was raised and the seeds that raised it; {} if none."""
    raised = {
        name.removeprefix(FLAG): [seed for seed, value in zip(seeds, values, strict=True) if value]
        for name, values in final["test"].items()
        if name.startswith(FLAG) and any(values)
    }
    return {Tag.FLAGS: json.dumps(raised)} if raised else {}


def final_metrics(
    final: Mapping[str, Any], seeds: Sequence[int], protocol: str
) -> dict[str, float]:
    """The final metrics of a run: means over its seeds with intervals, each seed's own, the cost.

    Args:
        final: the FINAL part of a worker's last result.
        seeds: the run's seeds, in the order of the values in `final`.
        protocol: of the run, for the metrics that have intervals.
    """
    metrics: dict[str, float] = {}
    if final["objective"] is not None:  # selection none measures nothing
        metrics[OBJECTIVE] = final["objective"]
    for name, values in final["test"].items():
        metrics[f"test/{name}"] = sum(values) / len(values)
    metrics |= _intervals(final["test"], PROTOCOLS[protocol])
    for index, seed in enumerate(seeds):
        for split in ("test", "selection"):
            for name, values in final[split].items():
                metrics[seed_metric(seed, f"{split}/{name}")] = values[index]
        if final["selection_epoch"]:
            metrics[seed_metric(seed, "selection_epoch")] = final["selection_epoch"][index]
    for name in (Cost.SECONDS, Cost.PEAK_MEMORY, Cost.TEXT_TOKENS):
        metrics[name] = final[name]
    of_gpus = (Cost.GPUS, Cost.DEVICE_MEMORY)
    return metrics | {name: final[name] for name in of_gpus if name in final}


def _intervals(tested: Mapping[str, Sequence[float]], protocol: Protocol) -> dict[str, float]:
    """The 95% intervals over the run's own seeds, as tables have them, of what tables are about.

    Of the protocol's default metric and its halves; none where the seeds do not give one.
    """
    from reports.stats import percent_interval  # the one definition of what an interval is

    ends: dict[str, float] = {}
    for name in (protocol.default, *protocol.halves.get(protocol.default, ())):
        values = tested.get(name, ())
        if len(values) > 1 and all(map(math.isfinite, values)):
            found = percent_interval(values)
            ends |= interval_metrics(f"test/{name}", found.low, found.high)
    return ends
