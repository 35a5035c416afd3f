"""A row of a table, out of the ledger rows behind it: what every table says of each of its rows."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

import polars as pl

from reports.contract import COMPLETE, FAIL, FLAG, PRUNED
from reports.read import Study
from reports.tables.groups import Group, spelled
from reports.tables.model import (
    Cell,
    Column,
    Compared,
    Counts,
    Flagged,
    Row,
)

LEAKS = frozenset({"test", "reference"})


def group_row(
    group: Group,
    labels: Sequence[Column],
    cells: Mapping[str, Cell | None],
    *,
    n: int | None = None,
    flags: tuple[Flagged, ...] | None = None,
    baseline: bool = False,
    compared: Compared | None = None,
) -> Row:
    """The row of a group.

    Args:
        group: the ledger rows behind it.
        labels: columns that name it.
        cells: what is measured, by column.
        n: rows behind its means; None: all that finished.
        flags: that were raised; None: those of the group's rows.
        baseline: whether the others are compared with it.
        compared: with the baseline.
    """
    named: dict[str, Cell] = {c.key: text for c, text in zip(labels, group.labels, strict=False)}
    counts = counts_of(group)
    named["n"] = counts if n is None else dataclasses.replace(counts, done=n)
    name, first = spelled(group, labels), group.labels[0].text
    return Row(
        {**named, **{key: cell for key, cell in cells.items() if cell is not None}},
        baseline,
        chosen_by(group.trials["selection"].to_list()),
        group.arm,
        raised_flags(group.trials) if flags is None else flags,
        group.added,
        compared,
        name=name or first,
        level=first if len(labels) == 1 else name,
    )


def plain_rows(study: Study, rows: Iterable[Mapping[str, Cell | None]]) -> list[Row]:
    """Rows that are of the whole study, by their cells; those that are None are left out."""
    rule = chosen_by(study.rows["selection"].to_list())
    return [
        Row({key: cell for key, cell in cells.items() if cell is not None}, selection=rule)
        for cells in rows
    ]


def counts_of(group: Group) -> Counts:
    """The rows of a group that finished, and those that did not."""
    return Counts(group.count(COMPLETE), group.count(FAIL), group.count(PRUNED), group.missing())


def chosen_by(rules: Iterable[str | None]) -> str:
    """What chose the epochs of some rows: the one rule, or all of them joined by "+"."""
    return "+".join(sorted({rule for rule in rules if rule}))


def on_test(selection: str) -> bool:
    """Say whether any of the joined rules looks at test pictures."""
    return not LEAKS.isdisjoint(selection.split("+"))


def raised_flags(rows: pl.DataFrame, only: Collection[str] | None = None) -> tuple[Flagged, ...]:
    """The flags that finished rows raised; rows where a flag was not looked for do not count.

    Args:
        rows: in any state.
        only: names of the flags that are asked for; None: all.
    """
    flags = [name for name in rows.columns if name.startswith(FLAG)]
    columns = [name for name in flags if only is None or name.removeprefix(FLAG) in only]
    if not columns:
        return ()
    done = [state == COMPLETE for state in rows["state"].to_list()]
    found = []
    for column in columns:
        values = [v for v, own in zip(rows[column].to_list(), done, strict=True) if own]
        known = [value for value in values if value is not None]
        raised = sum(value >= 0.5 for value in known)
        if raised:
            found.append(Flagged(column.removeprefix(FLAG), raised, len(known)))
    return tuple(found)
