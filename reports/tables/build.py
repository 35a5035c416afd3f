"""A study's tables in reading order, and those that compare with a baseline."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from reports.cells import (
    AVERAGE,
    CLASSES,
    OBJECTIVE,
    Cell,
    Cells,
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    known,
)
from reports.contract import COMPLETE, FAIL, PRUNED, QUALITY
from reports.read import Study, heading
from reports.stats import Compared
from reports.tables.associations import rank_table, response_tables
from reports.tables.beside import quality_tables, selection_tables
from reports.tables.families import Family, families, level_family, method_family
from reports.tables.groups import Group
from reports.tables.metric import decimals_of, design_of, measured, with_metric
from reports.tables.notes import comparison_notes, group_row, group_table
from reports.tables.pooling import averaged, beside_dataset, datasets, one_dataset, without_added

# Of more datasets than this the tables of each alone are in the files, not in the terminal.
MOST_DATASETS = 3


def build_tables(study: Study, metric: str | None = None) -> list[Table]:
    """Every table of a study.

    One factor with levels: its ablation table. Several factors on a grid: all settings, then each
    factor's main effects. A sampled study or a range: the top settings, then rank associations. A
    grid over datasets: a row for each method with its average, then each dataset alone. Last, what
    selection chose, the quality of synthesized features, and how the metric goes with it.

    Args:
        metric: the test metric, or measure of quality, that differences and p-values are of; None:
            the protocol's default.

    Raises:
        ReportError: the protocol has no such metric.
    """
    study, metric = with_metric(study, metric)
    made = (_over_datasets if datasets(study) else _of_settings)(study, metric)
    tables = [*made, *selection_tables(study), *quality_tables(study)]
    of_quality = metric.startswith(QUALITY)
    return tables if of_quality else [*tables, *response_tables(without_added(study), metric)]


def _of_settings(study: Study, metric: str) -> Iterator[Table]:
    found = list(families(study, metric))
    yield from map(comparison_table, found)
    held = {family.name for family in found}
    ranged = [factor for factor in study.factors if factor.key not in held]
    if ranged:
        yield rank_table(without_added(study), ranged, metric)


def _over_datasets(study: Study, metric: str) -> Iterator[Table]:
    yield comparison_table(method_family(study, metric))
    others = beside_dataset(study)
    if not others:
        yield from _of_settings(study, metric)
        return
    whole = averaged(without_added(study))
    if whole is not None and len(others) > 1:
        for factor in whole.factors:
            table = comparison_table(level_family(whole, factor, metric))
            yield dataclasses.replace(table, name=f"{AVERAGE}-{table.name}")
    names = datasets(study)
    for name in names:
        # The settings of one dataset: their main effects are in the averages above.
        first = next(_of_settings(one_dataset(study, name), metric))
        place = first.place if len(names) <= MOST_DATASETS else "files"
        yield dataclasses.replace(first, name=f"{name}-{first.name}", place=place)


def comparison_table(family: Family) -> Table:
    """The table of a family, a row a group, with means and what is known of their differences.

    Of settings, those with the best selection objective come first, then the reference arms.

    Of methods it has a column a dataset, and every metric in CSV. A seed's average is over the
    datasets on which its method has any result, and it has one where it finished on each of them;
    fewer datasets than the study's are said beside the average. The reference arms ran on one
    dataset and have no average.
    """
    study = family.study
    if family.kind == "methods":
        title, columns = f"{family.head} by dataset", [*_by_dataset(family), *_compared(family)]
    else:
        told = {"settings": " by selection objective", "effects": ", main effects"}
        title = f"{family.name}{told.get(family.kind, '')}"
        objective = f"sel. {heading(study.protocol, study.objective)}"
        columns = [
            *([Column("seeds", "seeds")] if family.kind == "effects" else []),
            Column(OBJECTIVE, objective, drop=3, metric=OBJECTIVE),
            *_measures(family),
            *_compared(family),
            Column("seconds", "s/seed", drop=1),
        ]
    rows = []
    for group in family.groups:
        baseline, compared = group is family.baseline, family.compared.get(group)
        own = _measured(family, group, columns) | _compared_cells(compared)
        own |= {"difference": Text("baseline")} if baseline else {}
        rows.append(group_row(group, family.labels, own, baseline=baseline, compared=compared))
    notes, kind, metric = [*comparison_notes(family, rows)], family.kind, family.metric
    return group_table(family, family.name, title, columns, rows, notes, kind=kind, metric=metric)


def _compared(family: Family) -> Iterator[Column]:
    """The columns of differences, where they mean anything."""
    if not family.comparable:
        return
    yield Column("difference", f"Δ{family.head}")
    if any(one.classes for one in family.compared.values()):
        yield Column(CLASSES, f"Δ{family.head} over classes", drop=4)
    yield Column("pairs", "pairs", drop=2)
    if design_of(family.study, family.metric):
        yield Column("decision", "decision", "left")
    else:
        yield from (Column("p", "Holm p"), Column("detectable", "MDE", drop=5))


def _compared_cells(compared: Compared | None) -> Cells:
    """Difference, pairs, corrected p, detectable effect and decision, as far as there are any."""
    if compared is None:
        return {}
    decimals, decision, over = compared.decimals, compared.decision, compared.datasets
    suffix = f"({over[0]}/{over[1]})" if over else ""
    return {
        "difference": Value(compared.difference, signed=True, decimals=decimals, suffix=suffix),
        "pairs": Quantity(compared.difference.n, 0),
        CLASSES: known(Ranged, compared.classes, decimals=1, bare=True),
        "p": known(PValue, compared.holm_p),
        "detectable": known(Quantity, compared.detectable, decimals=decimals),
        "decision": known(Text, "no spread" if decision == "constant" else decision),
    }


def _measures(family: Family) -> Iterator[Column]:
    """The protocol's metrics, those beyond a page in CSV alone."""
    study, metric, protocol = family.study, family.metric, family.study.protocol
    there, shown = measured(study), dict.fromkeys((*protocol.shown, metric))
    for name in dict.fromkeys((*shown, *protocol.headings)):
        if f"test/{name}" in there or name in (*protocol.required, metric):
            drop = 0 if name == metric else protocol.drop.get(name, 0)
            head = protocol.headings[name]
            yield Column(name, head, drop=drop, csv_only=name not in shown, metric=name)


def _measured(family: Family, group: Group, columns: Sequence[Column]) -> Cells:
    """Means over seeds, what they are over, and cost of one group."""
    over = len(group.present) if group.parts and not group.arm else None
    return {
        **{one.key: _mean(family, group, one) for one in columns if one.metric},
        "seeds": known(Quantity, len(set(group.known("seed"))) or None, decimals=0),
        "datasets": known(Quantity, over, decimals=0),
        "seconds": known(Quantity, group.mean("seconds")),
    }


def _mean(family: Family, group: Group, column: Column) -> Cell | None:
    """The mean over seeds of a column's metric, if all of a group's finished rows have it.

    Its average where it ran on several datasets, which says over how many; or that on one of them,
    which says its own n, or why there is none.
    """
    study, metric = family.study, column.metric
    if metric == OBJECTIVE:
        return known(Value, group.estimate(study.score))
    part, suffix = group, ""
    if column.dataset == AVERAGE:
        if group.arm:  # it ran on one dataset
            return None
        over, of = len(group.present), len(family.datasets)
        if over < of:
            suffix = f"({over}/{of})"
    elif column.dataset:
        if column.dataset not in group.parts:
            return None
        part = group.parts[column.dataset]
        n = part.count(COMPLETE)
        if not n and metric == family.metric:
            return Text(_why_absent(part))
        if n != group.count(COMPLETE):
            suffix = f"(n {n})"
    decimals = decimals_of(study, metric)
    return known(Value, part.estimate(f"test/{metric}"), decimals=decimals, suffix=suffix)


def _why_absent(part: Group) -> str:
    """Why a group has no finished row."""
    if part.count(FAIL):
        return "failed"
    return "pruned" if part.count(PRUNED) else "missing"


def _by_dataset(family: Family) -> Iterator[Column]:
    """A dataset's metric, the averages with those of its halves; in CSV alone the other metrics."""
    protocol, metric = family.study.protocol, family.metric
    halves = protocol.halves.get(metric, ())
    others = [one.metric for one in _measures(family) if one.metric not in (metric, *halves)]
    yield Column("datasets", "datasets", csv_only=True)
    for name in family.datasets:
        yield _column(name, metric, name, drop=5)
        for one in (*halves, *others):
            yield _column(name, one, f"{name} {protocol.headings[one]}", csv_only=True)
    for one in (*halves, *others):
        hidden = one in others
        yield _column(AVERAGE, one, f"mean {protocol.headings[one]}", drop=4, csv_only=hidden)
    yield _column(AVERAGE, metric, f"{family.head} of means" if halves else f"mean {family.head}")


def _column(dataset: str, metric: str, heading: str, **told: Any) -> Column:
    return Column(f"{dataset}/{metric}", heading, **told, metric=metric, dataset=dataset)
