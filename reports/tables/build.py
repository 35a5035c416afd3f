"""A study's tables in reading order, and those that compare with a baseline."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from harness.store import CONTROLS, FINETUNER_ALONE, FLAG, QUALITY
from reports.cells import (
    AVERAGE,
    CLASSES,
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
    optional_cell,
    versus,
)
from reports.stats import Compared
from reports.study import Study, heading
from reports.tables.associations import rank_table, response_tables
from reports.tables.controls import compare_with_control, levels_of_control, shared_levels
from reports.tables.external import add_external_groups, external_note
from reports.tables.families import Family, families, level_family, method_family
from reports.tables.groups import Group, control_groups, join_rules
from reports.tables.metric import decimals_of, measured_columns, with_metric
from reports.tables.notes import COUNTS, comparison_notes, group_table
from reports.tables.pooling import (
    DATASET,
    average_over_datasets,
    controls_dataset,
    datasets,
    factors_without_dataset,
    one_dataset,
)
from reports.tables.selection_tables import quality_tables, selection_tables

# With more datasets than this, the tables of single datasets are not shown in the terminal.
MAX_DATASETS = 3
# A narrow terminal drops the columns of single datasets last: see Column.
_DATASETS_DROP = 6


def build_tables(study: Study, metric: str | None = None) -> list[Table]:
    """Return all tables of a study.

    - One factor with levels: its ablation table.
    - Several factors on a grid: all configurations, then each factor's main effects.
    - A sampled study, or a range: the best configurations, then rank associations.
    - A grid over datasets: a row per method with its average, then a table per dataset.

    The last tables show what selection chose, the quality of synthesized features, and the
    association of the metric with that quality.

    Args:
        study: Study read from the store.
        metric: Test metric or quality measure of the differences and p-values. Defaults to the
            protocol's main metric.

    Raises:
        ReportError: If the study has no such metric.
    """
    study, metric = with_metric(study, metric)
    comparisons = (_tables_over_datasets if datasets(study) else _configuration_tables)(
        study, metric
    )
    tables = [*comparisons, *selection_tables(study), *quality_tables(study)]
    of_quality = metric.startswith(QUALITY)
    return tables if of_quality else [*tables, *response_tables(study, metric)]


def _configuration_tables(study: Study, metric: str) -> Iterator[Table]:
    """Yield the tables of comparisons of one dataset, and that of rank associations."""
    compared_families = list(families(study, metric))
    first, *rest = compared_families
    yield external_note(study, comparison_table(add_external_groups(first)))
    yield from map(comparison_table, rest)
    names = {family.name for family in compared_families}
    ranged = [factor for factor in study.factors if factor.key not in names]
    if ranged:
        yield rank_table(study, ranged, metric)


def _tables_over_datasets(study: Study, metric: str) -> Iterator[Table]:
    """Yield the tables of a study over datasets, with a note if one lacks the control's column."""
    read = [key for key in levels_of_control(study, FINETUNER_ALONE) if key != DATASET]
    is_controlled = any(control.control == FINETUNER_ALONE for control in control_groups(study))
    for table in _dataset_tables(study, metric):
        varies = table.kind in ("methods", "configurations") or table.name.endswith(tuple(read))
        lacks = versus(FINETUNER_ALONE) not in {column.key for column in table.columns}
        if read and is_controlled and varies and lacks:
            home = controls_dataset(study)
            column = f"vs {CONTROLS[FINETUNER_ALONE][0]}"
            why = f"no column {column}: the controls ran only on {home}; see its table"
            table = dataclasses.replace(table, notes=(*table.notes, why))
        yield table


def _dataset_tables(study: Study, metric: str) -> Iterator[Table]:
    """Yield the table of methods over datasets, those of the averages, and one per dataset."""
    yield comparison_table(method_family(study, metric))
    other_factors = factors_without_dataset(study)
    if not other_factors:
        yield from _configuration_tables(study, metric)
        return
    whole = average_over_datasets(study)
    if whole is not None and len(other_factors) > 1:
        for factor in whole.factors:
            table = comparison_table(level_family(whole, factor, metric))
            yield dataclasses.replace(table, name=f"{AVERAGE}-{table.name}")
    names = datasets(study)
    for name in names:
        # Only the first table of each dataset: main effects are in the averages above.
        first = next(_configuration_tables(one_dataset(study, name), metric))
        place = first.place if len(names) <= MAX_DATASETS else "files"
        yield dataclasses.replace(first, name=f"{name}-{first.name}", place=place)


def comparison_table(family: Family) -> Table:
    """Return the table of a family, with a row per group: means, differences and their tests.

    Configurations are sorted by their selection score, followed by the controls.

    Methods over datasets have a column per dataset, and all metrics in the CSV file. A seed's
    average is over the datasets on which its method has any result, and requires that the seed
    finished on each of them. If these are not all datasets of the study, the average shows their
    number. The controls ran on one dataset and have no average.
    """
    kind = {"configurations": " by selection objective", "effects": ", main effects"}
    title = f"{family.name}{kind.get(family.kind, '')}"
    epochs = _epoch_columns(family)
    differences = [*_difference_columns(family), *_control_columns(family)]
    columns = [COUNTS, *epochs, *_metric_columns(family), *differences, _SECONDS]
    if family.kind == "methods":
        title = f"{family.head} by dataset"
        columns = [COUNTS, *epochs, *_columns_by_dataset(family), *_difference_columns(family)]
    notes, about = comparison_notes(family), {"kind": family.kind, "metric": family.metric}
    groups, name = family.groups, family.name
    return group_table(family, groups, name, title, columns, notes, compares=True, **about)


def _epoch_columns(family: Family) -> list[Column]:
    """Return the column of tested epochs for the first table with these rows.

    There is none if no row has an epoch. Main effects and averages follow a table that has the
    column.
    """
    follows = family.kind == "effects" or (family.study.pooled and family.kind != "methods")
    if follows or not any(map(_epoch_cell, family.groups)):
        return []
    # in a narrow terminal, the columns of datasets are more important than the epochs
    drop = _DATASETS_DROP - 1 if family.kind == "methods" else 0
    return [Column("epoch", "epoch", _epoch_cell, drop=drop)]


def _epoch_cell(group: Group) -> Cell | None:
    """Return the tested epoch over seeds; None if nothing was trained or selected."""
    trials = group.trials
    epochs = trials.finished_values("selection_epoch")
    # a fine-tuner without training never has this flag, and its only epoch is 0
    is_trained = any(epochs) or bool(trials.finished_values(f"{FLAG}last_epoch"))
    if not epochs or not is_trained or join_rules(trials.column("selection")) == "none":
        return None
    return Spread(statistics.median(epochs), min(epochs), max(epochs))


_SECONDS = Column(
    "seconds", "s/seed", lambda group: optional_cell(Quantity, group.mean("seconds")), drop=1
)


def _difference_columns(family: Family) -> Iterator[Column]:
    """Yield the columns of differences to the baseline with their tests, if they are meaningful."""
    if not family.comparable or family.baseline is None:
        return
    head, compared = family.head, family.compared

    def of(cell: Callable[[Compared], Cell | None]) -> Callable[[Group], Cell | None]:
        return lambda group: cell(compared[group]) if group in compared else None

    def difference(group: Group) -> Cell | None:
        return Text("baseline") if group is family.baseline else of(_difference_cell)(group)

    yield Column("difference", f"Δ{head}", difference)
    if any(comparison.classes for comparison in compared.values()):
        classes = of(
            lambda comparison: optional_cell(Ranged, comparison.classes, decimals=1, bare=True)
        )
        yield Column(CLASSES, f"Δ{head} over classes", classes, drop=4)
    yield Column(
        "pairs", "pairs", of(lambda comparison: Quantity(comparison.difference.n, 0)), drop=2
    )
    yield Column("p", "Holm p", of(lambda comparison: optional_cell(PValue, comparison.holm_p)))
    mde = of(
        lambda comparison: optional_cell(Quantity, comparison.mde, decimals=comparison.decimals)
    )
    drop = _DATASETS_DROP if family.kind == "methods" else 5
    yield Column("mde", "MDE", mde, drop=drop)


def _control_columns(family: Family) -> Iterator[Column]:
    """Yield a column of differences for each control that has the levels of the rows."""
    study, metric = family.study, family.metric
    for control, controls in family.controls.items():

        def cell(group: Group, controls: Mapping[str, Group] = controls) -> Cell | None:
            comparison = (
                None if group.control else compare_with_control(study, metric, controls, [group])
            )
            if comparison is None:
                return None
            n = comparison.difference.n
            suffix = f"(n {n})" if n != len(group.seeds(f"test/{metric}")) else ""
            at, decimals = shared_levels(study, controls, group), comparison.decimals
            return Value(
                comparison.difference, signed=True, decimals=decimals, suffix=suffix, at=at
            )

        hidden = control != FINETUNER_ALONE
        yield Column(versus(control), f"vs {CONTROLS[control][0]}", cell, drop=6, csv_only=hidden)


def _difference_cell(comparison: Compared) -> Cell:
    """Return the cell of a difference, with the number of datasets if some are missing."""
    suffix = f"({comparison.datasets[0]}/{comparison.datasets[1]})" if comparison.datasets else ""
    return Value(comparison.difference, signed=True, decimals=comparison.decimals, suffix=suffix)


def _metric_columns(family: Family) -> Iterator[Column]:
    """Yield the columns of a table without datasets: seeds, selection score, and the metrics."""
    study = family.study

    def seeds(group: Group) -> Cell | None:
        return optional_cell(Quantity, len(set(group.finished_values("seed"))) or None, decimals=0)

    if family.kind == "effects":
        yield Column("seeds", "seeds", seeds)
    objective = f"sel. {heading(study.protocol, study.objective)}"
    score = partial(_mean_cell, family, OBJECTIVE, "")
    yield Column(OBJECTIVE, objective, score, drop=3, metric=OBJECTIVE)
    for name, head in _metric_headings(family).items():
        drop = 0 if name == family.metric else study.protocol.drop.get(name, 0)
        hidden = name not in (*study.protocol.shown, family.metric)
        mean = partial(_mean_cell, family, name, "")
        yield Column(name, head, mean, drop=drop, csv_only=hidden, metric=name)


def _metric_headings(family: Family) -> dict[str, str]:
    """Return the metrics that were measured, with their headings; first those that a page shows."""
    protocol, measured = family.study.protocol, measured_columns(family.study)
    wanted = (*protocol.required, family.metric)
    names = dict.fromkeys((*protocol.shown, family.metric, *protocol.headings))
    return {n: protocol.headings[n] for n in names if f"test/{n}" in measured or n in wanted}


def _columns_by_dataset(family: Family) -> Iterator[Column]:
    """Yield the metric's columns per dataset, then averages; other metrics only in CSV files."""
    metric, heads = family.metric, family.study.protocol.headings
    halves = family.study.protocol.halves.get(metric, ())
    csv_names = [name for name in _metric_headings(family) if name not in (metric, *halves)]

    def over(group: Group) -> Cell | None:
        return None if group.control else Quantity(len(group.present), 0)

    def column(dataset: str, name: str, head: str, **options: Any) -> Column:
        mean = partial(_mean_cell, family, name, dataset)
        return Column(f"{dataset}/{name}", head, mean, metric=name, dataset=dataset, **options)

    yield Column("datasets", "datasets", over, csv_only=True)
    for dataset in family.datasets:
        yield column(dataset, metric, dataset, drop=_DATASETS_DROP)
        for name in (*halves, *csv_names):
            yield column(dataset, name, f"{dataset} {heads[name]}", csv_only=True)
    for name in (*halves, *csv_names):
        yield column(AVERAGE, name, f"mean {heads[name]}", drop=4, csv_only=name in csv_names)
    yield column(AVERAGE, metric, f"{family.head} of means" if halves else f"mean {family.head}")


def _mean_cell(family: Family, metric: str, dataset: str, group: Group) -> Cell | None:
    """Return a metric's mean over seeds, if all finished rows of the group have the metric.

    An average over datasets shows the number of datasets if it is not over all of them. A mean on
    one of several datasets shows its n if that differs from the row's, or the reason why it is
    absent.

    Args:
        family: Family of the group.
        metric: Name of a test metric, or OBJECTIVE.
        dataset: One of several datasets, or AVERAGE; "" if there are not several.
        group: Group of the cell.
    """
    study, part, suffix = family.study, group, ""
    if metric == OBJECTIVE:
        return optional_cell(Value, group.estimate(study.score))
    if dataset == AVERAGE:
        if group.control:  # controls ran on one dataset
            return None
        over, total = len(group.present), len(family.datasets)
        suffix = f"({over}/{total})" if over < total else ""
    elif dataset:
        if dataset not in group.parts:
            return None
        part = group.parts[dataset]
        n = len(part.done)
        if not n and metric == family.metric:
            return Text(_why_absent(part.counts))
        suffix = f"(n {n})" if n != len(group.done) else ""
    decimals = decimals_of(study, metric)
    return optional_cell(Value, part.estimate(f"test/{metric}"), decimals=decimals, suffix=suffix)


def _why_absent(counts: Counts) -> str:
    """Return the reason why a group has no finished row."""
    if counts.failed:
        return "failed"
    return "pruned" if counts.pruned else "missing"
