"""Tables of one row a level, a setting or a method: test metrics, differences to the baseline."""

from collections.abc import Sequence

from reports.read import Study, heading
from reports.tables.comparison import compared_cells, difference_columns, is_designed, kept_columns
from reports.tables.families import Family
from reports.tables.groups import Group
from reports.tables.metric import decimals_of
from reports.tables.model import OBJECTIVE, Cell, Column, Quantity, Table, Text, Value, known
from reports.tables.notes import noted_table, table_notes
from reports.tables.rows import group_row

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
    cells: Sequence[dict[str, Cell | None]],
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
        kept_columns(columns, rows),
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
        columns += difference_columns(family.head, designed=is_designed(study, metric))
    return [Column("n", "n"), *columns, Column("seconds", "s/seed", drop=1)]


def _measured(study: Study, group: Group, columns: Sequence[Column]) -> dict[str, Cell | None]:
    """Means over seeds and cost of one group."""
    cells: dict[str, Cell | None] = {}
    for key in (column.key for column in columns if column.metric):
        source = f"selection/{study.objective}" if key == OBJECTIVE else f"test/{key}"
        cells[key] = known(Value, group.estimate(source), False, decimals_of(study, key))
    seeds, seconds = len(set(group.known("seed"))), group.known("seconds")
    cells["seeds"] = known(Quantity, seeds or None, 0)
    cells["seconds"] = Quantity(sum(seconds) / len(seconds)) if seconds else None
    return cells
