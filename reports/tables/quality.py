"""How good the synthesized features are, beside real ones: one table a study."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from reports.contract import QUALITY
from reports.read import Study
from reports.tables.ablation import most_shown
from reports.tables.formatting import number
from reports.tables.groups import Group, arm_groups, by_seed, first_rows, matched, spelled
from reports.tables.legend import arm_notes, interval_note
from reports.tables.metric import MEASURES, Measure, places, value_of
from reports.tables.model import (
    Cell,
    Column,
    Flagged,
    Row,
    Table,
    Text,
    Value,
)
from reports.tables.notes import flag_notes, head_notes, titled, unfinished_notes
from reports.tables.pooling import Method, averaged_over, dataset_factor, methods, present
from reports.tables.preference import added_notes
from reports.tables.rows import group_row, raised_flags

# Errors of one seed's estimate: the intervals over seeds hold them already.
_ERRORS = ("frechet_error", "mmd_error")
_UNIT = "n: finished rows with synthesized features, one a seed"
_OVER = "datasets: those that the average of a row is over"
_SELECTION = "pseudo_new_"  # CSV columns of what was measured on the selection pictures


@dataclass(frozen=True)
class _Source:
    """Where the rows come from: the study, or its averages over datasets.

    rows: the study's own, every trial's.
    averages: setting_key -> what its average is over; {} where no row is an average.
    """

    study: Study
    arms: list[Group]
    rows: pl.DataFrame
    averages: dict[str, Method]

    def datasets(self, group: Group) -> str:
        """Over how many of the study's datasets a row is; the reference arms ran on one."""
        method, of = self.averages.get(group.rows["setting_key"][0]), len(self.study.pooled)
        own = len(method.keys) if method else 1
        return str(of) if own == of else f"{own} of {of}"

    def flags(self, group: Group) -> tuple[Flagged, ...]:
        """The flags that a row's trials raised, those behind an average each."""
        averaged = [self.averages[k] for k in group.rows["setting_key"] if k in self.averages]
        if not averaged:
            return raised_flags(group.rows)
        keys = {key for method in averaged for key in method.keys.values()}
        return raised_flags(self.rows.filter(pl.col("setting_key").is_in(list(keys))))


def quality_tables(study: Study) -> list[Table]:
    """The table of quality, a row as in the study's first table; none where nothing was measured.

    Over several datasets a seed's value is its mean over those on which its method finished; with
    no other factor a dataset is a row of its own.
    """
    source = _source(study)
    rows_of, whole = source.study.rows, source.study
    names = sorted(name for name in rows_of.columns if QUALITY in name)
    measured = [name for name in names if rows_of[name].is_not_null().any()]
    if not any(name.startswith(f"test/{QUALITY}") for name in measured):
        return []
    groups, labels = first_rows(source.study, source.arms)
    shown = most_shown(whole) if labels[0].key != "level" else None
    # What has no synthetic features is left out, what has not finished is not.
    groups = [group for group in groups if _has_any(group, measured) or group.done.is_empty()]
    decimals = {name: places(rows_of[name].drop_nulls().to_list()) for name in measured}
    rows = [_row(source, group, labels, decimals) for group in groups]
    measures = _ordered(whole.protocol.telling)
    over = [Column("datasets", "datasets")] if source.averages else []
    notes = [
        *head_notes(whole, rows),
        _UNIT,
        *([_OVER] if over else []),
        _legend(measures, measured),
    ]
    notes.append(interval_note(whole))
    notes += flag_notes(study.rows, rows, [spelled(group, labels) for group in groups])
    notes += [*added_notes(rows), *arm_notes(study, rows), *unfinished_notes(study)]
    kind = f"{whole.protocol.unseen or 'tested'} classes, test pictures"
    title = titled(study, f"quality of synthesized features ({kind})", rows)
    columns = (*labels, Column("n", "n"), *over, *_columns(measures, measured))
    return [Table("quality", title, columns, tuple(rows), tuple(notes), len(labels), shown)]


def _ordered(telling: str) -> list[Measure]:
    """The measures in the order of their columns: the protocol's own before Fréchet, to stay."""
    others = [measure for measure in MEASURES if measure.metric != telling]
    first = [dataclasses.replace(m, drop=0) for m in MEASURES if m.metric == telling]
    place = next(i for i, measure in enumerate(others) if measure.metric == "frechet")
    return [*others[:place], *first, *others[place:]]


def _legend(measures: Sequence[Measure], measured: Sequence[str]) -> str:
    """What the columns are that the table has."""
    told = [m.meaning for m in measures if m.meaning and f"test/{QUALITY}{m.metric}" in measured]
    errors = any(f"test/{QUALITY}{name}" in measured for name in _ERRORS)
    return "; ".join([*told, *(["errors of one seed's Fréchet and MMD² in the CSV"] * errors)])


def _source(study: Study) -> _Source:
    over, arms = dataset_factor(study), arm_groups(study)
    if over is None or len(study.factors) == 1:
        return _Source(study, arms, study.rows, {})
    parts = [present(study, method) for method in methods(study)]
    whole = averaged_over(study, over, parts)
    keys = [setting.key for setting in whole.settings]
    return _Source(whole, arms, study.rows, dict(zip(keys, parts, strict=True)))


def _has_any(group: Group, names: Sequence[str]) -> bool:
    return any(group.done[name].is_not_null().any() for name in names)


def _columns(measures: Sequence[Measure], measured: Sequence[str]) -> Iterator[Column]:
    """The measures that any row has; on pseudo-new classes, and the errors, in CSV alone."""
    for measure in measures:
        if f"test/{QUALITY}{measure.metric}" in measured:
            yield Column(measure.metric, measure.heading, drop=measure.drop)
    beside = [measure.beside for measure in MEASURES if measure.beside]
    for name in (*beside, *_ERRORS):
        if f"test/{QUALITY}{name}" in measured:
            yield Column(name, name, csv_only=True)
    for name in measured:
        if name.startswith(f"selection/{QUALITY}"):
            key = f"{_SELECTION}{name.removeprefix(f'selection/{QUALITY}')}"
            yield Column(key, key, csv_only=True)


def _row(
    source: _Source, group: Group, labels: Sequence[Column], decimals: Mapping[str, int]
) -> Row:
    found = group.done.filter(pl.any_horizontal(pl.col(list(decimals)).is_not_null()))
    cells: dict[str, Cell] = {}
    if source.averages:
        cells["datasets"] = Text(source.datasets(group))
    for name, digits in decimals.items():
        split, _, metric = name.partition(f"/{QUALITY}")
        values = list(by_seed(matched(found, name, {})).values())
        if values:
            key = metric if split == "test" else f"{_SELECTION}{metric}"
            lacking = found[name].null_count()
            suffix = f"(n {len(found) - lacking})" if lacking else ""
            cells[key] = value_of(f"{QUALITY}{metric}", values, digits, suffix)
    cells |= {m.metric: _beside(cells, m) for m in MEASURES if m.beside and m.metric in cells}
    return group_row(group, labels, cells, n=len(found), flags=source.flags(group))


def _beside(cells: Mapping[str, Cell], measure: Measure) -> Cell:
    """A measure with the real features' own behind it, where that is known."""
    own, real = cells[measure.metric], cells.get(measure.beside)
    if not isinstance(own, Value) or not isinstance(real, Value):
        return own
    behind = f"/ {number(real.estimate.mean, own.decimals)}"
    return dataclasses.replace(own, suffix=" ".join(part for part in (behind, own.suffix) if part))
