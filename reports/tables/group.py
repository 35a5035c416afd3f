"""Groups: the results (seeds of configurations) behind one table row, and their means by seed."""

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
from reports.tables.metric import compute_interval

# (stratum, seed) of a result. Only results with equal keys are compared. A stratum is a text: the
# levels of all factors but the compared one, or the name of a dataset. It is "" if there are none.
PairKey = tuple[str, int]


def mean(values: Sequence[float]) -> float:
    """Return the mean of one or more values, added up in the given order."""
    return sum(values) / len(values)


@dataclass(frozen=True, eq=False)
class Group:
    """The study's rows behind one level, configuration, control, or method over datasets.

    Attributes:
        labels: Texts of the label columns.
        rows: One row per configuration and seed, in any state.
        control: Name of the control, or EXTERNAL for external results. "" for other groups.
        value: The level or the configuration. For a control of find_controls_by_configuration, the
            levels of the factors that it reads. None for other groups.
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
        """The rows in state COMPLETE."""
        return [row for row in self.rows if row["state"] == COMPLETE]

    def column(self, name: str) -> list[Any]:
        """Return the values of a column in all rows."""
        return [row[name] for row in self.rows]

    def finished_values(self, column: str) -> list[Any]:
        """Return a column's non-null values in finished rows; [] if there is no such column."""
        return [row[column] for row in self.finished_rows if row.get(column) is not None]

    def mean(self, column: str) -> float | None:
        """Return the mean of `finished_values`; None if there are none."""
        values = self.finished_values(column)
        return mean(values) if values else None

    def results(
        self, column: str, strata: Mapping[str, str] | None = None
    ) -> dict[PairKey, list[Any]]:
        """Return a column's non-null values in finished rows, by (stratum, seed).

        Args:
            column: Name of the column.
            strata: Stratum by config_key (see get_strata_by_configuration). Configurations that are
                not listed have the stratum "".
        """
        results: dict[PairKey, list[Any]] = {}
        for row in self.finished_rows:
            if row.get(column) is not None:
                stratum = (strata or {}).get(row["config_key"], "")
                results.setdefault((stratum, row["seed"]), []).append(row[column])
        return results

    def values_by_seed(self, column: str) -> dict[int, float]:
        """Return the mean of a column over each seed's finished rows, by seed."""
        return {seed: mean(values) for (_, seed), values in self.results(column).items()}

    def estimate(self, column: str) -> Estimate | None:
        """Return the mean of a column over seeds, with its interval.

        Args:
            column: Name of the column, such as "test/base".

        Returns:
            None if there are no finished rows, or if any of them has no value: the mean would then
            be over fewer seeds than the table's n.
        """
        if not self.finished_rows or len(self.finished_values(column)) < len(self.finished_rows):
            return None
        return compute_interval(
            column.partition("/")[2], list(self.values_by_seed(column).values())
        )

    @cached_property
    def finished_datasets(self) -> list[str]:
        """Datasets on which at least one seed finished; [] if the group has no parts."""
        return [name for name, part in self.parts.items() if part.finished_rows]

    @cached_property
    def config_keys(self) -> frozenset[str]:
        """Keys of the group's configurations.

        If a control is the same as one of the configurations, the two groups have the same key.
        """
        return frozenset(self.column("config_key"))

    @property
    def trials(self) -> "Group":
        """The group itself, or, if its rows are averages, a group with the rows they average."""
        rows = [row for part in self.parts.values() for row in part.rows]
        return Group((), rows) if rows else self

    @property
    def counts(self) -> Counts:
        """Number of rows by state; rows in any other state, such as RUNNING, count as missing."""
        states = self.column("state")
        n_finished, n_failed, n_pruned = map(states.count, (COMPLETE, FAIL, PRUNED))
        return Counts(
            n_finished, n_failed, n_pruned, len(states) - n_finished - n_failed - n_pruned
        )

    def flags(self) -> tuple[Flagged, ...]:
        """Return the flags that any finished row raised, with counts; see Flagged."""
        flags = []
        for name in (name for name in next(iter(self.rows), {}) if name.startswith(FLAG)):
            values = self.finished_values(name)
            n_raised = sum(value >= 0.5 for value in values)  # a flag is logged as 0 or 1
            if n_raised:
                flags.append(Flagged(name.removeprefix(FLAG), n_raised, len(values)))
        return tuple(flags)


def mean_by_seed(
    results: Mapping[PairKey, Sequence[float]], included_keys: Container[PairKey]
) -> dict[int, float]:
    """Return each seed's mean over its strata, in which all strata have equal weight.

    Args:
        results: Values by (stratum, seed); see Group.results.
        included_keys: The (stratum, seed) keys to include.
    """
    stratum_means: dict[int, list[float]] = {}
    for key, values in results.items():
        if key in included_keys:
            _, seed = key
            stratum_means.setdefault(seed, []).append(mean(values))
    return {seed: mean(means) for seed, means in stratum_means.items()}
