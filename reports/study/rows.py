"""Rows of a study: one per (config_key, seed), from MLflow runs to a tidy polars frame."""

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
# Controls without a generator that could collapse: one has a constant vector per class by
# construction, the other a few real images.
_NOT_DIVERSE = ("text_feature", "real_images")


def trial_records(runs: Iterable[Run], warnings: list[str]) -> list[RunRecord]:
    """Return the records of the trials among a study's runs.

    Args:
        runs: Runs of a study.
        warnings: Gains a line for each trial that cannot be placed in the table.
    """
    records = []
    for run in (run for run in runs if run.tags.get(Tag.KIND) == Kind.TRIAL):
        try:
            records.append(make_run_record(run))
        except StoreError as error:
            warnings.append(f"run {run.run_id} left out: {error}")
    return records


def seed_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return one row per seed of a trial.

    Seconds and text tokens of the trial are divided among its seeds. If a COMPLETE run lacks a
    metric that its protocol requires for a seed, the seed's row has state FAIL with a reason, and
    the next run of the study trains the seed again.
    """
    run, seeds = record.logged, record.seeds
    fields: dict[str, Any] = {
        "config_key": record.config_key,
        "control": record.control,
        "protocol": run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL),
        "selection": run.tags.get(Tag.SELECTION),
        "run_id": run.run_id,
        "started": run.started,
        "seconds": _finite_or_none(run.metrics.get(Cost.SECONDS), len(seeds)),
        "text_tokens": _finite_or_none(run.metrics.get(Cost.TEXT_TOKENS), len(seeds)),
        "peak_memory_mb": _finite_or_none(run.metrics.get(Cost.PEAK_MEMORY)),
        "state": record.state.value,
        "reason": record.reason or None,
    }
    if fields["state"] != COMPLETE:
        return [{**fields, "seed": seed} for seed in seeds]
    rows = []
    for seed, numbers in _finite_metrics(record).items():
        row = {**numbers, **fields, "seed": seed}
        if seed in record.unfinished:
            missing_text = ", ".join(find_missing_metrics(run.tags, run.metrics, seed))
            row = {
                **fields,
                "seed": seed,
                "state": FAIL,
                "reason": f"no finite {missing_text} logged",
            }
        rows.append(row)
    return rows


def _finite_metrics(record: RunRecord) -> dict[int, dict[str, float]]:
    """Return the finite metrics of each seed, by metric name without the seed.

    The flag for collapsed diversity is dropped if no generator could collapse: for the controls in
    _NOT_DIVERSE, and for configurations that are equivalent to them (real images, or text features
    without noise).
    """
    run = record.logged
    numbers: dict[int, dict[str, float]] = {seed: {} for seed in record.seeds}
    generator, scale = run.params.get("generator.name"), run.params.get("generator.scale")
    is_noiseless_text = generator == "gaussian_text" and scale in ("0", "0.0")
    is_like_control = generator == "real" or is_noiseless_text
    can_collapse = record.control not in _NOT_DIVERSE and not is_like_control
    for key, value in run.metrics.items():
        parts = split_seed(key)
        if parts is None or parts[0] not in numbers or _finite_or_none(value) is None:
            continue
        seed, name = parts
        if FLAG in name:
            name = name.removeprefix("test/")
            if not name.startswith(FLAG) or (name == _DIVERSITY and not can_collapse):
                continue
        numbers[seed][name] = value
    return numbers


def _finite_or_none(value: float | None, parts: int = 1) -> float | None:
    """Return a number divided by `parts`; None if it is missing, not finite or too large."""
    if value is None or not math.isfinite(value) or abs(value) >= MAX_METRIC_VALUE:
        return None
    return value / max(parts, 1)


def planned_rows(
    configurations: Sequence[ConfigurationRecord],
    seeds: Sequence[int],
    rows: Iterable[dict[str, Any]],
    warnings: list[str],
) -> tuple[list[dict[str, Any]], int]:
    """Return the row of every planned (configuration, seed), and the number of finished others.

    If several runs have the seed, harness.store.replaces decides which one counts. Without a run,
    the row has state MISSING.

    Args:
        configurations: Planned configurations, including the controls.
        seeds: Planned seeds of each configuration.
        rows: Rows of the runs, oldest first, in any state.
        warnings: Gains a line if any (configuration, seed) finished more than once.
    """
    rows_by_place: dict[tuple[str, int], dict[str, Any]] = {
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
        previous_state = rows_by_place[key]["state"] if key in rows_by_place else ""
        if not previous_state and state == COMPLETE:
            stale_keys.add(key)
        elif previous_state == state == COMPLETE:
            repeated_keys.add(key)
        elif previous_state == MISSING or (previous_state and replaces(state, previous_state)):
            rows_by_place[key] = row
    if repeated_keys:
        warnings.append(
            f"{len(repeated_keys)} (configuration, seed) finished more than once: first kept"
        )
    return list(rows_by_place.values()), len(stale_keys)


def make_study_frame(
    rows: Sequence[Mapping[str, Any]],
    factors: Sequence[FactorRecord],
    configurations: Sequence[ConfigurationRecord],
    metrics: Sequence[str],
) -> pl.DataFrame:
    """Return the tidy frame: fixed columns, metrics, costs, then one column per factor.

    Args:
        rows: Rows of the study.
        factors: The factors. A column is numeric if all levels are numbers, else text.
        configurations: The configurations. Rows are sorted in their order, then by seed.
        metrics: Metrics of the protocol. Each gets a test and a selection column, even if empty.
    """
    metric_columns = [f"{split}/{name}" for split in ("test", "selection") for name in metrics]
    other_columns = sorted(
        {name for row in rows for name in row} - {*_COLUMNS, *_COSTS, *metric_columns}
    )
    columns = {**_COLUMNS, **dict.fromkeys([*metric_columns, *other_columns], pl.Float64), **_COSTS}
    positions = {
        configuration.key: position
        for position, configuration in reversed(list(enumerate(configurations)))
    }
    rows = sorted(rows, key=lambda row: (positions[row["config_key"]], row["seed"]))
    frame = pl.DataFrame(rows, schema=columns, strict=False)
    # A control and a configuration may share a key. The row then has the configuration's levels.
    assignments = {
        configuration.key: configuration.assignment
        for configuration in sorted(
            configurations, key=lambda configuration: not configuration.control
        )
    }
    keys = frame["config_key"].to_list()
    factor_columns = [
        _factor_column(factor.key, [assignments[key].get(factor.key) for key in keys])
        for factor in factors
        if factor.key not in columns
    ]
    return frame.with_columns(factor_columns)


def _factor_column(key: str, values: Sequence[Any]) -> pl.Series:
    """Return a factor's levels as a column of numbers, or of text if some are no numbers.

    In a column of text, levels other than strings are JSON.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and kinds <= {int, float} and all(abs(v) < 2**63 for v in values if type(v) is int):
        kind = pl.Float64 if float in kinds else pl.Int64
        return pl.Series(key, values, dtype=kind, strict=False)
    text = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pl.Series(key, text, dtype=pl.String)
