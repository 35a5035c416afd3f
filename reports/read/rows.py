"""The rows of a study: one per (setting_key, seed), from runs to a tidy polars frame."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.contract import (
    ARMS,
    COMPLETE,
    DEFAULT_PROTOCOL,
    FAIL,
    FLAG,
    MISSING,
    PROTOCOLS,
    PRUNED,
    Cost,
    Tag,
    split_seed,
)
from reports.read.runs import Run

_COLUMNS: dict[str, Any] = {
    "setting_key": pl.String,
    "seed": pl.Int64,
    "arm": pl.String,
    "state": pl.String,
    "reason": pl.String,
    "protocol": pl.String,
    "selection": pl.String,
}
_COSTS: dict[str, Any] = {
    "selection_epoch": pl.Int64,
    "seconds": pl.Float64,
    "text_tokens": pl.Float64,
    "peak_memory_mb": pl.Float64,
    "run_id": pl.String,
    "started": pl.Int64,
}


# Of several runs of one (setting, seed) the one that counts; a run that was cut short never does.
_RANK = {COMPLETE: 3, PRUNED: 2, FAIL: 1}
# MLflow's SQL store writes an infinity as the largest float.
_LARGEST = 1e300


@dataclass(frozen=True)
class Factor:
    """One factor of the study; levels is None where it is a range."""

    key: str
    levels: tuple[Any, ...] | None
    log: bool
    baseline: Any


@dataclass(frozen=True)
class Setting:
    """One setting that the study wants: its key, its factor values, its arm ("" if none).

    seeds: that it is wanted for; None: the study's.
    added: whether `ship-sweep --path` asked for its results, not the grid or the sampler.
    """

    key: str
    assignment: dict[str, Any]
    arm: str
    seeds: tuple[int, ...] | None = None
    added: bool = False


def in_words(assignment: Mapping[str, Any], arm: str) -> str:
    """A setting as a message names it: "generator.n_ctx=4", or its arm."""
    told = ARMS[arm][0] if arm in ARMS else ", ".join(f"{k}={v}" for k, v in assignment.items())
    return (told or arm or "constants").encode(errors="replace").decode()  # half a character


def seed_rows(run: Run, warnings: list[str]) -> list[dict[str, Any]]:
    """One row per seed of a run; a run's cost is divided over its seeds."""
    seeds: list[int] = json.loads(run.tags[Tag.SEEDS])
    shared = {
        "setting_key": run.tags[Tag.SETTING_KEY],
        "arm": run.tags.get(Tag.ARM, ""),
        "protocol": run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL),
        "selection": run.tags.get(Tag.SELECTION),
        "run_id": run.run_id,
        "started": run.started,
        "seconds": _share(run.metrics.get(Cost.SECONDS), len(seeds)),
        "text_tokens": _share(run.metrics.get(Cost.TEXT_TOKENS), len(seeds)),
        "peak_memory_mb": _finite(run.metrics.get(Cost.PEAK_MEMORY)),
        "state": run.tags.get(Tag.STATE, "RUNNING"),
        "reason": run.tags.get(Tag.REASON),
    }
    if shared["state"] != COMPLETE:
        return [{**shared, "seed": seed} for seed in seeds]
    numbers, raised = _by_seed(run), _raised(run, warnings)
    return [
        {**shared, "seed": seed, **_result(run, seed, numbers.get(seed, {}), raised, warnings)}
        for seed in seeds
    ]


def _result(
    run: Run,
    seed: int,
    numbers: Mapping[str, float],
    raised: Mapping[str, Sequence[int]],
    warnings: list[str],
) -> dict[str, Any]:
    """Numbers and flags of one finished seed; without what its protocol requires it has failed."""
    protocol = PROTOCOLS.get(run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL))
    required = protocol.required if protocol else ()
    absent = [name for name in required if f"test/{name}" not in numbers]
    if absent:
        # A setting marked COMPLETE without its numbers is a failure with a reason, never a 0.
        reason = f"no finite test/{', test/'.join(absent)} logged"
        named = in_words(json.loads(run.tags.get(Tag.ASSIGNMENT, "{}")), run.tags.get(Tag.ARM, ""))
        place = f"run {run.run_id} ({named}), seed {seed}"
        warnings.append(f"{place}: COMPLETE, but {reason}; counted as failed")
        return {"state": FAIL, "reason": reason}
    flags = {name.removeprefix("test/"): v for name, v in numbers.items() if FLAG in name}
    flags |= {f"{FLAG}{name}": 1.0 for name, seeds in raised.items() if seed in seeds}
    measured = {name: value for name, value in numbers.items() if FLAG not in name}
    return {**measured, **{k: v for k, v in flags.items() if k.startswith(FLAG)}}


def _by_seed(run: Run) -> dict[int, dict[str, float]]:
    """seed -> metric name without its seed -> finite value, in one pass over all metrics."""
    found: dict[int, dict[str, float]] = {}
    for key, value in run.metrics.items():
        own = split_seed(key)
        if own is not None and _finite(value) is not None:
            seed, name = own
            found.setdefault(seed, {})[name] = value
    return found


def _raised(run: Run, warnings: list[str]) -> dict[str, list[int]]:
    """Flag -> the seeds that raised it; {} of a run without the tag."""
    try:
        raised = json.loads(run.tags.get(Tag.FLAGS, "{}"))
        return {str(name): [int(seed) for seed in seeds] for name, seeds in raised.items()}
    except (AttributeError, TypeError, ValueError):
        warnings.append(f"run {run.run_id}: {Tag.FLAGS} unreadable, its flags left out")
        return {}


def _finite(value: float | None) -> float | None:
    known = value is not None and math.isfinite(value) and abs(value) < _LARGEST
    return value if known else None


def _share(value: float | None, parts: int) -> float | None:
    total = _finite(value)
    return None if total is None else total / max(parts, 1)


def one_per_seed(rows: Iterable[dict[str, Any]], warnings: list[str]) -> list[dict[str, Any]]:
    """Keep of every (setting_key, seed) the best ended row, of two COMPLETE ones the first.

    So does the ledger that a study goes on from; of other equals the newest is kept.

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
            continue
        kept[place] = row
    if twice:
        warnings.append(f"{len(twice)} (setting, seed) finished more than once: first kept")
    return list(kept.values())


def missing_rows(
    settings: Sequence[Setting], seeds: Sequence[int], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A row in state MISSING for every wanted (setting, seed) without a run.

    Args:
        settings: that the study wants, its reference arms among them.
        seeds: that it wants of each that has none of its own.
        rows: the runs' rows, in any state.
    """
    have = {(row["setting_key"], row["seed"]) for row in rows}
    wanted = {(s.key, seed): s.arm for s in reversed(settings) for seed in s.seeds or seeds}
    return [
        {"setting_key": key, "seed": seed, "arm": arm, "state": MISSING}
        for (key, seed), arm in wanted.items()
        if (key, seed) not in have
    ]


def frame(
    rows: Sequence[Mapping[str, Any]],
    factors: Sequence[Factor],
    settings: Sequence[Setting],
    metrics: Sequence[str],
) -> pl.DataFrame:
    """The tidy frame: ledger columns, then one column a factor (numbers, else text).

    Args:
        metrics: the protocol's; they have a test and a selection column each, empty ones too.
    """
    known = [f"{split}/{name}" for split in ("test", "selection") for name in metrics]
    taken = {*_COLUMNS, *_COSTS}
    others = sorted({name for row in rows for name in row} - taken - set(known))
    columns = {**_COLUMNS, **dict.fromkeys([*known, *others], pl.Float64), **_COSTS}
    whole = {"selection_epoch": [_whole(row.get("selection_epoch")) for row in rows]}
    data = {name: [row.get(name) for row in rows] for name in columns if name not in whole}
    frame = pl.DataFrame({**data, **whole}, schema_overrides=columns).select(list(columns))
    # The study's arms and settings may share a key; the setting's values then describe the row.
    assigned = {s.key: s.assignment for s in sorted(settings, key=lambda s: not s.arm)}
    keys = frame["setting_key"].to_list()
    found = [
        _column(factor.key, [assigned[key].get(factor.key) for key in keys])
        for factor in factors
        if factor.key not in columns
    ]
    order = {s.key: place for place, s in reversed(list(enumerate(settings)))}
    place = pl.Series("place", [order[key] for key in keys], dtype=pl.Int64)
    return frame.with_columns(*found, place).sort("place", "seed").drop("place")


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _column(key: str, values: Sequence[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if any(type(value) is int and not -(2**63) <= value < 2**63 for value in values):
        kinds = {str}  # no column holds it as a number
    if kinds == {int}:
        return pl.Series(key, values, dtype=pl.Int64)
    if kinds <= {int, float} and kinds:
        return pl.Series(key, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    text = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pl.Series(key, text, dtype=pl.String)
