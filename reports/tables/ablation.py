"""Tables of one row a level or a setting: test metrics, and differences to the baseline."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from reports.contract import COMPLETE
from reports.read import Factor, Study, heading
from reports.tables.comparison import (
    Pairs,
    compare,
    compared_cells,
    detection_notes,
    difference_columns,
    is_designed,
    kept_columns,
    paired,
    unchanged,
)
from reports.tables.groups import (
    Group,
    arm_groups,
    baseline_level,
    baseline_setting,
    companions,
    factor_labels,
    level_groups,
    setting_groups,
    short_name,
    spelled,
)
from reports.tables.metric import decimals_of, value_of
from reports.tables.model import Cell, Column, Compared, Quantity, Row, Table, Text
from reports.tables.notes import table_notes, titled
from reports.tables.over_classes import MOST_RUNS, OverClasses
from reports.tables.rows import group_row

TOP = 10  # settings that a page shows of a sampled study
MOST = 1_000  # settings of a grid that a page shows


def most_shown(study: Study) -> int:
    """How many settings a page shows, the best ones."""
    return MOST if study.sampler == "grid" else TOP


def factor_table(study: Study, factor: Factor, metric: str, *, compared: bool = True) -> Table:
    """The ablation table of a factor; with other factors beside it, its main effects.

    Args:
        compared: whether differences between the levels mean anything (not between datasets).
    """
    alone = len(study.factors) == 1
    levels, arms = level_groups(study, factor), arm_groups(study) if alone else []
    first, *others = _measures(study, metric, compared=compared)
    columns = (
        Column("level", short_name(study, factor), "left"),
        first,
        *(() if alone else (Column("seeds", "seeds"),)),
        _score_column(study),
        *others,
    )
    baseline = baseline_level(factor, levels) if compared else None
    return _table(
        study,
        name=factor.key,
        title=factor.key if alone else f"{factor.key}, main effects",
        columns=columns,
        parts=_Parts(levels, arms, baseline, companions(study, factor), compared),
        metric=metric,
    )


def settings_table(study: Study, metric: str) -> Table:
    """Every setting of the study, best selection objective first, and the reference arms."""
    settings, arms = setting_groups(study), arm_groups(study)
    labels = factor_labels(study)
    measures = _measures(study, metric)
    alone = next((arm for arm in arms if arm.arm == "no_synthetic"), None)
    baseline = baseline_setting(study, settings) or alone
    return _table(
        study,
        name="settings",
        title="settings by selection objective",
        columns=(*labels, measures[0], _score_column(study), *measures[1:]),
        parts=_Parts(settings, arms, baseline, {}),
        metric=metric,
        labels=len(labels),
        shown=most_shown(study),
    )


def _score_column(study: Study) -> Column:
    """The objective on the pictures that selection looks at: what a setting is chosen by."""
    return Column("objective", f"sel. {heading(study.protocol, study.objective)}", drop=3)


@dataclass(frozen=True)
class _Parts:
    """The groups of a table, the one that is its baseline, and the cells to match within."""

    levels: Sequence[Group]
    arms: list[Group]
    baseline: Group | None
    cells: Mapping[str, str]
    compared: bool = True


def _measures(study: Study, metric: str, *, compared: bool = True) -> tuple[Column, ...]:
    """n, the protocol's metrics (those beyond a page in CSV alone), differences and cost."""
    protocol = study.protocol
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
        )
        for name in measured
    ]
    if compared:
        head, designed = heading(protocol, metric), is_designed(study, metric)
        columns += difference_columns(head, designed=designed)
    return (Column("n", "n"), *columns, Column("seconds", "s/seed", drop=1))


def _table(
    study: Study,
    *,
    name: str,
    title: str,
    columns: tuple[Column, ...],
    parts: _Parts,
    metric: str,
    labels: int = 1,
    shown: int | None = None,
) -> Table:
    rows: list[Row] = []
    groups = [*parts.levels, *parts.arms]
    kind: Literal["settings", "levels", "effects"] = "settings"
    if name != "settings":
        kind = "levels" if len(study.factors) == 1 else "effects"
    found = compare(study, metric, [_pairs(group, parts, metric) for group in groups])
    classes = _over_classes(study, groups, parts, metric)
    for group, one in zip(groups, found, strict=True):
        compared = one and dataclasses.replace(
            one,
            classes=classes.difference(group, one.difference.mean) if classes else None,
            unchanged=_same(group, parts, metric, one),
        )
        cells = _measured(study, group, columns) | compared_cells(compared)
        base = group is parts.baseline
        cells |= {"difference": Text("baseline")} if base else {}
        rows.append(group_row(group, columns, cells, baseline=base, compared=compared))
    columns = kept_columns(columns, rows)
    baseline = spelled(parts.baseline, columns) if parts.baseline else ""
    names = [spelled(group, columns) for group in groups]
    notes = table_notes(
        study,
        rows,
        metric,
        kind=kind,
        baseline=baseline if parts.compared else None,
        names=names,
        shown=shown,
    )
    notes += tuple(detection_notes(study, metric)) if parts.compared else ()
    title = titled(study, title, rows)
    return Table(name, title, columns, tuple(rows), notes, labels, shown, kind=kind, metric=metric)


def _over_classes(
    study: Study, groups: Sequence[Group], parts: _Parts, metric: str
) -> OverClasses | None:
    """What compares groups over other classes; None where nothing does, or it would take long."""
    runs = sum(group.rows["run_id"].n_unique() for group in groups)
    if parts.baseline is None or runs > MOST_RUNS or study.pooled:
        return None
    return OverClasses(study, metric, parts.baseline, parts.cells)


def _pairs(group: Group, parts: _Parts, metric: str) -> Pairs | None:
    """What is compared of a group: with the baseline, on the (cell, seed) pairs of both."""
    if parts.baseline is None or group is parts.baseline:
        return None
    return paired(group, parts.baseline, parts.cells, metric)


def _same(group: Group, parts: _Parts, metric: str, compared: Compared) -> bool:
    """Whether a group has the baseline's results; looked up where the mean does not deny it."""
    if parts.baseline is None or compared.difference.mean:
        return False
    return unchanged(group, parts.baseline, parts.cells, metric)


def _measured(study: Study, group: Group, columns: Sequence[Column]) -> dict[str, Cell]:
    """Means over seeds and cost of one group."""
    cells: dict[str, Cell] = {}
    done = group.count(COMPLETE)
    if not done:
        return cells
    sources = {name: f"test/{name}" for name in study.protocol.headings}
    sources["objective"] = f"selection/{study.objective}"
    for key in (c.key for c in columns if c.key in sources):
        # A mean over some of the rows would not be the n that stands beside it.
        if len(group.known(sources[key])) == done:
            values = list(group.seeds(sources[key]).values())
            cells[key] = value_of(key, values, decimals_of(study, key))
    if any(c.key == "seeds" for c in columns):
        cells["seeds"] = Quantity(len(set(group.known("seed"))), 0)
    if seconds := group.known("seconds"):
        cells["seconds"] = Quantity(sum(seconds) / len(seconds))
    return cells
