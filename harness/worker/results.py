"""What a worker tells the driver: epochs as they come, then the numbers or a reason."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.resources import out_of_memory
from reports.contract import Failure
from ship.trial_config import EpochMetrics, NonFiniteLoss

# Keys of a result. The first two (how many evaluations there were, and the last one's value) are
# what a scheduler looks at: at evaluated selection epochs of trials that it may stop. FINAL and
# FAILED have their mapping in a list of one, as Tune takes mappings apart.
EVALUATIONS = "selection_evaluations"
OBJECTIVE = "selection_objective"
EPOCHS, FINAL, FAILED = "epochs", "final", "failed"
LOAD = "load"  # of the worker's machine, by metric key; where it is asked for

PerReplica = Mapping[str, Sequence[float]]


def mean(values: Sequence[float]) -> float:
    """Over the seeds of a setting."""
    return math.fsum(values) / len(values)


def epoch_means(item: EpochMetrics, *, seeds: bool = False) -> dict[str, Any]:
    """An epoch as it travels: every metric's mean over the seeds.

    Args:
        item: the epoch.
        seeds: whether each seed's own values travel, too.
    """
    return {
        "stage": item.stage,
        "epoch": item.epoch,
        "progress": item.progress,
        "means": {name: mean(values) for name, values in item.per_replica.items()},
        "seeds": {name: list(own) for name, own in item.per_replica.items()} if seeds else {},
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
    tested: EpochMetrics | None, by_epoch: Mapping[int, PerReplica], objective: str
) -> dict[str, Any]:
    """The final numbers of a trial: test, selection, selection_epoch, objective.

    Args:
        tested: stage test; None: there was none.
        by_epoch: the metrics of each evaluated selection epoch.
        objective: the selection metric whose mean over the seeds is the setting's objective; "":
            nothing was selected, and it has none.

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
    return {
        "test": {name: list(values) for name, values in test.items() if name not in extra},
        "selection": selection,
        "selection_epoch": list(test.get("selection_epoch", ())),
        "objective": mean(selection[objective]) if objective else None,
    }


def failure(error: Exception, seeds: Sequence[int], where: str) -> dict[str, Any]:
    """What FAILED holds: the kind of failure and the reason.

    Args:
        error: that ended the trial.
        seeds: of the trial.
        where: the trial was when it failed, e.g. "at stage selection, epoch 3".
    """
    if isinstance(error, NonFiniteLoss):
        what = error.what if "stage" in error.what else f"{error.what} {where}"
        bad = ", ".join(str(seeds[place]) for place in error.replicas)
        return {"failure": Failure.NON_FINITE, "reason": f"{what} (seeds {bad})"}
    first = (str(error).strip().splitlines() or [""])[0][:300]
    kind = Failure.OUT_OF_MEMORY if out_of_memory(error) else Failure.ERROR
    return {"failure": kind, "reason": f"{type(error).__name__}: {first} ({where})"}
