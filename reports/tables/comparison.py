"""The table of a family: means, differences to the baseline, and their tests."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from harness.store import CONTROLS, FINETUNER_ALONE, FLAG
from reports.cells import (
    AVERAGE,
    CLASSES,
    EXTERNAL,
    OBJECTIVE,
    Cell,
    Column,
    Counts,
    PValue,
    Quantity,
    Ranged,
    Spread,
    Table,
    Text,
    Value,
    make_optional_cell,
    make_versus_key,
)
from reports.stats import Compared
from reports.study import get_metric_heading
from reports.tables.annotated_tables import COUNTS_COLUMN, make_comparison_notes, make_group_table
from reports.tables.controls import compare_with_control, format_shared_levels
from reports.tables.family import Family
from reports.tables.group import Group
from reports.tables.groups import join_rules
from reports.tables.metric import get_decimals, list_measured_columns

# Column.drop of the columns of single datasets, which a narrow terminal drops last.
_DATASETS_DROP = 6


def make_comparison_table(family: Family) -> Table:
    """Return the table of a family, with a row per group: means, differences and their tests.

    Configurations are sorted by selection score. Controls are below them.

    The table of methods has a column per dataset; other metrics are only in the CSV file. A
    method's average is over the datasets on which it has finished rows, with their number if that
    is not all. A seed counts only if it finished on all of these datasets. Controls ran on a single
    dataset and have no average.
    """
    epochs, differences = _make_epoch_columns(family), _make_difference_columns(family)
    if family.kind == "methods":
        title = f"{family.heading} by dataset"
        columns = [COUNTS_COLUMN, *epochs, *_make_columns_by_dataset(family), *differences]
    else:
        suffixes = {"configurations": " by selection objective", "effects": ", main effects"}
        title = f"{family.name}{suffixes.get(family.kind, '')}"
        differences_to_controls = _make_control_columns(family)
        columns = [
            COUNTS_COLUMN,
            *epochs,
            *_make_metric_columns(family),
            *differences,
            *differences_to_controls,
            _SECONDS,
        ]
    notes, fields = make_comparison_notes(family), {"kind": family.kind, "metric": family.metric}
    groups, name = family.groups, family.name
    return make_group_table(family, groups, name, title, columns, notes, compares=True, **fields)


def _make_epoch_columns(family: Family) -> list[Column]:
    """Return the column of tested epochs; [] if no row has an epoch.

    Tables of main effects and of averages do not repeat this column of the tables before them.
    """
    is_in_earlier_table = family.kind == "effects" or (
        family.study.pooled_datasets and family.kind != "methods"
    )
    if is_in_earlier_table or not any(map(_make_epoch_cell, family.groups)):
        return []
    # a narrow terminal drops the epochs before the columns of datasets
    drop = _DATASETS_DROP - 1 if family.kind == "methods" else 0
    return [Column("epoch", "epoch", _make_epoch_cell, drop=drop)]


def _make_epoch_cell(group: Group) -> Cell | None:
    """Return the median and range of tested epochs; None if nothing was trained or selected."""
    trials = group.trials
    epochs = trials.finished_values("selection_epoch")
    # a fine-tuner without training has only epoch 0, and is never checked for this flag
    is_trained = any(epochs) or bool(trials.finished_values(f"{FLAG}last_epoch"))
    if not epochs or not is_trained or join_rules(trials.column("selection")) == "none":
        return None
    return Spread(statistics.median(epochs), min(epochs), max(epochs))


_SECONDS = Column(
    "seconds", "s/seed", lambda group: make_optional_cell(Quantity, group.mean("seconds")), drop=1
)


def _make_difference_columns(family: Family) -> Iterator[Column]:
    """Yield the columns of differences to the baseline and their tests.

    There are none without a baseline, or if differences are not meaningful (is_comparable).
    """
    if not family.is_comparable or family.baseline is None:
        return
    heading, comparisons = family.heading, family.comparisons

    def compared_cell(cell: Callable[[Compared], Cell | None]) -> Callable[[Group], Cell | None]:
        return lambda group: cell(comparisons[group]) if group in comparisons else None

    def difference_cell(group: Group) -> Cell | None:
        if group is family.baseline:
            return Text("baseline")
        return compared_cell(_make_difference_cell)(group)

    yield Column("difference", f"Δ{heading}", difference_cell)
    if any(comparison.classes for comparison in comparisons.values()):
        classes = compared_cell(
            lambda comparison: make_optional_cell(Ranged, comparison.classes, decimals=1, bare=True)
        )
        yield Column(CLASSES, f"Δ{heading} over classes", classes, drop=4)
    yield Column(
        "pairs",
        "pairs",
        compared_cell(lambda comparison: Quantity(comparison.difference.n, 0)),
        drop=2,
    )
    yield Column(
        "p",
        "Holm p",
        compared_cell(lambda comparison: make_optional_cell(PValue, comparison.holm_p)),
    )
    mde = compared_cell(
        lambda comparison: make_optional_cell(
            Quantity, comparison.mde, decimals=comparison.decimals
        )
    )
    drop = _DATASETS_DROP if family.kind == "methods" else 5
    yield Column("mde", "MDE", mde, drop=drop)


def _make_control_columns(family: Family) -> Iterator[Column]:
    """Yield a column of differences to the control with the row's levels, per Family.controls."""
    study, metric = family.study, family.metric
    for control, controls in family.controls.items():

        def cell(group: Group, controls: Mapping[str, Group] = controls) -> Cell | None:
            comparison = (
                None if group.control else compare_with_control(study, metric, controls, [group])
            )
            if comparison is None:
                return None
            n = comparison.difference.n
            suffix = f"(n {n})" if n != len(group.values_by_seed(f"test/{metric}")) else ""
            levels, decimals = format_shared_levels(study, controls, group), comparison.decimals
            return Value(
                comparison.difference, signed=True, decimals=decimals, suffix=suffix, at=levels
            )

        is_hidden = control != FINETUNER_ALONE
        yield Column(
            make_versus_key(control), f"vs {CONTROLS[control][0]}", cell, drop=6, csv_only=is_hidden
        )


def _make_difference_cell(comparison: Compared) -> Cell:
    """Return the cell of a difference, with "(k/m)" if only k of m datasets have a result."""
    suffix = f"({comparison.datasets[0]}/{comparison.datasets[1]})" if comparison.datasets else ""
    return Value(comparison.difference, signed=True, decimals=comparison.decimals, suffix=suffix)


def _make_metric_columns(family: Family) -> Iterator[Column]:
    """Yield the columns of the selection score and of all metrics.

    Main effects also have a column with the number of distinct seeds, since their n counts each
    seed once per configuration.
    """
    study = family.study

    def seeds_cell(group: Group) -> Cell | None:
        return make_optional_cell(
            Quantity, len(set(group.finished_values("seed"))) or None, decimals=0
        )

    if family.kind == "effects":
        yield Column("seeds", "seeds", seeds_cell)
    objective = f"sel. {get_metric_heading(study.protocol, study.objective)}"
    score = partial(_mean_cell, family, OBJECTIVE, "")
    yield Column(OBJECTIVE, objective, score, drop=3, metric=OBJECTIVE)
    for name, heading in _get_metric_headings(family).items():
        drop = 0 if name == family.metric else study.protocol.drop.get(name, 0)
        is_hidden = name not in (*study.protocol.shown, family.metric)
        mean = partial(_mean_cell, family, name, "")
        yield Column(name, heading, mean, drop=drop, csv_only=is_hidden, metric=name)


def _get_metric_headings(family: Family) -> dict[str, str]:
    """Return the headings of measured and required metrics by name, in the order of the columns."""
    protocol, columns = family.study.protocol, list_measured_columns(family.study)
    required = (*protocol.required, family.metric)
    # the metrics that are on a page come before those that are only in CSV files
    names = dict.fromkeys((*protocol.shown, family.metric, *protocol.headings))
    return {
        name: protocol.headings[name]
        for name in names
        if f"test/{name}" in columns or name in required
    }


def _make_columns_by_dataset(family: Family) -> Iterator[Column]:
    """Yield the columns of the metric on each dataset, then those of averages over datasets.

    If the metric is a harmonic mean, pages also have the averages of its two halves. The halves on
    each dataset, and all other metrics, are only in CSV files.
    """
    metric, headings = family.metric, family.study.protocol.headings
    halves = family.study.protocol.halves.get(metric, ())
    csv_names = [name for name in _get_metric_headings(family) if name not in (metric, *halves)]

    def datasets_cell(group: Group) -> Cell | None:
        return Quantity(len(group.finished_datasets), 0) if _is_over_datasets(group) else None

    def column(dataset: str, name: str, heading: str, **options: Any) -> Column:
        mean = partial(_mean_cell, family, name, dataset)
        return Column(f"{dataset}/{name}", heading, mean, metric=name, dataset=dataset, **options)

    yield Column("datasets", "datasets", datasets_cell, csv_only=True)
    for dataset in family.datasets:
        yield column(dataset, metric, dataset, drop=_DATASETS_DROP)
        for name in (*halves, *csv_names):
            yield column(dataset, name, f"{dataset} {headings[name]}", csv_only=True)
    for name in (*halves, *csv_names):
        yield column(AVERAGE, name, f"mean {headings[name]}", drop=4, csv_only=name in csv_names)
    yield column(
        AVERAGE, metric, f"{family.heading} of means" if halves else f"mean {family.heading}"
    )


def _is_over_datasets(group: Group) -> bool:
    """Return True for methods and external results, and False for controls."""
    return not group.control or group.control == EXTERNAL


def _mean_cell(family: Family, metric: str, dataset: str, group: Group) -> Cell | None:
    """Return the cell of a metric's mean over seeds.

    An average over datasets has the suffix "(k/m)" if only k of m datasets have a result. A mean on
    one of several datasets has the suffix "(n 3)" if its n differs from the row's.

    Args:
        family: Family of the group.
        metric: Name of a test metric, or OBJECTIVE for the selection score.
        dataset: In the table of methods, a dataset or AVERAGE. "" in other tables.
        group: Group of the cell.

    Returns:
        None if the group has no such mean, or if any of its finished rows lacks the metric. A
        text ("failed", "pruned" or "missing") if a method has not finished on the dataset, in the
        column of the family's metric.
    """
    study, dataset_group, suffix = family.study, group, ""
    if metric == OBJECTIVE:
        return make_optional_cell(Value, group.estimate(study.score_column))
    if dataset == AVERAGE:
        if not _is_over_datasets(group):
            return None
        n_datasets, total = len(group.finished_datasets), len(family.datasets)
        suffix = f"({n_datasets}/{total})" if n_datasets < total else ""
    elif dataset:
        if dataset not in group.parts:
            return None
        dataset_group = group.parts[dataset]
        n = len(dataset_group.finished_rows)
        if not n and metric == family.metric:
            return Text(_get_absence_reason(dataset_group.counts))
        suffix = f"(n {n})" if n != len(group.finished_rows) else ""
    decimals = get_decimals(study, metric)
    return make_optional_cell(
        Value, dataset_group.estimate(f"test/{metric}"), decimals=decimals, suffix=suffix
    )


def _get_absence_reason(counts: Counts) -> str:
    """Return the state of a group without finished rows: "failed", "pruned" or "missing"."""
    if counts.failed:
        return "failed"
    return "pruned" if counts.pruned else "missing"
