"""Rows of a study, one per (config_key, seed): from MLflow runs to a tidy polars frame."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from harness.store import (
    COMPLETE,
    DEFAULT_PROTOCOL,
    FAIL,
    FLAG,
    MAX_METRIC_VALUE,
    MISSING,
    ConfigurationRecord,
    Cost,
    FactorRecord,
    Kind,
    Run,
    RunRecord,
    StoreError,
    Tag,
    find_missing_metrics,
    make_run_record,
    replaces,
    split_seed,
)

# First and last columns of the frame, which all studies have.
_COLUMNS: dict[str, Any] = {
    "config_key": pl.String,
    "seed": pl.Int64,
    **dict.fromkeys(("control", "state", "reason", "protocol", "selection"), pl.String),
}
_COSTS: dict[str, Any] = {
    "selection_epoch": pl.Int64,
    **dict.fromkeys(("seconds", "text_tokens", "peak_memory_mb"), pl.Float64),
    "run_id": pl.String,
    "started": pl.Int64,
}

_DIVERSITY = f"{FLAG}diversity_collapse"
# Controls whose features may have low diversity although no generator collapsed: they are a single
# vector per class, or a few real images.
_WITHOUT_DIVERSITY_FLAG = ("text_feature", "real_images")


def get_trial_records(runs: Iterable[Run], warnings: list[str]) -> list[RunRecord]:
    """Return the records of the trials among a study's runs.

    Args:
        runs: Runs of a study.
        warnings: List to which a line is appended for each trial whose record is damaged. These
            trials are left out.
    """
    records = []
    for run in (run for run in runs if run.tags.get(Tag.KIND) == Kind.TRIAL):
        try:
            records.append(make_run_record(run))
        except StoreError as error:
            warnings.append(f"run {run.run_id} left out: {error}")
    return records


def make_seed_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return one row per seed of a trial.

    Seconds and text tokens of the trial are divided equally among its seeds. If a COMPLETE run
    lacks a metric that the protocol requires, for any seed, that seed's row has state FAIL with a
    reason; `ship-sweep` will train the seed again.
    """
    run, seeds = record.logged, record.seeds
    shared_fields: dict[str, Any] = {
        "config_key": record.config_key,
        "control": record.control,
        "protocol": run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL),
        "selection": run.tags.get(Tag.SELECTION),
        "run_id": run.run_id,
        "started": run.started,
        "seconds": _divide_or_none(run.metrics.get(Cost.SECONDS), len(seeds)),
        "text_tokens": _divide_or_none(run.metrics.get(Cost.TEXT_TOKENS), len(seeds)),
        "peak_memory_mb": _divide_or_none(run.metrics.get(Cost.PEAK_MEMORY)),
        "state": record.state.value,
        "reason": record.reason or None,
    }
    if record.state.value != COMPLETE:
        return [{**shared_fields, "seed": seed} for seed in seeds]
    rows = []
    for seed, metrics in _get_finite_metrics(record).items():
        row = {**shared_fields, "seed": seed}
        if seed in record.unfinished:
            missing_text = ", ".join(find_missing_metrics(run.tags, run.metrics, seed))
            row |= {"state": FAIL, "reason": f"no finite {missing_text} logged"}
        else:
            row = {**metrics, **row}
        rows.append(row)
    return rows


def _get_finite_metrics(record: RunRecord) -> dict[int, dict[str, float]]:
    """Return the finite metrics of each seed: seed -> metric name -> value.

    test/flag/NAME becomes flag/NAME. Flags with another prefix, such as those of pseudo-new
    classes, are dropped.

    The flag for collapsed diversity is dropped if no generator could collapse: for the controls in
    _WITHOUT_DIVERSITY_FLAG, and for configurations with the same features (real images, or text
    features without noise).
    """
    run = record.logged
    metrics: dict[int, dict[str, float]] = {seed: {} for seed in record.seeds}
    generator, scale = run.params.get("generator.name"), run.params.get("generator.scale")
    is_noiseless_text = generator == "gaussian_text" and scale in ("0", "0.0")
    is_like_control = generator == "real" or is_noiseless_text
    can_collapse = record.control not in _WITHOUT_DIVERSITY_FLAG and not is_like_control
    for key, value in run.metrics.items():
        seed_and_name = split_seed(key)
        if seed_and_name is None or _divide_or_none(value) is None:
            continue
        seed, name = seed_and_name
        if seed not in metrics:
            continue
        if FLAG in name:
            name = name.removeprefix("test/")
            if not name.startswith(FLAG) or (name == _DIVERSITY and not can_collapse):
                continue
        metrics[seed][name] = value
    return metrics


def _divide_or_none(value: float | None, n_seeds: int = 1) -> float | None:
    """Return a number divided by `n_seeds`; None if it is missing, not finite or too large."""
    if value is None or not math.isfinite(value) or abs(value) >= MAX_METRIC_VALUE:
        return None
    return value / max(n_seeds, 1)


def select_planned_rows(
    configurations: Sequence[ConfigurationRecord],
    seeds: Sequence[int],
    rows: Iterable[dict[str, Any]],
    warnings: list[str],
) -> tuple[list[dict[str, Any]], int]:
    """Select the row of every planned (configuration, seed).

    If several runs have the seed, harness.store.replaces determines which one counts. If no run has
    it, the row has state MISSING.

    Args:
        configurations: Planned configurations, including the controls.
        seeds: Planned seeds of each configuration.
        rows: Rows of the runs, oldest first, in any state.
        warnings: List to which a line is appended if any planned (configuration, seed) finished
            more than once.

    Returns:
        The rows, and the number of (configuration, seed) pairs that finished but are not planned.
    """
    # reversed, so that the first of several configurations with the same key counts
    selected_rows: dict[tuple[str, int], dict[str, Any]] = {
        (configuration.key, seed): {
            "config_key": configuration.key,
            "seed": seed,
            "control": configuration.control,
            "state": MISSING,
        }
        for configuration in reversed(configurations)
        for seed in seeds
    }
    stale_keys, repeated_keys = set(), set()
    for row in rows:
        key, state = (row["config_key"], row["seed"]), row["state"]
        # "" if the pair is not planned
        previous_state = selected_rows[key]["state"] if key in selected_rows else ""
        if not previous_state and state == COMPLETE:
            stale_keys.add(key)
        elif previous_state == state == COMPLETE:
            repeated_keys.add(key)
        elif previous_state == MISSING or (previous_state and replaces(state, previous_state)):
            selected_rows[key] = row
    if repeated_keys:
        warnings.append(
            f"{len(repeated_keys)} (configuration, seed) finished more than once: first kept"
        )
    return list(selected_rows.values()), len(stale_keys)


def make_study_frame(
    rows: Sequence[Mapping[str, Any]],
    factors: Sequence[FactorRecord],
    configurations: Sequence[ConfigurationRecord],
    metrics: Sequence[str],
) -> pl.DataFrame:
    """Return a study's rows as a tidy frame.

    The columns are _COLUMNS, the metrics, _COSTS, and one per factor. The rows are sorted in the
    order of the configurations, then by seed.

    Args:
        rows: Rows of the study.
        factors: The factors. Their columns are numeric if all levels are numbers, else text.
        configurations: The configurations.
        metrics: Metrics of the protocol. Each has a test and a selection column, even if empty.
    """
    metric_columns = [f"{split}/{name}" for split in ("test", "selection") for name in metrics]
    other_columns = sorted(
        {name for row in rows for name in row} - {*_COLUMNS, *_COSTS, *metric_columns}
    )
    columns = {**_COLUMNS, **dict.fromkeys([*metric_columns, *other_columns], pl.Float64), **_COSTS}
    # reversed, so that the first of several configurations with the same key counts
    positions = {
        configuration.key: position
        for position, configuration in reversed(list(enumerate(configurations)))
    }
    rows = sorted(rows, key=lambda row: (positions[row["config_key"]], row["seed"]))
    frame = pl.DataFrame(rows, schema=columns, strict=False)
    # If a control is the same as a configuration, their row has the levels of the configuration,
    # which is after the controls in this order.
    assignments = {
        configuration.key: configuration.assignment
        for configuration in sorted(
            configurations, key=lambda configuration: not configuration.control
        )
    }
    keys = frame["config_key"].to_list()
    factor_columns = [
        _make_factor_column(factor.key, [assignments[key].get(factor.key) for key in keys])
        for factor in factors
        if factor.key not in columns
    ]
    return frame.with_columns(factor_columns)


def _make_factor_column(key: str, values: Sequence[Any]) -> pl.Series:
    """Return a factor's levels as a numeric column, or as text if any level is not a number.

    In a text column, levels other than strings are JSON. Integers that do not fit into 64 bits also
    make the column text.

    Args:
        key: Name of the column.
        values: Level of each row. None if the factor is not active.
    """
    types = {type(value) for value in values} - {type(None)}
    fit_int64 = all(abs(value) < 2**63 for value in values if type(value) is int)
    if types and types <= {int, float} and fit_int64:
        dtype = pl.Float64 if float in types else pl.Int64
        return pl.Series(key, values, dtype=dtype, strict=False)
    texts = [
        value if value is None or isinstance(value, str) else json.dumps(value) for value in values
    ]
    return pl.Series(key, texts, dtype=pl.String)
