"""A row of a table, out of the ledger rows behind it: what every table says of each of its rows."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from reports.contract import COMPLETE, FAIL, FLAG, PRUNED
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
        chosen_by(group.trials.column("selection")),
        group.arm,
        raised_flags(group.trials) if flags is None else flags,
        group.added,
        compared,
        name=name or first,
        level=first if len(labels) == 1 else name,
    )


def counts_of(group: Group) -> Counts:
    """The rows of a group that finished, and those that did not."""
    return Counts(group.count(COMPLETE), group.count(FAIL), group.count(PRUNED), group.missing())


def chosen_by(rules: Iterable[str | None]) -> str:
    """What chose the epochs of some rows: the one rule, or all of them joined by "+"."""
    return "+".join(sorted({rule for rule in rules if rule}))


def on_test(selection: str) -> bool:
    """Say whether any of the joined rules looks at test pictures."""
    return not LEAKS.isdisjoint(selection.split("+"))


def raised_flags(group: Group, only: Collection[str] | None = None) -> tuple[Flagged, ...]:
    """The flags that finished rows raised; rows where a flag was not looked for do not count.

    Args:
        group: of single trials.
        only: names of the flags that are asked for; None: all.
    """
    found = []
    for name in (name for name in group.rows.columns if name.startswith(FLAG)):
        flag, values = name.removeprefix(FLAG), group.known(name)
        raised = sum(value >= 0.5 for value in values)
        if raised and (only is None or flag in only):
            found.append(Flagged(flag, raised, len(values)))
    return tuple(found)
