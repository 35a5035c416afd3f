"""How good the synthesized features are, beside real ones: one table a study."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from reports.contract import COMPLETE, QUALITY
from reports.read import Study
from reports.tables.ablation import most_shown
from reports.tables.families import families
from reports.tables.formatting import number
from reports.tables.groups import Group, arm_groups, by_seed, matched, rows_of
from reports.tables.legend import arm_notes, interval_note
from reports.tables.metric import MEASURES, Measure, interval_of, places
from reports.tables.model import Cell, Column, Row, Table, Text, Value
from reports.tables.notes import flag_notes, head_notes, titled, unfinished_notes
from reports.tables.pooling import Method, averaged_over, dataset_factor, methods, with_results
from reports.tables.preference import added_notes
from reports.tables.rows import group_row

# Errors of one seed's estimate: the intervals over seeds hold them already.
_ERRORS = ("frechet_error", "mmd_error")
_SELECTION = "pseudo_new_"  # CSV columns of what was measured on the selection pictures


def quality_tables(study: Study) -> list[Table]:
    """The table of quality, a row as in the study's first table; none where nothing was measured.

    Over several datasets a seed's value is its mean over those on which its method finished; with
    no other factor a dataset is a row of its own.
    """
    over = dataset_factor(study)
    parts = with_results(study, methods(study)) if over and len(study.factors) > 1 else []
    whole = averaged_over(study, over, parts) if over and parts else study
    averages = {s.key: method for s, method in zip(whole.settings, parts, strict=False)}
    columns_of = sorted(name for name in whole.rows.columns if QUALITY in name)
    measured = [name for name in columns_of if whole.rows[name].is_not_null().any()]
    if not any(name.startswith(f"test/{QUALITY}") for name in measured):
        return []
    first = next(families(whole, whole.objective))
    labels, shown = first.labels, most_shown(whole) if first.kind == "settings" else None
    # What has no synthetic features is left out, what has not finished is not.
    groups = [
        dataclasses.replace(group, parts=_parts(study, group, averages)) if averages else group
        for group in (*first.groups, *(arm_groups(study) if averages else ()))
        if any(group.known(name) for name in measured) or not group.count(COMPLETE)
    ]
    decimals = {name: places(whole.rows[name].drop_nulls().to_list()) for name in measured}
    rows = [_row(whole, group, labels, decimals) for group in groups]
    measures = _ordered(whole.protocol.telling)
    notes = [
        *head_notes(whole, rows),
        "n: finished rows with synthesized features, one a seed",
        *(["datasets: those that the average of a row is over"] if averages else []),
        _legend(measures, measured),
        interval_note(whole),
        *flag_notes(study.rows, rows),
        *added_notes(rows),
        *arm_notes(study, rows),
        *unfinished_notes(study),
    ]
    kind = f"{whole.protocol.unseen or 'tested'} classes, test pictures"
    title = titled(study, f"quality of synthesized features ({kind})", rows)
    over_datasets = [Column("datasets", "datasets")] if averages else []
    columns = (*labels, Column("n", "n"), *over_datasets, *_columns(measures, measured))
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


def _parts(study: Study, group: Group, averages: Mapping[str, Method]) -> dict[str, Group]:
    """Dataset -> the trials there that a group of averages is of; an arm's under no name."""
    keys: dict[str, list[str]] = {}
    for setting in group.rows["setting_key"].unique():
        of = averages[setting].keys if setting in averages else {"": setting}
        for name, key in of.items():
            keys.setdefault(name, []).append(key)
    return {name: Group((), rows_of(study, found)) for name, found in keys.items()}


def _row(whole: Study, group: Group, labels: Sequence[Column], decimals: Mapping[str, int]) -> Row:
    found = group.done.filter(pl.any_horizontal(pl.col(list(decimals)).is_not_null()))
    cells: dict[str, Cell] = {}
    if group.parts:
        over, of = len(group.parts), len(whole.pooled)
        cells["datasets"] = Text(str(of) if over == of else f"{over} of {of}")
    for name, digits in decimals.items():
        split, _, metric = name.partition(f"/{QUALITY}")
        values = list(by_seed(matched(found, name, {})).values())
        if values:
            key = metric if split == "test" else f"{_SELECTION}{metric}"
            lacking = found[name].null_count()
            suffix = f"(n {len(found) - lacking})" if lacking else ""
            estimate = interval_of(f"{QUALITY}{metric}", values)
            cells[key] = Value(estimate, decimals=digits, suffix=suffix)
    cells |= {m.metric: _beside(cells, m) for m in MEASURES if m.beside and m.metric in cells}
    return group_row(group, labels, cells, n=len(found))


def _beside(cells: Mapping[str, Cell], measure: Measure) -> Cell:
    """A measure with the real features' own behind it, where that is known."""
    own, real = cells[measure.metric], cells.get(measure.beside)
    if not isinstance(own, Value) or not isinstance(real, Value):
        return own
    behind = f"/ {number(real.estimate.mean, own.decimals)}"
    return dataclasses.replace(own, suffix=" ".join(part for part in (behind, own.suffix) if part))
