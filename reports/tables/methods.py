"""What a row of the table over datasets stands for: a method's results on each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.contract import COMPLETE, FAIL, MISSING, PRUNED
from reports.read import Study, average
from reports.tables.groups import Group, label, rows_of
from reports.tables.model import Counts, Text, level_id
from reports.tables.pooling import DATASET, Method, worst


@dataclass(frozen=True, eq=False)
class Line:
    """What one row of the table stands for.

    rows: dataset -> seed -> its row, in every state, of the datasets on which it is wanted; test
        metrics by their bare names.
    frame: the same rows.
    halves: a harmonic mean -> the two that it is of.
    added: whether --path ran it.
    """

    labels: tuple[Text, ...]
    rows: dict[str, dict[int, dict[str, Any]]]
    frame: pl.DataFrame
    halves: Mapping[str, tuple[str, str]]
    arm: str = ""
    baseline: bool = False
    added: bool = False

    def finished(self, name: str) -> dict[int, dict[str, Any]]:
        """seed -> row of the seeds that finished on a dataset."""
        rows = self.rows.get(name, {})
        return {seed: row for seed, row in rows.items() if row["state"] == COMPLETE}

    def present(self) -> list[str]:
        """The datasets that any seed finished on: those of the average."""
        return [name for name in self.rows if self.finished(name)]

    def averages(self, metric: str, names: Sequence[str]) -> dict[int, float]:
        """seed -> average of a metric over datasets, of the seeds that finished on each."""
        if not names:
            return {}
        finished = [self.finished(name) for name in names]
        seeds = sorted(set.intersection(*(set(found) for found in finished)))
        try:
            return {s: average([own[s] for own in finished], metric, self.halves) for s in seeds}
        except LookupError:
            return {}  # a mean over some of the seeds would not have the n beside it

    def counts(self, names: Sequence[str]) -> Counts:
        """Seeds that finished on each of the datasets, and what became of the others."""
        rows = [self.rows.get(name, {}) for name in names]
        states = [
            worst([own.get(seed, {}).get("state") for own in rows])
            for seed in sorted({seed for own in rows for seed in own})
        ]
        return Counts(*(states.count(state) for state in (COMPLETE, FAIL, PRUNED, MISSING)))


def method_line(study: Study, method: Method) -> Line:
    """A method's line, with the values of its factors as labels."""
    others = [f for f in study.factors if f.key != DATASET]
    values = method.assignment
    named = [study.constants.get(f"{part}.name", "") for part in ("finetuner", "generator")]
    alone = " + ".join(name for name in named if name not in ("", "none", "null"))
    labels = [label(values.get(f.key)) for f in others] or [Text(alone or "constants")]
    frames = {name: rows_of(study, [key]) for name, key in method.keys.items()}
    active = [f for f in others if f.key in values]
    at_baseline = all(level_id(values[f.key]) == level_id(f.baseline) for f in active)
    at_baseline = bool(others) and at_baseline
    return _line(study, labels, frames, baseline=at_baseline, added=method.added)


def arm_line(study: Study, arm: Group, dataset: str) -> Line:
    """A reference arm's line.

    Args:
        study: with the arm.
        arm: its rows.
        dataset: the one that it ran on.
    """
    return _line(study, arm.labels, {dataset: arm.rows}, arm=arm.arm)


def _line(
    study: Study,
    labels: Sequence[Text],
    frames: Mapping[str, pl.DataFrame],
    *,
    arm: str = "",
    baseline: bool = False,
    added: bool = False,
) -> Line:
    whole = pl.concat(list(frames.values()))
    kept = [name for name in whole.columns if not name.startswith("selection/")]
    bare = {name: name.removeprefix("test/") for name in kept}
    rows = {
        dataset: {row["seed"]: row for row in frame.select(kept).rename(bare).to_dicts()}
        for dataset, frame in frames.items()
    }
    return Line(tuple(labels), rows, whole, study.protocol.halves, arm, baseline, added)
