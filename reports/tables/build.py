"""A study's tables in reading order, and those that compare with a baseline."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from harness.store import ALONE, ARMS, FLAG, QUALITY
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
    known,
    versus,
)
from reports.stats import Compared
from reports.study import Study, heading
from reports.tables.associations import rank_table, response_tables
from reports.tables.beside import quality_tables, selection_tables
from reports.tables.controls import compare_with_control, levels_of_control, shared_levels
from reports.tables.families import Family, families, level_family, method_family
from reports.tables.groups import Group, arm_groups, chosen_by
from reports.tables.metric import decimals_of, measured, with_metric
from reports.tables.notes import COUNTS, comparison_notes, group_table
from reports.tables.pooling import (
    DATASET,
    arms_dataset,
    averaged,
    beside_dataset,
    datasets,
    one_dataset,
)

# Of more datasets than this the tables of each alone are in the files, not in the terminal.
MOST_DATASETS = 3
# When a terminal is too narrow, the columns of single datasets go last: see Column.
_DATASETS_DROP = 6


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
    return tables if of_quality else [*tables, *response_tables(study, metric)]


def _of_settings(study: Study, metric: str) -> Iterator[Table]:
    found = list(families(study, metric))
    yield from map(comparison_table, found)
    held = {family.name for family in found}
    ranged = [factor for factor in study.factors if factor.key not in held]
    if ranged:
        yield rank_table(study, ranged, metric)


def _over_datasets(study: Study, metric: str) -> Iterator[Table]:
    read = [key for key in levels_of_control(study, ALONE) if key != DATASET]
    is_controlled = any(arm.arm == ALONE for arm in arm_groups(study))
    for table in _of_datasets(study, metric):
        varies = table.kind in ("methods", "settings") or table.name.endswith(tuple(read))
        lacks = versus(ALONE) not in {column.key for column in table.columns}
        if read and is_controlled and varies and lacks:
            home = arms_dataset(study)
            why = f"no column vs {ARMS[ALONE][0]}: controls run on {home} only, whose table has it"
            table = dataclasses.replace(table, notes=(*table.notes, why))
        yield table


def _of_datasets(study: Study, metric: str) -> Iterator[Table]:
    yield comparison_table(method_family(study, metric))
    others = beside_dataset(study)
    if not others:
        yield from _of_settings(study, metric)
        return
    whole = averaged(study)
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
    kind = {"settings": " by selection objective", "effects": ", main effects"}
    title = f"{family.name}{kind.get(family.kind, '')}"
    epochs = _tested_epochs(family)
    differences = [*_compared(family), *_with_controls(family)]
    columns = [COUNTS, *epochs, *_over_seeds(family), *differences, _SECONDS]
    if family.kind == "methods":
        title = f"{family.head} by dataset"
        columns = [COUNTS, *epochs, *_by_dataset(family), *_compared(family)]
    notes, about = comparison_notes(family), {"kind": family.kind, "metric": family.metric}
    groups, name = family.groups, family.name
    return group_table(family, groups, name, title, columns, notes, compares=True, **about)


def _tested_epochs(family: Family) -> list[Column]:
    """Return the column of the tested epochs, of a table that is the first of its rows' study.

    There is none where no row has one, nor among main effects and averages: they follow a table
    that has it.
    """
    follows = family.kind == "effects" or (family.study.pooled and family.kind != "methods")
    if follows or not any(map(_tested_epoch, family.groups)):
        return []
    # in a narrow terminal the datasets of a method matter more than its epochs over all of them
    drop = _DATASETS_DROP - 1 if family.kind == "methods" else 0
    return [Column("epoch", "epoch", _tested_epoch, drop=drop)]


def _tested_epoch(group: Group) -> Cell | None:
    """Return the tested epoch over seeds; None where nothing was trained, or nothing selected."""
    trials = group.trials
    epochs = trials.known("selection_epoch")
    # a fine-tuner that could not train raises no such flag, and has no epoch but 0
    is_trained = any(epochs) or bool(trials.known(f"{FLAG}last_epoch"))
    if not epochs or not is_trained or chosen_by(trials.column("selection")) == "none":
        return None
    return Spread(statistics.median(epochs), min(epochs), max(epochs))


_SECONDS = Column("seconds", "s/seed", lambda group: known(Quantity, group.mean("seconds")), drop=1)


def _compared(family: Family) -> Iterator[Column]:
    """What is known of differences to the baseline, where they mean anything."""
    if not family.comparable or family.baseline is None:
        return
    head, found = family.head, family.compared

    def of(cell: Callable[[Compared], Cell | None]) -> Callable[[Group], Cell | None]:
        return lambda group: cell(found[group]) if group in found else None

    def difference(group: Group) -> Cell | None:
        return Text("baseline") if group is family.baseline else of(_difference)(group)

    yield Column("difference", f"Δ{head}", difference)
    if any(one.classes for one in found.values()):
        classes = of(lambda one: known(Ranged, one.classes, decimals=1, bare=True))
        yield Column(CLASSES, f"Δ{head} over classes", classes, drop=4)
    yield Column("pairs", "pairs", of(lambda one: Quantity(one.difference.n, 0)), drop=2)
    yield Column("p", "Holm p", of(lambda one: known(PValue, one.holm_p)))
    detectable = of(lambda one: known(Quantity, one.detectable, decimals=one.decimals))
    drop = _DATASETS_DROP if family.kind == "methods" else 5
    yield Column("detectable", "MDE", detectable, drop=drop)


def _with_controls(family: Family) -> Iterator[Column]:
    """Yield a column of differences for each control that has the levels of the rows."""
    study, metric = family.study, family.metric
    for control, controls in family.controls.items():

        def cell(group: Group, controls: Mapping[str, Group] = controls) -> Cell | None:
            found = None if group.arm else compare_with_control(study, metric, controls, [group])
            if found is None:
                return None
            n = found.difference.n
            suffix = f"(n {n})" if n != len(group.seeds(f"test/{metric}")) else ""
            at, decimals = shared_levels(study, controls, group), found.decimals
            return Value(found.difference, signed=True, decimals=decimals, suffix=suffix, at=at)

        hidden = control != ALONE
        yield Column(versus(control), f"vs {ARMS[control][0]}", cell, drop=6, csv_only=hidden)


def _difference(one: Compared) -> Cell:
    suffix = f"({one.datasets[0]}/{one.datasets[1]})" if one.datasets else ""
    return Value(one.difference, signed=True, decimals=one.decimals, suffix=suffix)


def _over_seeds(family: Family) -> Iterator[Column]:
    """Of levels and settings: how many seeds, the selection objective, the protocol's metrics."""
    study = family.study

    def seeds(group: Group) -> Cell | None:
        return known(Quantity, len(set(group.known("seed"))) or None, decimals=0)

    if family.kind == "effects":
        yield Column("seeds", "seeds", seeds)
    objective = f"sel. {heading(study.protocol, study.objective)}"
    score = partial(_mean, family, OBJECTIVE, "")
    yield Column(OBJECTIVE, objective, score, drop=3, metric=OBJECTIVE)
    for name, head in _metrics(family).items():
        drop = 0 if name == family.metric else study.protocol.drop.get(name, 0)
        hidden = name not in (*study.protocol.shown, family.metric)
        mean = partial(_mean, family, name, "")
        yield Column(name, head, mean, drop=drop, csv_only=hidden, metric=name)


def _metrics(family: Family) -> dict[str, str]:
    """The protocol's metrics that there are, with their headings; first those that a page shows."""
    protocol, there = family.study.protocol, measured(family.study)
    wanted = (*protocol.required, family.metric)
    names = dict.fromkeys((*protocol.shown, family.metric, *protocol.headings))
    return {n: protocol.headings[n] for n in names if f"test/{n}" in there or n in wanted}


def _by_dataset(family: Family) -> Iterator[Column]:
    """A dataset's metric, the averages with those of its halves; in CSV alone the other metrics."""
    metric, heads = family.metric, family.study.protocol.headings
    halves = family.study.protocol.halves.get(metric, ())
    others = [name for name in _metrics(family) if name not in (metric, *halves)]

    def over(group: Group) -> Cell | None:
        return None if group.arm else Quantity(len(group.present), 0)

    def column(dataset: str, name: str, head: str, **told: Any) -> Column:
        mean = partial(_mean, family, name, dataset)
        return Column(f"{dataset}/{name}", head, mean, metric=name, dataset=dataset, **told)

    yield Column("datasets", "datasets", over, csv_only=True)
    for dataset in family.datasets:
        yield column(dataset, metric, dataset, drop=_DATASETS_DROP)
        for name in (*halves, *others):
            yield column(dataset, name, f"{dataset} {heads[name]}", csv_only=True)
    for name in (*halves, *others):
        yield column(AVERAGE, name, f"mean {heads[name]}", drop=4, csv_only=name in others)
    yield column(AVERAGE, metric, f"{family.head} of means" if halves else f"mean {family.head}")


def _mean(family: Family, metric: str, dataset: str, group: Group) -> Cell | None:
    """The mean over seeds of a metric, if all of a group's finished rows have it.

    Its average where it ran on several datasets, which says over how many; or that on one of them,
    which says its own n, or why there is none.

    Args:
        family: of the group.
        metric: of test; or OBJECTIVE.
        dataset: one of several, or AVERAGE; "": there are not several.
        group: whose cell it is.
    """
    study, part, suffix = family.study, group, ""
    if metric == OBJECTIVE:
        return known(Value, group.estimate(study.score))
    if dataset == AVERAGE:
        if group.arm:  # it ran on one dataset
            return None
        over, of = len(group.present), len(family.datasets)
        suffix = f"({over}/{of})" if over < of else ""
    elif dataset:
        if dataset not in group.parts:
            return None
        part = group.parts[dataset]
        n = len(part.done)
        if not n and metric == family.metric:
            return Text(_why_absent(part.counts))
        suffix = f"(n {n})" if n != len(group.done) else ""
    decimals = decimals_of(study, metric)
    return known(Value, part.estimate(f"test/{metric}"), decimals=decimals, suffix=suffix)


def _why_absent(counts: Counts) -> str:
    """Why a group has no finished row."""
    if counts.failed:
        return "failed"
    return "pruned" if counts.pruned else "missing"
