"""Groups: the rows behind one line of a table, and their numbers by seed."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from harness.store import (
    COMPLETE,
    FAIL,
    FLAG,
    PRUNED,
)
from reports.cells import Counts, Flagged, Text
from reports.stats import Estimate
from reports.tables.metric import interval_of

# (stratum, seed). A stratum is the levels of the other factors, or the dataset. Two results are
# compared only if their keys are equal.
PairKey = tuple[str, int]


def mean(values: Sequence[float]) -> float:
    """Return the mean of some values, summed in their order."""
    return sum(values) / len(values)


@dataclass(frozen=True, eq=False)
class Group:
    """The rows, in any state, behind one level, configuration, method over datasets, or control.

    Attributes:
        labels: Texts of the label columns.
        rows: The rows.
        control: Name of the control; "" for other groups.
        value: The level, the configuration, or the levels that a control has of the factors that it
            reads (see controls_by_configuration). None for other groups.
        parts: Groups by dataset, in the table over datasets; else {}. The rows of a method are then
            averages over the datasets in `finished_datasets`.
    """

    labels: tuple[Text, ...]
    rows: Sequence[Mapping[str, Any]]
    control: str = ""
    value: Any = None
    parts: Mapping[str, "Group"] = field(default_factory=dict)

    @cached_property
    def finished_rows(self) -> list[Mapping[str, Any]]:
        """The rows that finished."""
        return [row for row in self.rows if row["state"] == COMPLETE]

    def column(self, name: str) -> list[Any]:
        """Return a column of the rows, in any state."""
        return [row[name] for row in self.rows]

    def finished_values(self, column: str) -> list[Any]:
        """Return a column of the finished rows, without nulls; [] if there is no such column."""
        return [row[column] for row in self.finished_rows if row.get(column) is not None]

    def mean(self, column: str) -> float | None:
        """Return the mean of a column over the finished rows; None without any value."""
        values = self.finished_values(column)
        return mean(values) if values else None

    def results(
        self, column: str, strata: Mapping[str, str] | None = None
    ) -> dict[PairKey, list[Any]]:
        """Return the known values of a column in finished rows, by place.

        Args:
            column: Name of the column.
            strata: Stratum by config_key (see strata_by_configuration). It is "" for other
                configurations.
        """
        results: dict[PairKey, list[Any]] = {}
        for row in self.finished_rows:
            if row.get(column) is not None:
                place = (strata or {}).get(row["config_key"], ""), row["seed"]
                results.setdefault(place, []).append(row[column])
        return results

    def values_by_seed(self, column: str) -> dict[int, float]:
        """Return the mean of a column over the finished rows of each seed."""
        return {seed: mean(values) for (_, seed), values in self.results(column).items()}

    def estimate(self, column: str) -> Estimate | None:
        """Return the mean of a metric over seeds, with its interval.

        Returns:
            None without a finished row, or if one lacks the metric, because the mean would not be
            over the displayed n.
        """
        if not self.finished_rows or len(self.finished_values(column)) < len(self.finished_rows):
            return None
        return interval_of(column.partition("/")[2], list(self.values_by_seed(column).values()))

    @cached_property
    def finished_datasets(self) -> list[str]:
        """Datasets on which any seed finished."""
        return [name for name, part in self.parts.items() if part.finished_rows]

    @cached_property
    def config_keys(self) -> frozenset[str]:
        """Keys of the group's configurations.

        A control that equals one of the configurations has the same key.
        """
        return frozenset(self.column("config_key"))

    @property
    def trials(self) -> "Group":
        """The group with the rows of single trials, also if its own rows are averages."""
        rows = [row for part in self.parts.values() for row in part.rows]
        return Group((), rows) if rows else self

    @property
    def counts(self) -> Counts:
        """Numbers of finished, failed, pruned and missing rows; running ones count as missing."""
        states = self.column("state")
        n_finished, n_failed, n_pruned = map(states.count, (COMPLETE, FAIL, PRUNED))
        return Counts(
            n_finished, n_failed, n_pruned, len(states) - n_finished - n_failed - n_pruned
        )

    def flags(self) -> tuple[Flagged, ...]:
        """Return the flags that finished trials raised, with the number of trials checked."""
        flags = []
        for name in (name for name in self.rows[0] if name.startswith(FLAG)):
            values = self.finished_values(name)
            if n_raised := sum(value >= 0.5 for value in values):
                flags.append(Flagged(name.removeprefix(FLAG), n_raised, len(values)))
        return tuple(flags)


def mean_by_seed(
    results: Mapping[PairKey, Sequence[float]], places: Container[PairKey]
) -> dict[int, float]:
    """Return the mean over places by seed, where each place counts with its own mean.

    Args:
        results: Values by place; see Group.results.
        places: Places to include.
    """
    means: dict[int, list[float]] = {}
    for place, values in results.items():
        if place in places:
            means.setdefault(place[1], []).append(mean(values))
    return {seed: mean(values) for seed, values in means.items()}
