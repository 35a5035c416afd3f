"""The rows of a study: one per (setting_key, seed), from runs to a tidy polars frame."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from reports.contract import (
    COMPLETE,
    DEFAULT_PROTOCOL,
    FAIL,
    FLAG,
    LARGEST,
    MISSING,
    PRECEDENCE,
    Cost,
    Kind,
    Tag,
    missing_metrics,
    split_seed,
)
from reports.read.runs import Run
from reports.read.tags import Factor, Seeds, Setting

_COLUMNS: dict[str, Any] = {
    "setting_key": pl.String,
    "seed": pl.Int64,
    **dict.fromkeys(("arm", "state", "reason", "protocol", "selection"), pl.String),
}
_COSTS: dict[str, Any] = {
    "selection_epoch": pl.Int64,
    **dict.fromkeys(("seconds", "text_tokens", "peak_memory_mb"), pl.Float64),
    "run_id": pl.String,
    "started": pl.Int64,
}

_DIVERSITY = f"{FLAG}diversity_collapse"
# A point by construction, and a few real pictures a class: neither is a generator's collapse.
_NOT_DIVERSE = ("text_feature", "real_pictures")
_SEEDS = TypeAdapter(Seeds)
_ASSIGNMENT = TypeAdapter(dict[str, Any])


def trials_of(runs: Iterable[Run], warnings: list[str]) -> list[tuple[Run, Setting, Seeds]]:
    """The trials among a study's runs, each with the setting and seeds that its tags say it is of.

    There is a warning of each that cannot be placed in the table.
    """
    found = []
    for run in (run for run in runs if run.tags[Tag.KIND] == Kind.TRIAL):
        try:
            assignment = _ASSIGNMENT.validate_json(run.tags.get(Tag.ASSIGNMENT, "{}"))
            arm = run.tags.get(Tag.ARM, "")
            seeds = _SEEDS.validate_json(run.tags[Tag.SEEDS], strict=True)
            found.append((run, Setting(run.tags[Tag.SETTING_KEY], assignment, arm), seeds))
        except (KeyError, ValidationError):
            line = f"run {run.run_id} left out: setting_key, seeds or assignment unreadable"
            warnings.append(line)
    return found


def seed_rows(run: Run, setting: Setting, seeds: Seeds) -> list[dict[str, Any]]:
    """One row per seed of a trial; a run's cost is divided over its seeds, a flag has no split.

    A seed of a COMPLETE run without what its protocol requires is a failure with a reason, never a
    0. The next run of the study runs it again.
    No metric stands for what the run's tags and costs say.
    """
    shared: dict[str, Any] = {
        "setting_key": setting.key,
        "arm": setting.arm,
        "protocol": run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL),
        "selection": run.tags.get(Tag.SELECTION),
        "run_id": run.run_id,
        "started": run.started,
        "seconds": _finite(run.metrics.get(Cost.SECONDS), len(seeds)),
        "text_tokens": _finite(run.metrics.get(Cost.TEXT_TOKENS), len(seeds)),
        "peak_memory_mb": _finite(run.metrics.get(Cost.PEAK_MEMORY)),
        "state": run.tags.get(Tag.STATE, "RUNNING"),
        "reason": run.tags.get(Tag.REASON),
    }
    if shared["state"] != COMPLETE:
        return [{**shared, "seed": seed} for seed in seeds]
    rows = []
    for seed, numbers in _numbers(run, setting, seeds).items():
        row = {**numbers, **shared, "seed": seed}
        if missing := missing_metrics(run.tags, run.metrics, seed):
            reason = f"no finite {', '.join(missing)} logged"
            row = {**shared, "seed": seed, "state": FAIL, "reason": reason}
        rows.append(row)
    return rows


def _numbers(run: Run, setting: Setting, seeds: Seeds) -> dict[int, dict[str, float]]:
    """seed -> metric name without its seed -> finite value, in one pass over all metrics.

    Without a collapse of diversity where diversity was never to be had: of the reference arms named
    above, and of settings whose generator is that of such an arm: text features without noise.
    """
    numbers: dict[int, dict[str, float]] = {seed: {} for seed in seeds}
    name, scale = (run.params.get(f"generator.{key}") for key in ("name", "scale"))
    point = name == "real" or (name == "gaussian_text" and scale in ("0", "0.0"))
    diverse = setting.arm not in _NOT_DIVERSE and not point
    for key, value in run.metrics.items():
        found = split_seed(key)
        if found is None or found[0] not in numbers or _finite(value) is None:
            continue
        seed, name = found
        if FLAG in name:
            name = name.removeprefix("test/")
            if not name.startswith(FLAG) or (name == _DIVERSITY and not diverse):
                continue
        numbers[seed][name] = value
    return numbers


def _finite(value: float | None, parts: int = 1) -> float | None:
    """A number, or its share; None of what is none."""
    if value is None or not math.isfinite(value) or abs(value) >= LARGEST:
        return None
    return value / max(parts, 1)


def wanted_rows(
    settings: Sequence[Setting],
    seeds: Sequence[int],
    rows: Iterable[dict[str, Any]],
    warnings: list[str],
) -> tuple[list[dict[str, Any]], int]:
    """The row of every (setting, seed) that a study wants, and how many others have finished.

    It is the best ended row, of two COMPLETE ones the first. So does the ledger that a study goes
    on from; of other equals the newest is kept. Without any it is in state MISSING.

    Args:
        settings: that the study wants, its reference arms among them.
        seeds: that it wants of each.
        rows: of the runs, oldest first, in any state.
        warnings: gains a line where something finished more than once.
    """
    kept: dict[tuple[str, int], dict[str, Any]] = {
        (s.key, seed): {"setting_key": s.key, "seed": seed, "arm": s.arm, "state": MISSING}
        for s in reversed(settings)
        for seed in seeds
    }
    stale, twice = set(), set()
    for row in rows:
        place, state = (row["setting_key"], row["seed"]), row["state"]
        held = kept[place]["state"] if place in kept else ""
        if not held and state == COMPLETE:
            stale.add(place)
        elif held == state == COMPLETE:
            twice.add(place)
        elif held == MISSING or (held and PRECEDENCE.get(state, 0) >= PRECEDENCE.get(held, 0)):
            kept[place] = row
    if twice:
        warnings.append(f"{len(twice)} (setting, seed) finished more than once: first kept")
    return list(kept.values()), len(stale)


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
    others = sorted({name for row in rows for name in row} - {*_COLUMNS, *_COSTS, *known})
    columns = {**_COLUMNS, **dict.fromkeys([*known, *others], pl.Float64), **_COSTS}
    place = {s.key: place for place, s in reversed(list(enumerate(settings)))}
    rows = sorted(rows, key=lambda row: (place[row["setting_key"]], row["seed"]))
    frame = pl.DataFrame(rows, schema=columns, strict=False)
    # The study's arms and settings may share a key; the setting's values then describe the row.
    assigned = {s.key: s.assignment for s in sorted(settings, key=lambda s: not s.arm)}
    keys = frame["setting_key"].to_list()
    found = [
        _column(factor.key, [assigned[key].get(factor.key) for key in keys])
        for factor in factors
        if factor.key not in columns
    ]
    return frame.with_columns(found)


def _column(key: str, values: Sequence[Any]) -> pl.Series:
    """Whole numbers, numbers, or texts: those of YAML where levels are of several kinds."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and kinds <= {int, float} and all(abs(v) < 2**63 for v in values if type(v) is int):
        kind = pl.Float64 if float in kinds else pl.Int64
        return pl.Series(key, values, dtype=kind, strict=False)
    text = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    return pl.Series(key, text, dtype=pl.String)
