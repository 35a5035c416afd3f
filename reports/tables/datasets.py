"""The table over datasets: a row for each method, a column for each dataset, and the average."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from reports.contract import FAIL, MISSING, PRUNED
from reports.read import Factor, Study, heading
from reports.stats import compare_paired
from reports.tables.comparison import (
    by_tests,
    compared_cells,
    difference_columns,
    effect_of,
    kept_columns,
    same_results,
)
from reports.tables.groups import arm_groups, short_name
from reports.tables.metric import decimals_of, value_of
from reports.tables.model import (
    LEVELS,
    REFERENCES,
    Cell,
    Column,
    Compared,
    Quantity,
    Row,
    Table,
    Text,
)
from reports.tables.notes import table_notes, titled
from reports.tables.over_classes import average_difference
from reports.tables.pooling import (
    DATASET,
    Line,
    arm_line,
    arms_dataset,
    datasets,
    method_line,
    methods,
)
from reports.tables.rows import chosen_by, raised_flags

AVERAGE = "average"
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
    names = datasets(study, over)
    labels = _labels(study)
    lines = [method_line(study, method) for method in methods(study)]
    home = arms_dataset(study, over)
    arms = [arm_line(study, arm, home) for arm in arm_groups(study)]
    base = next((line for line in lines if line.baseline), None)
    rows = []
    for line, compared in zip(
        lines, _compared(study, lines, base, metric, len(names)), strict=True
    ):
        cells = _cells(study, line, names, metric) | _average_cells(study, line, names, metric)
        cells |= compared_cells(compared)
        if line is base and len(lines) > 1:
            cells["difference"] = Text("baseline")
        rows.append(_row(line, labels, cells, compared))
    rows += [_row(arm, labels, _cells(study, arm, names, metric)) for arm in arms]
    spelled = [_spelled(line, labels) for line in (*lines, *arms)]
    told = "" if base is None else spelled[lines.index(base)]
    notes = table_notes(
        study, rows, metric, kind="datasets", names=spelled,
        baseline=told if len(lines) > 1 else None,
    )  # fmt: skip
    columns = kept_columns(
        [*labels, *_columns(study, names, metric, compared=len(lines) > 1)], rows
    )
    title = titled(study, f"{heading(study.protocol, metric)} by dataset", rows)
    main = Table(
        "datasets", title, columns, tuple(rows), notes, len(labels), kind="methods", metric=metric
    )
    return [main, _long(study, [*lines, *arms], names, labels)]


def _labels(study: Study) -> list[Column]:
    others = [f for f in study.factors if f.key != DATASET]
    found = [Column(f.key, short_name(study, f), "left") for f in others]
    return found or [Column("setting", "setting", "left")]


def _row(
    line: Line,
    labels: Sequence[Column],
    cells: Mapping[str, Cell],
    compared: Compared | None = None,
) -> Row:
    named = {column.key: text for column, text in zip(labels, line.labels, strict=False)}
    return Row(
        {**named, **cells},
        REFERENCES if line.arm else LEVELS,
        line.baseline,
        chosen_by(line.frame["selection"].to_list()),
        line.arm,
        raised_flags(line.frame),
        line.added,
        compared,
    )


def _spelled(line: Line, labels: Sequence[Column]) -> str:
    if line.arm:
        return line.labels[0].text
    named = zip(labels, line.labels, strict=True)
    return ", ".join(f"{c.heading} {text.text}" for c, text in named if text.text != "–")


def _columns(
    study: Study, names: Sequence[str], metric: str, *, compared: bool
) -> Iterator[Column]:
    """n, a dataset's metric (its halves in CSV alone), the averages, the comparison."""
    protocol = study.protocol
    halves = protocol.halves.get(metric, ())
    yield Column("n", "n")
    yield Column("datasets", "datasets", csv_only=True)
    for name in names:
        yield Column(f"{name}/{metric}", name, drop=5)
        for half in halves:
            yield Column(f"{name}/{half}", f"{name} {heading(protocol, half)}", csv_only=True)
    for half in halves:
        yield Column(f"{AVERAGE}/{half}", f"mean {heading(protocol, half)}", drop=4)
    head = heading(protocol, metric)
    yield Column(f"{AVERAGE}/{metric}", f"{head} of means" if halves else f"mean {head}")
    if compared:
        yield from difference_columns(head)


def _cells(study: Study, line: Line, names: Sequence[str], metric: str) -> dict[str, Cell]:
    """n and the cells of the datasets; one without a result says why."""
    counts = line.counts(line.present() or names)
    cells: dict[str, Cell] = {"n": counts}
    for name in (name for name in names if name in line.rows):
        for part in (metric, *study.protocol.halves.get(metric, ())):
            values = list(line.averages(part, [name]).values())
            if values:
                suffix = "" if len(values) == counts.done else f"(n {len(values)})"
                cells[f"{name}/{part}"] = value_of(part, values, decimals_of(study, part), suffix)
        if not line.finished(name):
            states = {row["state"] for row in line.rows[name].values()}
            absent = next((s for s in (FAIL, PRUNED) if s in states), MISSING)
            cells[f"{name}/{metric}"] = Text(_ABSENT[absent])
    return cells


def _average_cells(study: Study, line: Line, names: Sequence[str], metric: str) -> dict[str, Cell]:
    present = line.present()
    cells: dict[str, Cell] = {"datasets": Quantity(len(present), 0)}
    suffix = "" if len(present) == len(names) else f"({len(present)}/{len(names)})"
    for part in (metric, *study.protocol.halves.get(metric, ())):
        values = list(line.averages(part, present).values())
        if values:
            cells[f"{AVERAGE}/{part}"] = value_of(part, values, decimals_of(study, part), suffix)
    return cells


def _compared(
    study: Study, lines: Sequence[Line], base: Line | None, metric: str, of: int
) -> list[Compared | None]:
    """Each line with the baseline, over the datasets that both have, of so many of the study."""
    common = [
        [name for name in line.present() if base is not None and name in base.present()]
        for line in lines
    ]
    pairs = [
        compare_paired(line.averages(metric, names), base.averages(metric, names))
        if base is not None and line is not base
        else None
        for line, names in zip(lines, common, strict=True)
    ]
    every: list[Compared | None] = []
    found = by_tests(pairs, effect_of(study, metric), decimals_of(study, metric))
    for line, names, one in zip(lines, common, found, strict=True):
        if one is not None and base is not None:
            mean = one.difference.mean
            one = dataclasses.replace(
                one,
                classes=average_difference(study, line, base, names, metric, mean),
                unchanged=_same(line, base, names, metric),
                datasets=(len(names), of) if len(names) < of else None,
            )
        every.append(one)
    return every


def _same(line: Line, base: Line, names: Sequence[str], metric: str) -> bool:
    """Whether both have the same results on each dataset under each seed."""
    of = [(line.averages(metric, [name]), base.averages(metric, [name])) for name in names]
    return same_results(
        [[own[seed], theirs[seed]] for own, theirs in of for seed in own if seed in theirs]
    )


def _long(
    study: Study, lines: Sequence[Line], names: Sequence[str], labels: Sequence[Column]
) -> Table:
    """A row for each method, dataset (or the average) and metric of the protocol."""
    rows = []
    for line in lines:
        blank = _row(line, labels, {})
        # An average over other datasets is another number: it is named by how many it holds.
        places = [(name, [name]) for name in names if name in line.rows]
        for place, over in [*places, *([] if line.arm else [(AVERAGE, line.present())])]:
            for metric in study.protocol.headings:
                values = list(line.averages(metric, over).values())
                cells: dict[str, Cell] = {
                    DATASET: Text(place), "datasets": Quantity(len(over), 0),
                    "metric": Text(metric), "n": line.counts(over or names),
                }  # fmt: skip
                if values:
                    cells["value"] = value_of(metric, values, decimals_of(study, metric))
                if values or metric in study.protocol.required:
                    rows.append(dataclasses.replace(blank, cells={**blank.cells, **cells}))
    columns = (
        *labels,
        *(Column(key, key) for key in (DATASET, "datasets", "metric", "n", "value")),
    )
    return Table("datasets-long", "", columns, tuple(rows), (), len(labels), place="csv")
