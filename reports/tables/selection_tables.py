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
# Values that selection chooses for each seed, logged as selection/NAME. The epoch is not listed,
# because the study's first table shows it.
_CHOSEN_VALUES = ("age", "alpha", "beta", "ratio", "calibration")
# Options of fine-tuners at inference. Without an inference grid, these metrics only repeat options
# of the configuration.
_INFERENCE_OPTIONS = frozenset({"alpha", "beta", "ratio"})
_MAX_DISTINCT_VALUES = 3  # in a cell; more values are shown as a range


def make_selection_tables(study: Study) -> list[Table]:
    """Return a list with the table of the values that selection chose.

    The rows are the groups of the study's first table that have finished rows. The list is empty if
    there are no selection scores, or if selection chose only epochs of the fine-tuner, which the
    first table shows.
    """
    columns_with_values = list_measured_columns(study)
    if study.score_column not in columns_with_values:
        return []
    family = get_first_family(study, study.objective)
    groups = [group for group in family.groups if group.finished_rows]
    heading = f"sel. {get_metric_heading(study.protocol, study.objective)}"
    score_column = Column(
        "score",
        heading,
        lambda group: make_optional_cell(Value, group.estimate(study.score_column)),
    )
    has_grid = _GRID_FLAG in columns_with_values
    names = [
        name
        for name in _CHOSEN_VALUES
        if f"selection/{name}" in columns_with_values
        and (has_grid or name not in _INFERENCE_OPTIONS)
    ]
    if not names:
        return []
    columns = [COUNTS_COLUMN, score_column]
    columns += [
        Column(name, name, partial(_make_tally_cell, f"selection/{name}")) for name in names
    ]
    notes = [
        "sel.: score on the selection images with the chosen values. Other columns: chosen values,"
        " each with the number of seeds that chose it, or only their range if there are more than"
        f" {_MAX_DISTINCT_VALUES}"
    ]
    if "age" in names:
        notes.append("age: epoch of the generator")
    if options := [name for name in names if name in _INFERENCE_OPTIONS]:
        notes.append(f"chosen from the fine-tuner's inference grid: {', '.join(options)}")
    if "calibration" in names:
        notes.append("calibration: constant subtracted from the logits of seen classes")
    title = "values chosen by selection"
    return [make_group_table(family, groups, "selected", title, columns, notes, place="files")]


def _make_tally_cell(column: str, group: Group) -> Cell | None:
    """Return each chosen value with the number of seeds that chose it: "10 (8), 3 (2)".

    Values are rounded before they are counted. More than _MAX_DISTINCT_VALUES distinct values are
    shown as a range: "0.12 to 3.4". The cell is None if no seed has a value.
    """
    values = group.finished_values(column)
    if not values:
        return None
    counts = Counter(f"{value:.3g}" for value in values).most_common()
    if len(counts) > _MAX_DISTINCT_VALUES:  # probably fitted to each seed, not chosen from a grid
        return Text(f"{min(values):.3g} to {max(values):.3g}")
    return Text(", ".join(f"{text} ({count})" for text, count in counts))


# Standard errors of a single seed's measures. They are only in CSV files, because intervals over
# seeds already include these errors.
_STANDARD_ERRORS = ("frechet_error", "mmd_error")
_TEST_QUALITY = f"test/{QUALITY}"  # prefix of columns with measures of the tested classes


@dataclass(frozen=True)
class _QualityCells:
    """Makes the cells of the quality table.

    Attributes:
        decimals: Number of decimals of each measure, by its column in the study's rows.
        n_measured: Number of finished seeds with at least one measure, by group.
    """

    decimals: Mapping[str, int]
    n_measured: Mapping[Group, int]

    def mean(self, column: str, group: Group) -> Value | None:
        """Return the mean of a measure over seeds; None if no seed has the measure.

        The suffix "(n k)" is added if only k of the group's n_measured seeds have this measure.
        """
        values = group.finished_values(column)
        if not values:
            return None
        estimate = compute_interval(
            column.partition("/")[2], [*group.values_by_seed(column).values()]
        )
        suffix = f"(n {len(values)})" if len(values) < self.n_measured[group] else ""
        return Value(estimate, decimals=self.decimals[column], suffix=suffix)

    def value_and_reference(self, measure: Measure, group: Group) -> Cell | None:
        """Return the mean of a measure, followed by "/" and its reference if both are known.

        Either number may be followed by its own "(n k)"; see `mean`.
        """
        value = self.mean(f"{_TEST_QUALITY}{measure.metric}", group)
        reference = self.mean(f"{_TEST_QUALITY}{measure.reference}", group)
        if value is None or reference is None:
            return value
        reference_text = f"/ {format_number(reference.estimate.mean, value.decimals)}"
        suffix = " ".join(filter(None, (value.suffix, reference_text, reference.suffix)))
        return dataclasses.replace(value, suffix=suffix)

    def counts(self, group: Group) -> Cell:
        """Return the group's counts; `finished` counts only seeds with at least one measure."""
        return dataclasses.replace(group.counts, finished=self.n_measured[group])


def make_quality_tables(study: Study) -> list[Table]:
    """Return a list with the table of feature quality; [] without measures of tested classes.

    The rows are the groups of the study's first table. In a study over several datasets with other
    factors, they are the methods, and measures are averaged over the datasets on which a method
    finished. Groups whose finished rows have no measures, e.g. those without synthetic features,
    are omitted.
    """
    names = sorted(name for name in list_measured_columns(study) if QUALITY in name)
    if not any(name.startswith(_TEST_QUALITY) for name in names):
        return []
    datasets = list_datasets(study)
    averages_datasets = bool(datasets) and len(study.factors) > 1
    make_family = make_method_family if averages_datasets else get_first_family
    family = make_family(study, study.objective)
    groups = [
        group
        for group in family.groups
        if any(map(group.finished_values, names)) or not group.finished_rows
    ]
    decimals = {}
    for name in names:
        values = [value for group in groups for value in group.finished_values(name)]
        if values:
            decimals[name] = compute_decimals(values)
    # Averages have only the measures that all averaged datasets have, so there may be none.
    if not decimals:
        return []
    n_measured = {
        group: len({key for name in decimals for key in group.results(name)}) for group in groups
    }
    quality = _QualityCells(decimals, n_measured)
    columns = [Column("n", "n", quality.counts)]
    if averages_datasets:
        columns.append(Column("datasets", "datasets", partial(_make_datasets_cell, len(datasets))))
    measures = [measure for measure in MEASURES if f"{_TEST_QUALITY}{measure.metric}" in decimals]
    for measure in measures:
        is_key_measure = measure.metric == study.protocol.key_quality
        columns.append(
            Column(
                measure.metric,
                measure.heading,
                partial(quality.value_and_reference, measure),
                drop=0 if is_key_measure else measure.drop,  # the key measure is never dropped
            )
        )
    # only in CSV files: references, standard errors, and measures of pseudo-new classes
    csv_only_names = [*(measure.reference for measure in MEASURES), *_STANDARD_ERRORS]
    csv_columns = {f"{_TEST_QUALITY}{name}": name for name in csv_only_names}
    pseudo_new_columns = [name for name in decimals if not name.startswith(_TEST_QUALITY)]
    csv_columns |= {name: f"pseudo_new_{name.partition(QUALITY)[2]}" for name in pseudo_new_columns}
    for name, key in csv_columns.items():
        if name in decimals:
            columns.append(Column(key, key, partial(quality.mean, name), csv_only=True))
    notes = ["n: finished seeds with at least one of these measures"]
    if averages_datasets:
        notes.append("datasets: number of averaged datasets")
    if meanings := [measure.meaning for measure in measures if measure.meaning]:
        notes.append("; ".join(meanings))
    classes = f"{study.protocol.unseen or 'tested'} classes, test images"
    title = f"quality of synthetic features ({classes})"
    return [make_group_table(family, groups, "quality", title, columns, notes, place="files")]


def _make_datasets_cell(n_datasets: int, group: Group) -> Cell:
    """Return "5", or "3 of 5" if a row's averages are over only 3 of `n_datasets` = 5 datasets.

    A row without results shows the number of datasets on which its method is planned.
    """
    count = len(group.finished_datasets or group.parts)
    return Text(str(count) if count == n_datasets else f"{count} of {n_datasets}")
