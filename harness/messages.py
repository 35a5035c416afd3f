"""Messages between driver and workers: a trial's spec, its epochs and its final numbers.

A spec is plain JSON text. Results are dictionaries for Ray Tune.
"""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from harness.device import is_out_of_memory
from harness.method import SPLITS, get_code_version
from harness.store import (
    CLASS,
    CLASS_ID,
    EVAL_SET,
    OBJECTIVE,
    SEEN,
    Failure,
    name_curve_metric,
    name_seed_metric,
    name_stage_metric,
)
from harness.wording import describe_error
from ship.architectures import ImagePrecision
from ship.plugins import find_plugin_identities
from ship.trial_config import (
    CorrectPredictions,
    EpochMetrics,
    NonFiniteLoss,
    TrialConfig,
    join_reasons,
)

# Keys of a result. Results have these two only if the scheduler may stop the trial:
EVALUATIONS = "selection_evaluations"  # number of evaluated selection epochs
LAST_VALUE = "selection_objective"  # mean objective over seeds in the last evaluated epoch
# List of the epochs' messages.
EPOCHS = "epochs"
# The last result of a trial has one of these two keys. The value is a list of one mapping, because
# Tune would flatten a mapping. The keys of the mapping are
#   FINAL: "metrics" (by name in the store), "files" (by path), "device" and FAILED_SEEDS;
#   FAILED: "failure" and "reason".
FINAL, FAILED = "final", "failed"
FAILED_SEEDS = "failed_seeds"  # failed seed -> reason
MACHINE_LOAD = "load"  # metric -> load of the worker's machine, if the study logs it

SeedValues = Mapping[str, Sequence[float | None]]


class FeatureKey(NamedTuple):
    """Key of a feature set that trials read.

    Attributes:
        backbone: Name of the backbone.
        image_precision: Precision of its image encoder.
        dataset: Name of the dataset.
        augmentations: Number of augmented views per training image.
        splits: Splits of the dataset.
    """

    backbone: str
    image_precision: ImagePrecision
    dataset: str
    augmentations: int
    splits: tuple[str, ...] = SPLITS


def list_feature_keys(config: TrialConfig) -> list[FeatureKey]:
    """Return the keys of a trial's feature sets: its dataset, then each target's test split."""
    encoder = config.backbone, config.image_precision
    targets = [FeatureKey(*encoder, target, 0, ("test",)) for target in config.targets]
    return [FeatureKey(*encoder, config.dataset, config.augmentations), *targets]


def make_trial_spec(
    config: TrialConfig, seeds: Sequence[int], may_stop: bool, checkpoint: str = ""
) -> dict[str, Any]:
    """Return a trial as Ray Tune's config: JSON text under one key, so that Tune does not parse it.

    Args:
        config: Config of the trial.
        seeds: Seeds of the trial.
        may_stop: Whether the scheduler may stop the trial.
        checkpoint: Name of the trial's checkpoint. "" if it has none.
    """
    spec = {
        "trial": config.model_dump(mode="json"),
        "seeds": list(seeds),
        "objective": config.selection_metric,
        "may_stop": may_stop,
        "checkpoint": checkpoint,
        # no plugins of datasets: workers do not use them
        "plugins": find_plugin_identities(
            config.generator.name, config.finetuner.name, metrics=config.metrics
        ),
        "code": get_code_version(),
    }
    return {"spec": json.dumps(spec)}


def make_epoch_message(epoch: EpochMetrics, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Return an epoch as a message: the mean of every metric over seeds, by name in the store.

    The means exclude failed seeds, which have no values after their failure.

    Args:
        epoch: Metrics of the epoch.
        seeds: Seeds of the trial, if the message is to contain each seed's values in addition to
            the means.
    """
    metrics = {
        name_stage_metric(epoch.stage, name): fmean(epoch.active_values(name))
        for name in epoch.per_seed
    }
    for name, values in epoch.per_seed.items():
        for seed, value in zip(seeds, values, strict=False):
            if value is not None:
                metrics[name_curve_metric(seed, name_stage_metric(epoch.stage, name))] = value
    return {
        "stage": epoch.stage,
        "epoch": epoch.epoch,
        "progress": epoch.progress,
        "metrics": metrics,
    }


def make_final_numbers(
    tested: EpochMetrics | None,
    by_epoch: Mapping[int, SeedValues],
    seeds: Sequence[int],
    objective: str,
) -> dict[str, float]:
    """Return the final numbers of each seed and the trial's objective, by name in the store.

    Failed seeds have no numbers, and the objective excludes them.

    Args:
        tested: Metrics of the stage "test". None if the trial has not reported this stage.
        by_epoch: Selection epoch -> its metrics per seed, for each evaluated epoch.
        seeds: Seeds of the trial.
        objective: Selection metric whose mean over seeds is the trial's objective. "" if there was
            no selection.

    Raises:
        RuntimeError: The method has not reported the test metrics or the objective.
    """
    if tested is None:
        raise RuntimeError("the trial ended without test metrics")
    indices = [index for index in range(len(seeds)) if index not in tested.failed]
    # Metrics of each seed's selected epoch. A metric is left out if one of these epochs lacks it,
    # as epoch 0 lacks the loss.
    epochs = tested.active_values("selection_epoch") if "selection_epoch" in tested.per_seed else []
    rows = [by_epoch.get(int(epoch), {}) for epoch in epochs]
    values: dict[str, Sequence[float | None]] = {
        f"selection/{name}": [row[name][index] for index, row in zip(indices, rows, strict=True)]
        for name in (rows[0] if rows else ())
        if all(name in row for row in rows)
    }
    for name in tested.per_seed:
        active_values = tested.active_values(name)
        if name == "selection_epoch":
            values[name] = active_values
        elif name.startswith("selection_"):
            values[name.replace("_", "/", 1)] = active_values
        else:
            values[f"test/{name}"] = active_values
    scores = values.get(f"selection/{objective}")
    if objective and scores is None:
        raise RuntimeError(f"the trial ended without a selection value of {objective}")
    numbers = {
        name_seed_metric(seeds[index], name): value
        for name, by_seed in values.items()
        for index, value in zip(indices, by_seed, strict=True)
        if value is not None
    }
    if scores:
        numbers[OBJECTIVE] = fmean(value for value in scores if value is not None)
    return numbers


def encode_failure(
    error: BaseException, seeds: Sequence[int], where: str, gpus: float = 0
) -> dict[str, Any]:
    """Return the content of FAILED: the kind of failure and the reason.

    Args:
        error: Error that ended the trial.
        seeds: Seeds of the trial.
        where: Progress of the trial when it failed, e.g. "after epoch 3 of stage selection".
        gpus: Number of GPUs of the trial, or its share of one.
    """
    if isinstance(error, NonFiniteLoss):
        reasons = {
            seeds[index]: reason if "stage" in reason else f"{reason} {where}"
            for index, reason in error.failed.items()
        }
        return {"failure": Failure.NON_FINITE, "reason": join_reasons(reasons)}
    reason = f"{type(error).__name__}: {describe_error(error)} ({where})"
    if not is_out_of_memory(error):
        return {"failure": Failure.ERROR, "reason": reason}
    if 0 < gpus < 1:
        larger = min(1, 2 * gpus)
        reason += f"; {gpus:g} of a GPU is too small a share: set resources.gpus={larger:g}"
    return {"failure": Failure.OUT_OF_MEMORY, "reason": reason}


def make_correct_file(
    eval_sets: Sequence[CorrectPredictions], seeds: Sequence[int | None]
) -> bytes:
    """Return a parquet file with one row per test image, or b"" without predictions.

    The worker creates the file, because Tune keeps messages in memory and the file is small.

    Args:
        eval_sets: Evaluations. Each has one bit per seed and image: whether the prediction was
            correct.
        seeds: Seeds of the trial. None in place of a failed seed, which gets no column.
    """
    import polars as pl

    if not eval_sets:
        return b""
    # polars cannot infer these types if an evaluation has no images
    types = {EVAL_SET: pl.String, CLASS: pl.String}
    frames = [
        pl.DataFrame(_make_columns(eval_set, seeds), schema_overrides=types)
        for eval_set in eval_sets
    ]
    file = BytesIO()
    pl.concat(frames, how="diagonal").write_parquet(file)
    return file.getvalue()


def _make_columns(
    eval_set: CorrectPredictions, seeds: Sequence[int | None]
) -> dict[str, np.ndarray | list[str]]:
    """Return the columns of make_correct_file for one evaluation, without failed seeds."""
    ids = np.array(eval_set.class_ids, dtype=np.int32)
    columns: dict[str, np.ndarray | list[str]] = {
        EVAL_SET: [eval_set.eval_set] * len(ids),
        CLASS_ID: ids,
        CLASS: [eval_set.class_names[i] for i in ids],
        SEEN: np.array(eval_set.seen)[ids],
    }
    for kind, rows in eval_set.correct.items():
        for seed, row in zip(seeds, rows, strict=True):
            if seed is None:
                continue
            bits = np.unpackbits(np.frombuffer(row, dtype=np.uint8), count=len(ids))
            columns[name_seed_metric(seed, kind)] = bits.astype(bool)
    return columns
