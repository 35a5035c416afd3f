"""The tables that compare with a baseline: of levels, settings, or methods by dataset."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from reports.contract import COMPLETE, FAIL, MISSING, PRUNED
from reports.read import Study, heading
from reports.tables.comparison import compared_cells, difference_columns, is_designed
from reports.tables.families import Family, method_family
from reports.tables.groups import Group
from reports.tables.metric import decimals_of
from reports.tables.model import (
    AVERAGE,
    OBJECTIVE,
    Cell,
    Cells,
    Column,
    Quantity,
    Table,
    Text,
    Value,
    known,
)
from reports.tables.notes import noted_table, table_notes
from reports.tables.pooling import DATASET, datasets
from reports.tables.rows import counts_of, group_row

TOP = 10  # settings that a page shows of a sampled study
MOST = 1_000  # settings of a grid that a page shows


def shown_of(family: Family) -> int | None:
    """How many settings a page shows, the best ones; None of what it shows all of."""
    if family.kind != "settings":
        return None
    return MOST if family.study.sampler == "grid" else TOP


def ablation_table(family: Family) -> Table:
    """The table of a factor's levels, of its main effects, or of a study's settings.

    The settings come with the best selection objective first, then the reference arms.
    """
    study = family.study
    count, *measures = _measures(family)
    score = heading(study.protocol, study.objective)
    columns = [
        *family.labels,
        count,
        *([Column("seeds", "seeds")] if family.kind == "effects" else []),
        Column(OBJECTIVE, f"sel. {score}", drop=3, metric=OBJECTIVE),
        *measures,
    ]
    told = {"settings": " by selection objective", "effects": ", main effects", "levels": ""}
    return compared_table(
        family,
        f"{family.name}{told[family.kind]}",
        columns,
        [_measured(study, group, columns) for group in family.groups],
    )


def compared_table(
    family: Family,
    title: str,
    columns: Sequence[Column],
    cells: Sequence[Cells],
) -> Table:
    """The table of a family.

    Args:
        family: with a row a group.
        title: what the table shows.
        columns: those that name a row among them.
        cells: what is measured of each group, by column.
    """
    rows, shown = [], shown_of(family)
    for group, compared, measured in zip(family.groups, family.compared, cells, strict=True):
        baseline = group is family.baseline
        own = measured | compared_cells(compared)
        own |= {"difference": Text("baseline")} if baseline else {}
        rows.append(group_row(group, family.labels, own, baseline=baseline, compared=compared))
    return noted_table(
        family.study,
        family.name,
        title,
        columns,
        rows,
        table_notes(family, rows, shown),
        labels=len(family.labels),
        shown=shown,
        kind=family.kind,
        metric=family.metric,
    )


def _measures(family: Family) -> list[Column]:
    """n, the protocol's metrics (those beyond a page in CSV alone), differences and cost."""
    study, metric, protocol = family.study, family.metric, family.study.protocol
    shown = protocol.shown if metric in protocol.shown else (*protocol.shown, metric)
    measured = [
        name
        for name in (*shown, *(name for name in protocol.headings if name not in shown))
        if name in (*protocol.required, metric) or study.rows[f"test/{name}"].is_not_null().any()
    ]
    columns = [
        Column(
            name,
            protocol.headings[name],
            drop=0 if name == metric else protocol.drop.get(name, 0),
            csv_only=name not in shown,
            metric=name,
        )
        for name in measured
    ]
    if family.comparable:
        designed = is_designed(study, metric)
        columns += difference_columns(family.head, family.compared, designed=designed)
    return [Column("n", "n"), *columns, Column("seconds", "s/seed", drop=1)]


def _measured(study: Study, group: Group, columns: Sequence[Column]) -> Cells:
    """Means over seeds and cost of one group."""
    metrics = [column.metric for column in columns if column.metric not in ("", OBJECTIVE)]
    return {
        OBJECTIVE: known(Value, group.estimate(f"selection/{study.objective}")),
        **{metric: _value(study, group, metric) for metric in metrics},
        "seeds": known(Quantity, len(set(group.known("seed"))) or None, 0),
        "seconds": known(Quantity, group.mean("seconds")),
    }


_ABSENT = {FAIL: "failed", PRUNED: "pruned", MISSING: "missing"}


def dataset_tables(study: Study, metric: str) -> list[Table]:
    """The table of methods by dataset, and the same in long form for programs.

    A seed's average is over the datasets on which its method has any result, and it has one where
    it finished on each of them; fewer datasets than the study's are said beside the average. The
    reference arms ran on one dataset and have no average.

    Args:
        study: a grid over at least two datasets.
        metric: name of the test metric that the cells are of, in percent.
    """
    family, names = method_family(study, metric), datasets(study)
    measured = (metric, *study.protocol.halves.get(metric, ()))
    cells = [_cells(study, group, names, measured) for group in family.groups]
    columns = [*family.labels, *_columns(family, names, measured)]
    main = compared_table(family, f"{family.head} by dataset", columns, cells)
    return [main, _long(family)]


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
        yield from difference_columns(head, family.compared)


def _column(dataset: str, metric: str, heading: str, **told: Any) -> Column:
    return Column(f"{dataset}/{metric}", heading, **told, metric=metric, dataset=dataset)


def _cells(study: Study, group: Group, names: Sequence[str], measured: Sequence[str]) -> Cells:
    """The cells of the datasets, one without a result says why; and the averages."""
    cells: Cells = {}
    for name, part in group.parts.items():
        n = part.count(COMPLETE)
        suffix = "" if n == group.count(COMPLETE) else f"(n {n})"
        cells |= {f"{name}/{one}": _value(study, part, one, suffix) for one in measured}
        if not n:
            absent = next((s for s in (FAIL, PRUNED) if part.count(s)), MISSING)
            cells[f"{name}/{measured[0]}"] = Text(_ABSENT[absent])
    if group.arm:
        return cells
    over, of = len(group.present), len(names)
    suffix = "" if over == of else f"({over}/{of})"
    averages = {f"{AVERAGE}/{one}": _value(study, group, one, suffix) for one in measured}
    return cells | averages | {"datasets": Quantity(over, 0)}


def _value(study: Study, group: Group, metric: str, suffix: str = "") -> Cell | None:
    """A group's mean over seeds of a test metric, if all of its finished rows have it."""
    decimals = decimals_of(study, metric)
    return known(Value, group.estimate(f"test/{metric}"), False, decimals, suffix)


def _long(family: Family) -> Table:
    """A row for each method, dataset (or the average) and metric of the protocol."""
    study, rows = family.study, []
    for group in family.groups:
        # An average over other datasets is another number: it is named by how many it holds.
        places = [(name, 1, part) for name, part in group.parts.items()]
        average = [] if group.arm else [(AVERAGE, len(group.present), group)]
        for (place, over, part), metric in product([*places, *average], study.protocol.headings):
            value = _value(study, part, metric)
            cells: Cells = {
                DATASET: Text(place), "datasets": Quantity(over, 0), "metric": Text(metric),
                "n": counts_of(part), "value": value,
            }  # fmt: skip
            if value or metric in study.protocol.required:
                baseline = group is family.baseline
                rows.append(group_row(group, family.labels, cells, baseline=baseline))
    columns = (
        *family.labels,
        *(Column(key, key) for key in (DATASET, "datasets", "metric", "n", "value")),
    )
    return Table("datasets-long", "", columns, tuple(rows), (), len(family.labels), place="csv")
