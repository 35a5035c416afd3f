"""Tables of the values that selection chose, and of the quality of synthetic features."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from harness.store import FLAG, QUALITY
from reports.cells import Cell, Column, Table, Text, Value, optional_cell
from reports.formatting import number_text
from reports.study import Study, metric_heading
from reports.tables.families import first_family, method_family
from reports.tables.group import Group
from reports.tables.metric import MEASURES, Measure, decimals_for, interval_of, measured_columns
from reports.tables.notes import COUNTS, group_table
from reports.tables.over_datasets import list_datasets

_EDGE = "grid_edge"
# Quantities that selection may choose in addition to the epoch, by metric name. True: the table
# shows the quantity even if no grid was searched at inference.
_CHOSEN = {"age": True, "alpha": False, "beta": False, "ratio": False, "calibration": True}


def selection_tables(study: Study) -> list[Table]:
    """Return the table of the values that selection chose; [] if it chose only epochs.

    The rows are the finished ones of the study's first table, which has the epochs.
    """
    columns_with_values = measured_columns(study)
    if study.score_column not in columns_with_values:
        return []
    family = first_family(study, study.objective)
    groups = [group for group in family.groups if group.finished_rows]
    # without a grid, alpha, beta and ratio are options of the configuration, not choices
    has_grid = f"{FLAG}{_EDGE}" in columns_with_values
    heading = f"sel. {metric_heading(study.protocol, study.objective)}"
    columns = [
        COUNTS,
        Column(
            "score", heading, lambda group: optional_cell(Value, group.estimate(study.score_column))
        ),
    ]
    n_columns = len(columns)
    for name, is_always_shown in _CHOSEN.items():
        if f"selection/{name}" in columns_with_values and (has_grid or is_always_shown):
            columns.append(Column(name, name, partial(_tally_cell, f"selection/{name}")))
    if len(columns) == n_columns:
        return []
    note = (
        "sel.: score on the selection images with the chosen values; alpha, beta, ratio, age (epoch"
        " of the generator), calibration (constant subtracted from the logits of seen classes):"
        " chosen values, each with the number of seeds that chose it"
    )
    title = "values chosen by selection"
    return [group_table(family, groups, "selected", title, columns, [note], place="files")]


def _tally_cell(column: str, group: Group) -> Cell | None:
    """Return each chosen value with the number of seeds that chose it, as in "10 (8), 3 (2)".

    The cell of more than three values is their range, as in "0.12 to 3.4".
    """
    values = group.finished_values(column)
    if not values:
        return None
    counts = Counter(values).most_common()
    if len(counts) > 3:  # the value was fitted to each seed
        return Text(f"{min(values):.3g} to {max(values):.3g}")
    return Text(", ".join(f"{value:.3g} ({count})" for value, count in counts))


# Standard errors of one seed's estimate. They are only in CSV files, because intervals over seeds
# include this error.
_ERRORS = ("frechet_error", "mmd_error")
_TEST = f"test/{QUALITY}"


@dataclass(frozen=True)
class _QualityCells:
    """Cells with the quality measures of groups.

    Attributes:
        decimals: Number of decimals by name of the measure's column.
        n: Number of finished seeds with any measure, by group.
    """

    decimals: Mapping[str, int]
    n: Mapping[Group, int]

    def mean(self, name: str, group: Group) -> Value | None:
        """Return the mean of a measure over seeds; None if no seed has the measure."""
        values = group.finished_values(name)
        if not values:
            return None
        estimate = interval_of(name.partition("/")[2], [*group.values_by_seed(name).values()])
        suffix = f"(n {len(values)})" if len(values) < self.n[group] else ""
        return Value(estimate, decimals=self.decimals[name], suffix=suffix)

    def value_and_reference(self, measure: Measure, group: Group) -> Cell | None:
        """Return the mean of a measure, followed by that of its reference if both are known."""
        value, reference = (
            self.mean(f"{_TEST}{name}", group) for name in (measure.metric, measure.reference)
        )
        if value is None or reference is None:
            return value
        reference_text = f"/ {number_text(reference.estimate.mean, value.decimals)} {value.suffix}"
        return dataclasses.replace(value, suffix=reference_text.strip())

    def counts(self, group: Group) -> Cell:
        """Return the group's counts; only seeds with a measure count as finished."""
        return dataclasses.replace(group.counts, finished=self.n[group])


def quality_tables(study: Study) -> list[Table]:
    """Return the table of feature quality; [] if no run has measures.

    The rows are those of the first table, except finished rows without synthetic features.

    Over several datasets, a seed's value is its mean over the datasets on which its method
    finished. If the dataset is the only factor, each dataset has a row.
    """
    names = sorted(name for name in measured_columns(study) if QUALITY in name)
    if not any(name.startswith(_TEST) for name in names):
        return []
    n_datasets = len(list_datasets(study)) if len(study.factors) > 1 else 0
    family = (method_family if n_datasets else first_family)(study, study.objective)
    # Rows without synthetic features are left out, unless they have not finished.
    groups = [
        group
        for group in family.groups
        if any(map(group.finished_values, names)) or not group.finished_rows
    ]
    values = {name: [v for group in groups for v in group.finished_values(name)] for name in names}
    decimals = {name: decimals_for(numbers) for name, numbers in values.items() if numbers}
    if not decimals:  # an average over datasets has only measures that all of them have
        return []
    n = {
        group: len({place for name in decimals for place in group.results(name)})
        for group in groups
    }
    quality = _QualityCells(decimals, n)
    columns = [Column("n", "n", quality.counts)]
    if n_datasets:
        columns.append(Column("datasets", "datasets", partial(_datasets_cell, n_datasets)))
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
    for name in filter(decimals.__contains__, csv_columns):
        key = csv_columns[name]
        columns.append(Column(key, key, partial(quality.mean, name), csv_only=True))
    notes = [
        "n: finished seeds with synthetic features. datasets: number of averaged datasets",
        "; ".join(measure.meaning for measure in measures if measure.meaning),
    ]
    kind = f"{study.protocol.unseen or 'tested'} classes, test images"
    title = f"quality of synthetic features ({kind})"
    return [group_table(family, groups, "quality", title, columns, notes, place="files")]


def _datasets_cell(total: int, group: Group) -> Cell:
    """Return the number of datasets that a row averages, with their total if some are missing."""
    count = len(group.finished_datasets or group.parts)
    return Text(str(count) if count == total else f"{count} of {total}")
