"""A study's tables: one per factor (ablation or main effects), one of settings, one of ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reports.groups import (
    MOST_LEVELS,
    Group,
    arm_groups,
    baseline_level,
    baseline_setting,
    by_seed,
    companions,
    level_groups,
    matched,
    ordered_levels,
    setting_groups,
    short_name,
)
from reports.model import (
    LEVELS,
    REFERENCES,
    Cell,
    Column,
    Counts,
    PValue,
    Quantity,
    Row,
    Table,
    Text,
    Value,
)
from reports.notes import chosen_by, table_notes, titled
from reports.ranks import rank_table
from reports.records import Study
from reports.rows import Factor
from reports.schema import FAIL, HEADINGS, PRUNED
from reports.stats import Comparison, compare_paired, holm, mean_interval

SHOWN = ("base", "new", "harmonic_mean", "joint_harmonic_mean")
# When a terminal cannot hold all: joint accuracies go before those of the two halves.
_DROP = {name: 4 if name.startswith("joint") else 0 for name in HEADINGS}
TOP = 10  # settings that a page shows of a sampled study


def build_tables(study: Study, metric: str = "harmonic_mean") -> list[Table]:
    """Every table of a study, in reading order.

    One factor with levels: its ablation table. Several factors on a grid: all settings, then each
    factor's main effects. A sampled study or a range: the top settings, then rank associations.

    Args:
        metric: the test metric that differences and p-values are of (a key of HEADINGS).
    """
    levelled = [f for f in study.factors if len(ordered_levels(study, f)) <= MOST_LEVELS]
    if len(study.factors) == 1 and levelled:
        return [factor_table(study, study.factors[0], metric)]
    tables = [settings_table(study, metric)]
    on_grid = levelled if study.sampler == "grid" else []
    tables += [factor_table(study, factor, metric) for factor in on_grid]
    ranged = [factor for factor in study.factors if factor not in on_grid]
    return [*tables, *([rank_table(study, ranged, metric)] if ranged else [])]


def factor_table(study: Study, factor: Factor, metric: str) -> Table:
    """The ablation table of a factor; with other factors beside it, its main effects."""
    alone = len(study.factors) == 1
    levels, arms = level_groups(study, factor), arm_groups(study) if alone else []
    columns = (Column("level", short_name(study, factor), "left"), *_measures(metric))
    if not alone:
        columns = (*columns[:2], Column("seeds", "seeds"), *columns[2:])
    return _table(
        study,
        name=factor.key,
        title=factor.key if alone else f"{factor.key}, main effects",
        columns=columns,
        parts=_Parts(levels, arms, baseline_level(factor, levels), companions(study, factor)),
        metric=metric,
    )


def settings_table(study: Study, metric: str) -> Table:
    """Every setting of the study, best selection objective first, and the reference arms."""
    settings, arms = setting_groups(study), arm_groups(study)
    names = [Column(f.key, short_name(study, f), "left") for f in study.factors]
    labels = names or [Column("setting", "setting", "left")]
    objective = Column("objective", f"sel. {HEADINGS[study.objective]}", drop=1)
    measures = _measures(metric)
    alone = next((arm for arm in arms if arm.arm == "no_synthetic"), None)
    baseline = baseline_setting(study, settings) or alone
    return _table(
        study,
        name="settings",
        title="settings by selection objective",
        columns=(*labels, measures[0], objective, *measures[1:]),
        parts=_Parts(settings, arms, baseline, {}),
        metric=metric,
        labels=len(labels),
        shown=None if study.sampler == "grid" else TOP,
    )


@dataclass(frozen=True)
class _Parts:
    """The groups of a table, the one that is its baseline, and the cells to match within."""

    levels: list[Group]
    arms: list[Group]
    baseline: Group | None
    cells: Mapping[str, str]


def _measures(metric: str) -> tuple[Column, ...]:
    shown = SHOWN if metric in SHOWN else (*SHOWN, metric)
    return (
        Column("n", "n"),
        *(
            Column(name, HEADINGS[name], drop=0 if name == metric else _DROP[name])
            for name in shown
        ),
        Column("difference", f"Δ{HEADINGS[metric]}"),
        Column("pairs", "pairs", drop=3),
        Column("p", "Holm p"),
        Column("detectable", "MDE", drop=1),
        Column("seconds", "s/seed", drop=2),
    )


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
    for section, groups in ((LEVELS, parts.levels), (REFERENCES, parts.arms)):
        compared = [_compare(group, parts, metric) for group in groups]
        # Levels answer the study's question and arms place it: two families, corrected apart.
        adjusted = holm([c.p if c else None for c in compared])
        for group, comparison, p in zip(groups, compared, adjusted, strict=True):
            named = zip(columns, group.labels, strict=False)
            cells: dict[str, Cell] = {column.key: label for column, label in named}
            cells |= _measured(study, group, columns)
            cells |= _compared(comparison, p)
            if group is parts.baseline:
                cells["difference"] = Text("baseline")
            chosen = chosen_by(group.rows["selection"].to_list())
            rows.append(Row(cells, section, group is parts.baseline, chosen, group.arm))
    baseline = _spelled(parts.baseline, columns) if parts.baseline else ""
    kind = "settings" if name == "settings" else "levels" if len(study.factors) == 1 else "effects"
    notes = table_notes(study, rows, metric, kind=kind, baseline=baseline, shown=shown)
    return Table(name, titled(study.name, title, rows), columns, tuple(rows), notes, labels, shown)


def _spelled(group: Group, columns: Sequence[Column]) -> str:
    """The baseline in words: "n_ctx 4", or an arm's label."""
    if group.arm:
        return group.labels[0].text
    named = zip(columns, group.labels, strict=False)
    return ", ".join(f"{column.heading} {label.text}" for column, label in named)


def _compare(group: Group, parts: _Parts, metric: str) -> Comparison | None:
    """Compare a group to the baseline on the (cell, seed) pairs that both finished."""
    if parts.baseline is None or group is parts.baseline:
        return None
    # An arm has no factors: it meets the baseline's settings seed by seed, whatever their cells.
    cells = {} if group.arm or parts.baseline.arm else parts.cells
    column = f"test/{metric}"
    mine = matched(group.rows, column, cells)
    theirs = matched(parts.baseline.rows, column, cells)
    return compare_paired(by_seed(mine, theirs), by_seed(theirs, mine))


def _measured(study: Study, group: Group, columns: Sequence[Column]) -> dict[str, Cell]:
    """Counts, means over seeds and cost of one group."""
    done = group.done
    counts = Counts(len(done), group.count(FAIL), group.count(PRUNED), group.missing())
    cells: dict[str, Cell] = {"n": counts}
    if done.is_empty():
        return cells
    sources = {name: f"test/{name}" for name in HEADINGS}
    sources["objective"] = f"selection/{study.objective}"
    for key in (c.key for c in columns if c.key in sources):
        # A mean over some of the rows would not be the n that stands beside it.
        if done[sources[key]].null_count() == 0:
            values = by_seed(matched(done, sources[key], {}))
            cells[key] = Value(mean_interval(list(values.values())))
    if any(c.key == "seeds" for c in columns):
        cells["seeds"] = Quantity(done["seed"].n_unique(), 0)
    seconds = done["seconds"].drop_nulls().to_list()
    if seconds:
        cells["seconds"] = Quantity(sum(seconds) / len(seconds))
    return cells


def _compared(comparison: Comparison | None, p: float | None) -> dict[str, Cell]:
    if comparison is None:
        return {}
    cells: dict[str, Cell] = {
        "difference": Value(comparison.difference, signed=True),
        "pairs": Quantity(comparison.difference.n, 0),
    }
    if p is not None:
        cells["p"] = PValue(p)
    if comparison.detectable is not None:
        cells["detectable"] = Quantity(comparison.detectable)
    return cells
