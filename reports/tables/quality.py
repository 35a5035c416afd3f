"""How good the synthesized features are, beside real ones: one table a study."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from reports.contract import COMPLETE, QUALITY
from reports.read import Study
from reports.tables.ablation import shown_of
from reports.tables.families import families, method_lines
from reports.tables.formatting import number
from reports.tables.groups import Group
from reports.tables.legend import arm_notes, interval_note
from reports.tables.metric import MEASURES, Measure, interval_of, places
from reports.tables.model import Cell, Column, Row, Table, Text, Value
from reports.tables.notes import flag_notes, noted_table
from reports.tables.pooling import dataset_factor, datasets
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
    known = sorted(name for name in study.rows.columns if QUALITY in name)
    measured = [name for name in known if study.rows[name].is_not_null().any()]
    if not any(name.startswith(f"test/{QUALITY}") for name in measured):
        return []
    over = dataset_factor(study) if len(study.factors) > 1 else None
    if over:
        lines, labels = method_lines(study, over)
        shown, n_datasets = None, len(datasets(study, over))
    else:
        first = next(families(study, study.objective))
        lines, labels, shown, n_datasets = first.groups, first.labels, shown_of(first), 0
    # What has no synthetic features is left out, what has not finished is not.
    groups = [
        group
        for group in lines
        if any(group.known(name) for name in measured) or not group.count(COMPLETE)
    ]
    values = {name: [v for group in groups for v in group.known(name)] for name in measured}
    decimals = {name: places(found) for name, found in values.items() if found}
    if not decimals:  # an average over datasets is of measures that all of them have
        return []
    measured = list(decimals)
    rows = [_row(group, labels, decimals, n_datasets) for group in groups]
    measures = _ordered(study.protocol.telling)
    notes = [
        "n: finished rows with synthesized features, one a seed",
        *(["datasets: those that the average of a row is over"] if over else []),
        _legend(measures, measured),
        interval_note(study),
        *flag_notes(study.rows, rows),
        *added_notes(rows),
        *arm_notes(study, rows),
    ]
    columns = (
        *labels,
        Column("n", "n"),
        *([Column("datasets", "datasets")] if over else []),
        *_columns(measures, measured),
    )
    kind = f"{study.protocol.unseen or 'tested'} classes, test pictures"
    title, about = f"quality of synthesized features ({kind})", {"labels": len(labels)}
    return [noted_table(study, "quality", title, columns, rows, notes, **about, shown=shown)]


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


def _row(group: Group, labels: Sequence[Column], decimals: Mapping[str, int], datasets: int) -> Row:
    """A row of the table.

    Args:
        group: that it is of.
        labels: columns that name it.
        decimals: of each measure.
        datasets: of the study; 0 where no row is an average over them.
    """
    own = [name for name in decimals if group.known(name)]
    columns = [group.done[name].is_not_null().to_list() for name in own]
    n = sum(map(any, zip(*columns, strict=True)))
    cells: dict[str, Cell] = {}
    if datasets:
        over = len(group.present or group.parts)
        cells["datasets"] = Text(str(over) if over == datasets else f"{over} of {datasets}")
    for name in own:
        split, _, metric = name.partition(f"/{QUALITY}")
        if values := list(group.seeds(name).values()):
            key = metric if split == "test" else f"{_SELECTION}{metric}"
            there = len(group.known(name))
            suffix = f"(n {there})" if there < n else ""
            estimate = interval_of(f"{QUALITY}{metric}", values)
            cells[key] = Value(estimate, decimals=decimals[name], suffix=suffix)
    cells |= {m.metric: _beside(cells, m) for m in MEASURES if m.beside and m.metric in cells}
    return group_row(group, labels, cells, n=n)


def _beside(cells: Mapping[str, Cell], measure: Measure) -> Cell:
    """A measure with the real features' own behind it, where that is known."""
    own, real = cells[measure.metric], cells.get(measure.beside)
    if not isinstance(own, Value) or not isinstance(real, Value):
        return own
    behind = f"/ {number(real.estimate.mean, own.decimals)}"
    return dataclasses.replace(own, suffix=" ".join(part for part in (behind, own.suffix) if part))
