"""Tables of the values that selection chose, and of the quality of synthetic features."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from harness.store import FLAG, QUALITY
from reports.cells import Cell, Column, Table, Text, Value, make_optional_cell
from reports.formatting import format_number
from reports.study import Study, get_metric_heading
from reports.tables.annotated_tables import COUNTS_COLUMN, make_group_table
from reports.tables.families import get_first_family, make_method_family
from reports.tables.group import Group
from reports.tables.metric import (
    MEASURES,
    Measure,
    compute_decimals,
    compute_interval,
    list_measured_columns,
)
from reports.tables.over_datasets import list_datasets

# Flag that is logged if selection searched an inference grid.
_GRID_FLAG = f"{FLAG}grid_edge"
# Values that selection chose in addition to the epoch, as names of metrics below "selection/".
# Those of _GRID_VALUES are chosen only if an inference grid was searched. Otherwise they are
# options of the configuration, and are not shown.
_GRID_VALUES = frozenset({"alpha", "beta", "ratio"})
_CHOSEN_VALUES = ("age", "alpha", "beta", "ratio", "calibration")


def make_selection_tables(study: Study) -> list[Table]:
    """Return the table of the values that selection chose; [] if it chose only epochs.

    The rows are the groups of the study's first table that have finished rows. The chosen epochs
    are in that table.
    """
    columns_with_values = list_measured_columns(study)
    if study.score_column not in columns_with_values:
        return []
    family = get_first_family(study, study.objective)
    groups = [group for group in family.groups if group.finished_rows]
    has_grid = _GRID_FLAG in columns_with_values
    heading = f"sel. {get_metric_heading(study.protocol, study.objective)}"
    score_column = Column(
        "score",
        heading,
        lambda group: make_optional_cell(Value, group.estimate(study.score_column)),
    )
    value_columns = [
        Column(name, name, partial(_make_tally_cell, f"selection/{name}"))
        for name in _CHOSEN_VALUES
        if f"selection/{name}" in columns_with_values and (has_grid or name not in _GRID_VALUES)
    ]
    if not value_columns:
        return []
    columns = [COUNTS_COLUMN, score_column, *value_columns]
    note = (
        "sel.: score on the selection images with the chosen values; alpha, beta, ratio, age (epoch"
        " of the generator), calibration (constant subtracted from the logits of seen classes):"
        " chosen values, each with the number of seeds that chose it"
    )
    title = "values chosen by selection"
    return [make_group_table(family, groups, "selected", title, columns, [note], place="files")]


def _make_tally_cell(column: str, group: Group) -> Cell | None:
    """Return each chosen value with the number of seeds that chose it: "10 (8), 3 (2)".

    More than three distinct values are shown as a range: "0.12 to 3.4". The cell is None if no
    seed has a value.
    """
    values = group.finished_values(column)
    if not values:
        return None
    counts = Counter(f"{value:.3g}" for value in values).most_common()
    if len(counts) > 3:  # probably fitted to each seed, not chosen from a grid
        return Text(f"{min(values):.3g} to {max(values):.3g}")
    return Text(", ".join(f"{text} ({count})" for text, count in counts))


# Standard errors of a single seed's measures. They are only in CSV files, because intervals over
# seeds already include these errors.
_ERRORS = ("frechet_error", "mmd_error")
_TEST = f"test/{QUALITY}"  # prefix of columns with measures of the tested classes


@dataclass(frozen=True)
class _QualityCells:
    """Functions that return the cells of the quality table.

    Attributes:
        decimals: Number of decimals of each measure, by its column in the study's rows.
        n: Number of finished seeds that have any measure, by group.
    """

    decimals: Mapping[str, int]
    n: Mapping[Group, int]

    def mean(self, column: str, group: Group) -> Value | None:
        """Return the mean of a measure over seeds; None if no seed has the measure."""
        values = group.finished_values(column)
        if not values:
            return None
        estimate = compute_interval(
            column.partition("/")[2], [*group.values_by_seed(column).values()]
        )
        suffix = f"(n {len(values)})" if len(values) < self.n[group] else ""
        return Value(estimate, decimals=self.decimals[column], suffix=suffix)

    def value_and_reference(self, measure: Measure, group: Group) -> Cell | None:
        """Return the mean of a measure, followed by "/" and its reference if both are known."""
        value, reference = (
            self.mean(f"{_TEST}{name}", group) for name in (measure.metric, measure.reference)
        )
        if value is None or reference is None:
            return value
        reference_text = (
            f"/ {format_number(reference.estimate.mean, value.decimals)} {value.suffix}"
        )
        return dataclasses.replace(value, suffix=reference_text.strip())

    def counts(self, group: Group) -> Cell:
        """Return the group's counts, in which only seeds with any measure count as finished."""
        return dataclasses.replace(group.counts, finished=self.n[group])


def make_quality_tables(study: Study) -> list[Table]:
    """Return the table of feature quality; [] if there are no measures of tested classes.

    The rows are the groups of the study's first table, without those that finished without
    synthetic features.

    In a study over datasets with other factors, the rows are methods, and measures are averaged
    over the datasets on which a method finished. If the dataset is the only factor, there is a row
    per dataset.
    """
    names = sorted(name for name in list_measured_columns(study) if QUALITY in name)
    if not any(name.startswith(_TEST) for name in names):
        return []
    n_datasets = len(list_datasets(study)) if len(study.factors) > 1 else 0
    make_family = make_method_family if n_datasets else get_first_family
    family = make_family(study, study.objective)
    groups = [
        group
        for group in family.groups
        if any(map(group.finished_values, names)) or not group.finished_rows
    ]
    values = {name: [v for group in groups for v in group.finished_values(name)] for name in names}
    decimals = {name: compute_decimals(numbers) for name, numbers in values.items() if numbers}
    if not decimals:  # no measure is known on all datasets of an average
        return []
    n = {group: len({key for name in decimals for key in group.results(name)}) for group in groups}
    quality = _QualityCells(decimals, n)
    columns = [Column("n", "n", quality.counts)]
    if n_datasets:
        columns.append(Column("datasets", "datasets", partial(_make_datasets_cell, n_datasets)))
    measures = [measure for measure in MEASURES if f"{_TEST}{measure.metric}" in decimals]
    for measure in measures:
        drop = 0 if measure.metric == study.protocol.key_quality else measure.drop
        columns.append(
            Column(
                measure.metric,
                measure.heading,
                partial(quality.value_and_reference, measure),
                drop=drop,
            )
        )
    # only in CSV files: references, standard errors, and measures of pseudo-new classes
    csv_columns = {f"{_TEST}{name}": name for name in (*(m.reference for m in MEASURES), *_ERRORS)}
    pseudo_new_columns = [name for name in decimals if not name.startswith(_TEST)]
    csv_columns |= {name: f"pseudo_new_{name.partition(QUALITY)[2]}" for name in pseudo_new_columns}
    for name, key in csv_columns.items():
        if name in decimals:
            columns.append(Column(key, key, partial(quality.mean, name), csv_only=True))
    notes = [
        "n: finished seeds with synthetic features. datasets: number of averaged datasets",
        "; ".join(measure.meaning for measure in measures if measure.meaning),
    ]
    classes = f"{study.protocol.unseen or 'tested'} classes, test images"
    title = f"quality of synthetic features ({classes})"
    return [make_group_table(family, groups, "quality", title, columns, notes, place="files")]


def _make_datasets_cell(total: int, group: Group) -> Cell:
    """Return the number of datasets in a row's averages: "5", or "3 of 5" if not all of `total`."""
    count = len(group.finished_datasets or group.parts)
    return Text(str(count) if count == total else f"{count} of {total}")
