"""The rows of a study: one per (setting_key, seed), from runs to a tidy polars frame."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports import schema
from reports.schema import COMPLETE, FAIL, METRICS, MISSING, PRUNED, REQUIRED
from reports.store import Run

_COLUMNS: dict[str, Any] = {
    "setting_key": pl.String,
    "seed": pl.Int64,
    "arm": pl.String,
    "state": pl.String,
    "reason": pl.String,
    "selection": pl.String,
    **{f"test/{name}": pl.Float64 for name in METRICS},
    **{f"selection/{name}": pl.Float64 for name in METRICS},
    "selection_epoch": pl.Float64,
    "seconds": pl.Float64,
    "text_tokens": pl.Float64,
    "peak_memory_mb": pl.Float64,
    "run_id": pl.String,
    "started": pl.Int64,
}


# Of several runs of one (setting, seed) the one that counts; a run that was cut short never does.
_RANK = {COMPLETE: 3, PRUNED: 2, FAIL: 1}


@dataclass(frozen=True)
class Factor:
    """One factor of the study; levels is None where it is a range."""

    key: str
    levels: tuple[Any, ...] | None
    log: bool
    baseline: Any


@dataclass(frozen=True)
class Setting:
    """One setting that the study wants: its key, its factor values, its arm ("" if none)."""

    key: str
    assignment: dict[str, Any]
    arm: str


def seed_rows(run: Run, warnings: list[str]) -> list[dict[str, Any]]:
    """One row per seed of a run; a run's cost is divided over its seeds."""
    seeds: list[int] = json.loads(run.tags[schema.TAG_SEEDS])
    shared = {
        "setting_key": run.tags[schema.TAG_KEY],
        "arm": run.tags.get(schema.TAG_ARM, ""),
        "selection": run.tags.get(schema.TAG_SELECTION),
        "run_id": run.run_id,
        "started": run.started,
        "seconds": _share(run.metrics.get("cost/seconds"), len(seeds)),
        "text_tokens": _share(run.metrics.get("cost/text_tokens"), len(seeds)),
        "peak_memory_mb": _finite(run.metrics.get("cost/peak_memory_mb")),
    }
    return [{**shared, **_result(run, seed, warnings)} for seed in seeds]


def _result(run: Run, seed: int, warnings: list[str]) -> dict[str, Any]:
    """State, reason and numbers of one seed; numbers only where the state is COMPLETE."""
    row: dict[str, Any] = {"seed": seed, "state": run.tags.get(schema.TAG_STATE, "RUNNING")}
    row["reason"] = run.tags.get(schema.TAG_REASON)
    if row["state"] != COMPLETE:
        return row
    own = {k: _finite(run.metrics.get(f"seed_{seed}/{k}")) for k in _metric_names()}
    absent = [name for name in REQUIRED if own[f"test/{name}"] is None]
    if absent:
        # A setting marked COMPLETE without its numbers is a failure with a reason, never a 0.
        reason = f"no finite test/{', test/'.join(absent)} logged"
        warnings.append(f"run {run.run_id}, seed {seed}: COMPLETE, but {reason}; counted as failed")
        return {**row, "state": FAIL, "reason": reason}
    return {**row, **own}


def _metric_names() -> list[str]:
    scored = [f"{split}/{name}" for split in ("test", "selection") for name in METRICS]
    return [*scored, "selection_epoch"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _share(value: float | None, parts: int) -> float | None:
    total = _finite(value)
    return None if total is None else total / max(parts, 1)


def one_per_seed(rows: Iterable[dict[str, Any]], warnings: list[str]) -> list[dict[str, Any]]:
    """Keep of every (setting_key, seed) the best ended row, the newest of equals.

    Args:
        rows: oldest first.
        warnings: gains a line where something finished more than once.
    """
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    twice: set[tuple[str, int]] = set()
    for row in rows:
        place = (row["setting_key"], row["seed"])
        rank, held = _RANK.get(row["state"], 0), kept.get(place)
        if held is not None and rank < _RANK.get(held["state"], 0):
            continue
        if held is not None and held["state"] == row["state"] == COMPLETE:
            twice.add(place)
        kept[place] = row
    if twice:
        warnings.append(f"{len(twice)} (setting, seed) finished more than once: newest kept")
    return list(kept.values())


def missing_rows(
    settings: Sequence[Setting], seeds: Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A row in state MISSING for every wanted (setting, seed) without a run."""
    have = {(row["setting_key"], row["seed"]) for row in rows}
    wanted = {(s.key, seed): s.arm for s in reversed(settings) for seed in seeds}
    return [
        {"setting_key": key, "seed": seed, "arm": arm, "state": MISSING}
        for (key, seed), arm in wanted.items()
        if (key, seed) not in have
    ]


def frame(
    rows: Sequence[Mapping[str, Any]], factors: Sequence[Factor], settings: Sequence[Setting]
) -> pl.DataFrame:
    """The tidy frame: ledger columns, then one column a factor (numbers, else text)."""
    frame = pl.DataFrame(list(rows), schema=_COLUMNS).with_columns(
        pl.col("selection_epoch").cast(pl.Int64)
    )
    # The study's arms and settings may share a key; the setting's values then describe the row.
    assigned = {s.key: s.assignment for s in sorted(settings, key=lambda s: not s.arm)}
    for factor in factors:
        if factor.key in frame.columns:
            continue
        values = [assigned[key].get(factor.key) for key in frame["setting_key"]]
        frame = frame.with_columns(_column(factor.key, values))
    order = {s.key: place for place, s in reversed(list(enumerate(settings)))}
    place = pl.Series("place", [order[key] for key in frame["setting_key"]], dtype=pl.Int64)
    return frame.with_columns(place).sort("place", "seed").drop("place")


def _column(key: str, values: Sequence[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return pl.Series(key, values, dtype=pl.Int64)
    if kinds <= {int, float} and kinds:
        return pl.Series(key, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    text = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pl.Series(key, text, dtype=pl.String)
