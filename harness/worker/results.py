"""What a worker tells the driver: epochs as they come, then a number or a reason for each setting.

A Ray trial has one setting, or several that are trained fused: replicas stand setting by setting,
each under the same seeds.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.resources import out_of_memory
from reports.contract import Failure
from ship.epoch_metrics import EpochMetrics, NonFiniteLoss

# Keys of a result. The first two (how many evaluations there were, and the last one's value of each
# setting) are what a scheduler looks at; they are there at evaluated selection epochs alone. A
# setting that must not be stopped has no value. FINAL and FAILED have an entry for each setting.
EVALUATIONS = "selection_evaluations"
OBJECTIVE = "selection_objective"
EPOCHS, FINAL, FAILED = "epochs", "final", "failed"
LOAD = "load"  # of the worker's machine, by metric key; where it is asked for

PerReplica = Mapping[str, Sequence[float]]


def split(values: Sequence[float], n_settings: int) -> list[list[float]]:
    """Values of replicas, setting by setting."""
    n_seeds = len(values) // n_settings
    return [list(values[i * n_seeds : (i + 1) * n_seeds]) for i in range(n_settings)]


def mean(values: Sequence[float]) -> float:
    """Over the seeds of a setting."""
    return math.fsum(values) / len(values)


def epoch_means(item: EpochMetrics, n_settings: int, *, seeds: bool = False) -> dict[str, Any]:
    """An epoch as it travels: of each setting, every metric's mean over its seeds.

    Args:
        item: the epoch.
        n_settings: that are trained together.
        seeds: whether each seed's own values travel, too.
    """
    parts = {name: split(values, n_settings) for name, values in item.per_replica.items()}
    return {
        "stage": item.stage,
        "epoch": item.epoch,
        "progress": item.progress,
        "means": [
            {name: mean(values[place]) for name, values in parts.items()}
            for place in range(n_settings)
        ],
        "seeds": [
            {name: values[place] for name, values in parts.items()} if seeds else {}
            for place in range(n_settings)
        ],
    }


def chosen(test: PerReplica, by_epoch: Mapping[int, PerReplica]) -> dict[str, list[float]]:
    """Each selection metric at the epoch that selection chose for each replica.

    Args:
        test: the metrics of stage test.
        by_epoch: those of each evaluated selection epoch.
    """
    epochs = [int(epoch) for epoch in test.get("selection_epoch", ())]
    values: dict[str, list[float]] = {}
    if epochs and all(epoch in by_epoch for epoch in epochs):
        # epoch 0 has no loss
        for name in by_epoch[epochs[0]]:
            if all(name in by_epoch[epoch] for epoch in epochs):
                values[name] = [by_epoch[e][name][i] for i, e in enumerate(epochs)]
    for name, reported in test.items():
        if name.startswith("selection_") and name != "selection_epoch":
            values[name.removeprefix("selection_")] = list(reported)
    return values


def final_numbers(
    tested: EpochMetrics | None,
    by_epoch: Mapping[int, PerReplica],
    objective: str,
    n_settings: int,
) -> list[dict[str, Any]]:
    """The final numbers of each setting: test, selection, selection_epoch, objective.

    Args:
        tested: stage test; None: there was none.
        by_epoch: the metrics of each evaluated selection epoch.
        objective: the selection metric whose mean over the seeds is a setting's objective; "":
            nothing was selected, and it has none.
        n_settings: that were trained together.

    Raises:
        RuntimeError: the method has left them out.
    """
    if tested is None:
        raise RuntimeError("the trial ended without test metrics")
    test = tested.per_replica
    selection = chosen(test, by_epoch)
    if objective and objective not in selection:
        raise RuntimeError(f"the trial ended without a selection value of {objective}")
    extra = ("selection_epoch", *(f"selection_{name}" for name in selection))
    measured = {name: values for name, values in test.items() if name not in extra}

    def of(values: Sequence[float], place: int) -> list[float]:
        return split(values, n_settings)[place]

    return [
        {
            "test": {name: of(values, place) for name, values in measured.items()},
            "selection": {name: of(values, place) for name, values in selection.items()},
            "selection_epoch": of(test.get("selection_epoch", ()), place),
            "objective": mean(of(selection[objective], place)) if objective else None,
        }
        for place in range(n_settings)
    ]


def failures(
    error: Exception, n_settings: int, seeds: Sequence[int], where: str
) -> list[dict[str, Any]]:
    """Of each setting, its failure and the reason; failure None: it is not to blame.

    Args:
        where: the trial was when it failed, e.g. "at stage selection, epoch 3".
    """
    n = len(seeds)
    if isinstance(error, NonFiniteLoss):
        return [
            _not_finite(error, range(i * n, (i + 1) * n), seeds, where, n * n_settings)
            for i in range(n_settings)
        ]
    first = (str(error).strip().splitlines() or [""])[0][:300]
    reason = f"{type(error).__name__}: {first} ({where})"
    # of several settings, nobody knows whose fault it was
    kind = Failure.OUT_OF_MEMORY if out_of_memory(error) else Failure.ERROR
    failure = kind if n_settings == 1 else None
    return [{"failure": failure, "reason": reason}] * n_settings


def _not_finite(
    error: NonFiniteLoss, own: range, seeds: Sequence[int], where: str, n_replicas: int
) -> dict[str, Any]:
    what = error.what if "stage" in error.what else f"{error.what} {where}"
    bad = [str(seeds[i - own.start]) for i in error.replicas if i in own]
    if not bad and len(own) < n_replicas:
        return {"failure": None, "reason": f"trained beside a setting that failed: {what}"}
    return {"failure": Failure.NON_FINITE, "reason": f"{what} (seeds {', '.join(bad)})"}
