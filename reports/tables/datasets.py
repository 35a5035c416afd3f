"""The table over datasets: a row for each method, a column for each dataset, and the average."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from reports.contract import COMPLETE, FAIL, MISSING, PRUNED
from reports.read import Factor, Study, heading
from reports.stats import Estimate
from reports.tables.ablation import compared_table
from reports.tables.comparison import difference_columns
from reports.tables.families import Family, method_family
from reports.tables.groups import Group
from reports.tables.metric import decimals_of
from reports.tables.model import AVERAGE, Cell, Column, Quantity, Table, Text, Value
from reports.tables.pooling import DATASET, datasets
from reports.tables.rows import counts_of, group_row

_ABSENT = {FAIL: "failed", PRUNED: "pruned", MISSING: "missing"}


def dataset_tables(study: Study, over: Factor, metric: str) -> list[Table]:
    """The table of methods by dataset, and the same in long form for programs.

    A seed's average is over the datasets on which its method has any result, and it has one where
    it finished on each of them; fewer datasets than the study's are said beside the average. The
    reference arms ran on one dataset and have no average.

    Args:
        study: a grid over at least two datasets.
        over: its factor `dataset`.
        metric: name of the test metric that the cells are of, in percent.
    """
    family, names = method_family(study, over, metric), datasets(study, over)
    measured = (metric, *study.protocol.halves.get(metric, ()))
    cells = [_cells(study, group, names, measured) for group in family.groups]
    columns = [*family.labels, *_columns(family, names, measured)]
    main = compared_table(family, f"{family.head} by dataset", columns, cells)
    return [main, _long(family, names)]


def _columns(family: Family, names: Sequence[str], measured: Sequence[str]) -> Iterator[Column]:
    """n, a dataset's metric (its halves in CSV alone), the averages, the comparison."""
    metric, *halves = measured
    heads = {name: heading(family.study.protocol, name) for name in measured}
    yield Column("n", "n")
    yield Column("datasets", "datasets", csv_only=True)
    for name in names:
        yield _column(name, metric, name, drop=5)
        for half in halves:
            yield _column(name, half, f"{name} {heads[half]}", csv_only=True)
    for half in halves:
        yield _column(AVERAGE, half, f"mean {heads[half]}", drop=4)
    head = heads[metric]
    yield _column(AVERAGE, metric, f"{head} of means" if halves else f"mean {head}")
    if family.comparable:
        yield from difference_columns(head)


def _column(dataset: str, metric: str, heading: str, **told: Any) -> Column:
    return Column(f"{dataset}/{metric}", heading, **told, metric=metric, dataset=dataset)


def _cells(
    study: Study, group: Group, names: Sequence[str], measured: Sequence[str]
) -> dict[str, Cell | None]:
    """The cells of the datasets, one without a result says why; and the averages."""
    cells: dict[str, Cell | None] = {}
    done, present = group.count(COMPLETE), group.present
    for name, part in group.parts.items():
        if not part.count(COMPLETE):
            absent = next((s for s in (FAIL, PRUNED) if part.count(s)), MISSING)
            cells[f"{name}/{measured[0]}"] = Text(_ABSENT[absent])
        for metric in measured:
            if found := part.estimate(f"test/{metric}"):
                suffix = "" if found.n == done else f"(n {found.n})"
                cells[f"{name}/{metric}"] = _value(study, metric, found, suffix)
    if group.arm:
        return cells
    cells["datasets"] = Quantity(len(present), 0)
    for metric in measured:
        if found := group.estimate(f"test/{metric}"):
            suffix = "" if len(present) == len(names) else f"({len(present)}/{len(names)})"
            cells[f"{AVERAGE}/{metric}"] = _value(study, metric, found, suffix)
    return cells


def _value(study: Study, metric: str, found: Estimate, suffix: str = "") -> Value:
    return Value(found, decimals=decimals_of(study, metric), suffix=suffix)


def _long(family: Family, names: Sequence[str]) -> Table:
    """A row for each method, dataset (or the average) and metric of the protocol."""
    study, rows = family.study, []
    for group in family.groups:
        blank = group_row(group, family.labels, {}, baseline=group is family.baseline)
        # An average over other datasets is another number: it is named by how many it holds.
        places = [(name, 1, part) for name, part in group.parts.items()]
        average = [] if group.arm else [(AVERAGE, len(group.present), group)]
        for (place, over, part), metric in product([*places, *average], study.protocol.headings):
            found = part.estimate(f"test/{metric}")
            cells: dict[str, Cell] = {
                DATASET: Text(place), "datasets": Quantity(over, 0),
                "metric": Text(metric), "n": counts_of(part),
            }  # fmt: skip
            if found:
                cells["value"] = _value(study, metric, found)
            if found or metric in study.protocol.required:
                rows.append(dataclasses.replace(blank, cells={**blank.cells, **cells}))
    columns = (
        *family.labels,
        *(Column(key, key) for key in (DATASET, "datasets", "metric", "n", "value")),
    )
    return Table("datasets-long", "", columns, tuple(rows), (), len(family.labels), place="csv")
