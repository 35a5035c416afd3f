"""What travels between driver and worker: a trial's order, epochs as they come, and its numbers.

An order is plain JSON text; results are what Tune takes.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from harness.device import out_of_memory
from harness.method import SPLITS, code_version
from harness.store import (
    CLASS,
    CLASS_ID,
    EXAM,
    OBJECTIVE,
    SEEN,
    Failure,
    curve_metric,
    seed_metric,
    stage_metric,
)
from harness.wording import one_line
from ship.architectures import ImagePrecision
from ship.plugins import identities
from ship.trial_config import EpochMetrics, Hits, NonFiniteLoss, TrialConfig, joined_reasons

# Keys of a result. The first two (how many evaluations there were, and the last one's value) are
# what a scheduler looks at: at evaluated selection epochs of trials that it may stop. FINAL and
# FAILED have their mapping in a list of one, as Tune takes mappings apart: "metrics" by their names
# in the store, "files" of the run by path, "device", LOST (why each seed failed that did);
# "failure" and "reason".
EVALUATIONS = "selection_evaluations"
LAST_VALUE = "selection_objective"
EPOCHS, FINAL, FAILED = "epochs", "final", "failed"
LOST = "failed_seeds"
MACHINE_LOAD = "load"  # of the worker's machine, by metric key; where it is asked for

PerReplica = Mapping[str, Sequence[float | None]]


class Need(NamedTuple):
    """A feature set that trials read, which a worker finds by all that this says."""

    backbone: str
    image_precision: ImagePrecision
    dataset: str
    views: int
    splits: tuple[str, ...] = SPLITS


def needs_of(config: TrialConfig) -> list[Need]:
    """What a trial reads: the dataset that it is trained on, then each target's test pictures."""
    clip = config.backbone, config.image_precision
    targets = [Need(*clip, target, 0, ("test",)) for target in config.targets]
    return [Need(*clip, config.dataset, config.views), *targets]


def trial_spec(
    config: TrialConfig, seeds: Sequence[int], may_stop: bool, checkpoint: str = ""
) -> dict[str, Any]:
    """A trial as Ray carries it: plain JSON text under one key, so that Tune resolves nothing.

    Args:
        config: its setting, trained under every seed.
        may_stop: whether the scheduler may stop it.
        checkpoint: what its checkpoint is called; "": it has none.
    """
    spec = {
        "trial": config.model_dump(mode="json"),
        "seeds": list(seeds),
        "objective": config.selection_metric,
        "may_stop": may_stop,
        "checkpoint": checkpoint,
        # those that run on a worker; a dataset's has done its work by then
        "plugins": identities(config.generator.name, config.finetuner.name),
        "code": code_version(),
    }
    return {"spec": json.dumps(spec)}


def epoch_metrics(item: EpochMetrics, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """An epoch as it travels: the mean of every metric over the seeds, by its name in the store.

    Seeds that have failed are in no mean, and have no curve from then on.

    Args:
        item: the epoch.
        seeds: of the trial, where the curve of each travels, too.
    """
    metrics = {
        stage_metric(item.stage, name): fmean(item.living(name)) for name in item.per_replica
    }
    for name, values in item.per_replica.items():
        for seed, value in zip(seeds, values, strict=False):
            if value is not None:
                metrics[curve_metric(seed, stage_metric(item.stage, name))] = value
    return {"stage": item.stage, "epoch": item.epoch, "progress": item.progress, "metrics": metrics}


def final_numbers(
    tested: EpochMetrics | None,
    by_epoch: Mapping[int, PerReplica],
    seeds: Sequence[int],
    objective: str,
) -> dict[str, float]:
    """The final numbers of a trial by their names in the store: each seed's, and the objective.

    Seeds that have failed have none, and are not in the objective.

    Args:
        tested: stage test; None: there was none.
        by_epoch: the metrics of each evaluated selection epoch.
        seeds: of the trial.
        objective: the selection metric whose mean over the seeds is the setting's objective; "":
            nothing was selected, and it has none.

    Raises:
        RuntimeError: the method has left them out.
    """
    if tested is None:
        raise RuntimeError("the trial ended without test metrics")
    places = [place for place in range(len(seeds)) if place not in tested.failed]
    # all of each replica's chosen epoch, such as its loss, which epoch 0 has not
    chosen = tested.living("selection_epoch") if "selection_epoch" in tested.per_replica else []
    rows = [by_epoch.get(int(epoch), {}) for epoch in chosen]
    values: dict[str, Sequence[float | None]] = {
        f"selection/{name}": [row[name][place] for place, row in zip(places, rows, strict=True)]
        for name in (rows[0] if rows else ())
        if all(name in row for row in rows)
    }
    for name in tested.per_replica:
        own = tested.living(name)
        if name.startswith("selection_"):
            name = name if name == "selection_epoch" else name.replace("_", "/", 1)
            values[name] = own
        else:
            values[f"test/{name}"] = own
    selected = values.get(f"selection/{objective}")
    if objective and selected is None:
        raise RuntimeError(f"the trial ended without a selection value of {objective}")
    numbers = {
        seed_metric(seeds[place], name): value
        for name, every in values.items()
        for place, value in zip(places, every, strict=True)
        if value is not None
    }
    if selected:
        numbers[OBJECTIVE] = fmean(value for value in selected if value is not None)
    return numbers


def failure(
    error: BaseException, seeds: Sequence[int], where: str, gpus: float = 0
) -> dict[str, Any]:
    """What FAILED holds: the kind of failure and the reason.

    Args:
        error: that ended the trial.
        seeds: of the trial.
        where: the trial was when it failed, e.g. "at stage selection, epoch 3".
        gpus: Number of GPUs of the trial, or its share of one.
    """
    if isinstance(error, NonFiniteLoss):
        reasons = {
            seeds[place]: reason if "stage" in reason else f"{reason} {where}"
            for place, reason in error.failed.items()
        }
        return {"failure": Failure.NON_FINITE, "reason": joined_reasons(reasons)}
    reason = f"{type(error).__name__}: {one_line(error)} ({where})"
    if not out_of_memory(error):
        return {"failure": Failure.ERROR, "reason": reason}
    if 0 < gpus < 1:
        larger = min(1, 2 * gpus)
        reason += f"; {gpus:g} of a GPU is too small a share: set resources.gpus={larger:g}"
    return {"failure": Failure.OUT_OF_MEMORY, "reason": reason}


def hits_file(exams: Sequence[Hits], seeds: Sequence[int | None]) -> bytes:
    """A parquet file of one row a test picture; empty where there are no answers.

    The worker makes it: what travels, and stays in Tune's memory, is then small.

    Args:
        exams: the right answers on each exam's pictures, of a replica for each seed.
        seeds: of the trial; None in place of one that has failed, and has no column.
    """
    import polars as pl

    if not exams:
        return b""
    text = {EXAM: pl.String, CLASS: pl.String}  # also where an exam has no pictures
    frames = [pl.DataFrame(_columns(exam, seeds), schema_overrides=text) for exam in exams]
    file = BytesIO()
    pl.concat(frames, how="diagonal").write_parquet(file)
    return file.getvalue()


def _columns(exam: Hits, seeds: Sequence[int | None]) -> dict[str, np.ndarray | list[str]]:
    ids = np.array(exam.class_ids, dtype=np.int32)
    columns: dict[str, np.ndarray | list[str]] = {
        EXAM: [exam.exam] * len(ids),
        CLASS_ID: ids,
        CLASS: [exam.class_names[i] for i in ids],
        SEEN: np.array(exam.seen)[ids],
    }
    for kind, rows in exam.right.items():
        for seed, row in zip(seeds, rows, strict=True):
            if seed is None:
                continue
            bits = np.unpackbits(np.frombuffer(row, dtype=np.uint8), count=len(ids))
            columns[seed_metric(seed, kind)] = bits.astype(bool)
    return columns
