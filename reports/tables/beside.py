"""Beside a study's results: what selection chose for each seed, and how good the features are."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reports.contract import COMPLETE, FLAG, QUALITY
from reports.read import Study, heading
from reports.tables.compared import shown_of
from reports.tables.families import first_family, method_family
from reports.tables.formatting import number
from reports.tables.groups import Group
from reports.tables.legend import arm_notes, interval_note
from reports.tables.metric import MEASURES, Measure, interval_of, places
from reports.tables.model import Cell, Cells, Column, Row, Table, Text, Value, known
from reports.tables.notes import flag_notes, noted_table
from reports.tables.pooling import datasets
from reports.tables.preferred import added_notes, preferred_note
from reports.tables.rows import group_row, raised_flags

# What may be chosen beside the epoch: the column of the frame, and its heading.
_CHOSEN = {
    "selection/age": "age",
    "selection/alpha": "alpha",
    "selection/beta": "beta",
    "selection/ratio": "ratio",
    "selection/calibration": "calibration",
}
_ALWAYS = ("selection/age", "selection/calibration")
_EDGE = "grid_edge"
# Flags that are a matter of selection.
_MARKS = ("last_epoch", _EDGE)


def selection_tables(study: Study) -> list[Table]:
    """The table of what selection chose, a row as in the study's first table.

    None where nothing was selected, nor where rows are averages over datasets.
    """
    rows = study.rows
    score = f"selection/{study.objective}"
    if study.pooled or score not in rows.columns or rows[score].null_count() == len(rows):
        return []
    first = first_family(study, study.objective)
    labels = first.labels
    groups = [group for group in first.groups if group.count(COMPLETE)]
    edge = f"{FLAG}{_EDGE}"
    searched = edge in rows.columns and rows[edge].count() > 0  # else they are as configured
    chosen = [
        name
        for name in _CHOSEN
        if name in rows.columns and rows[name].count() and (searched or name in _ALWAYS)
    ]
    made = [_chosen_row(group, labels, score, chosen) for group in groups]
    columns = (
        *labels,
        Column("n", "n"),
        Column("score", f"sel. {heading(study.protocol, study.objective)}"),
        Column("epoch", "epoch (range)"),
        *(Column(name.partition("/")[2], _CHOSEN[name]) for name in chosen),
    )
    notes = [
        "sel.: on the pictures that selection looks at, at what it chose; epoch: the median over"
        " seeds and its range, 0 before any training; alpha, beta, ratio: how many seeds took each"
        " value",
        *added_notes(row.added for row in made),
        *preferred_note(study),
        interval_note(study),
        *flag_notes(study, made, _MARKS),
    ]
    told: dict[str, Any] = {"labels": len(labels), "shown": shown_of(first), "place": "files"}
    return [noted_table(study, "selected", "what selection chose", columns, made, notes, **told)]


def _chosen_row(group: Group, labels: Sequence[Column], score: str, chosen: Sequence[str]) -> Row:
    epochs = group.known("selection_epoch")
    cells: Cells = {"score": known(Value, group.estimate(score))}
    if epochs:
        middle = statistics.median(epochs)
        cells["epoch"] = Text(f"{middle:g} ({min(epochs)}–{max(epochs)})")
    for name in chosen:
        if taken := group.known(name):
            cells[name.partition("/")[2]] = Text(_tally(taken))
    return group_row(group, labels, cells, flags=raised_flags(group, _MARKS))


def _tally(values: Sequence[float]) -> str:
    """Values with how many seeds took each, the most frequent first: "10 (8), 3 (2)"."""
    counts = Counter(values).most_common()
    if len(counts) > 3:  # a constant that is fitted to each seed
        return f"{min(values):.3g} to {max(values):.3g}"
    return ", ".join(f"{value:.3g} ({count})" for value, count in counts)


# Errors of one seed's estimate: the intervals over seeds hold them already.
_ERRORS = ("frechet_error", "mmd_error")
_SELECTION = "pseudo_new_"  # CSV columns of what was measured on the selection pictures


def quality_tables(study: Study) -> list[Table]:
    """The table of quality, a row as in the study's first table; none where nothing was measured.

    Over several datasets a seed's value is its mean over those on which its method finished; with
    no other factor a dataset is a row of its own.
    """
    every = sorted(name for name in study.rows.columns if QUALITY in name)
    measured = [name for name in every if study.rows[name].is_not_null().any()]
    if not any(name.startswith(f"test/{QUALITY}") for name in measured):
        return []
    over = datasets(study) if len(study.factors) > 1 else []
    family = (method_family if over else first_family)(study, study.objective)
    # What has no synthetic features is left out, what has not finished is not.
    groups = [
        group
        for group in family.groups
        if any(group.known(name) for name in measured) or not group.count(COMPLETE)
    ]
    values = {name: [v for group in groups for v in group.known(name)] for name in measured}
    decimals = {name: places(found) for name, found in values.items() if found}
    if not decimals:  # an average over datasets is of measures that all of them have
        return []
    keys = {name: _key(name) for name in decimals}
    rows = [_measured_row(group, family.labels, decimals, len(over)) for group in groups]
    measures = [one for one in _ordered(study.protocol.telling) if one.metric in keys.values()]
    told = [measure.meaning for measure in measures if measure.meaning]
    if {*_ERRORS} & {*keys.values()}:
        told.append("errors of one seed's Fréchet and MMD² in the CSV")
    notes = [
        "n: finished rows with synthesized features, one a seed",
        *(["datasets: those that the average of a row is over"] if over else []),
        "; ".join(told),
        interval_note(study),
        *flag_notes(study, rows),
        *added_notes(row.added for row in rows),
        *arm_notes(study, rows),
    ]
    # on pseudo-new classes, the real features' own, and the errors: for programs
    others = [one for one in (*(m.beside for m in MEASURES), *_ERRORS) if one in keys.values()]
    others += [key for key in keys.values() if key.startswith(_SELECTION)]
    columns = (
        *family.labels,
        Column("n", "n"),
        *([Column("datasets", "datasets")] if over else []),
        *(Column(one.metric, one.heading, drop=one.drop) for one in measures),
        *(Column(key, key, csv_only=True) for key in others),
    )
    kind = f"{study.protocol.unseen or 'tested'} classes, test pictures"
    title = f"quality of synthesized features ({kind})"
    about = {"labels": len(family.labels), "shown": shown_of(family)}
    return [noted_table(study, "quality", title, columns, rows, notes, **about)]


def _key(name: str) -> str:
    """The column of a measure, as the table has it."""
    split, _, metric = name.partition(f"/{QUALITY}")
    return metric if split == "test" else f"{_SELECTION}{metric}"


def _ordered(telling: str) -> list[Measure]:
    """The measures in the order of their columns: the protocol's own before Fréchet, to stay."""
    others = [measure for measure in MEASURES if measure.metric != telling]
    first = [dataclasses.replace(m, drop=0) for m in MEASURES if m.metric == telling]
    place = next(i for i, measure in enumerate(others) if measure.metric == "frechet")
    return [*others[:place], *first, *others[place:]]


def _measured_row(
    group: Group, labels: Sequence[Column], decimals: Mapping[str, int], datasets: int
) -> Row:
    """A row of the table.

    Args:
        group: that it is of.
        labels: columns that name it.
        decimals: of each measure.
        datasets: of the study; 0 where no row is an average over them.
    """
    own = [name for name in decimals if group.known(name)]
    n = len({place for name in own for place in group.results(name)})
    cells: dict[str, Cell] = {}
    if datasets:
        over = len(group.present or group.parts)
        cells["datasets"] = Text(str(over) if over == datasets else f"{over} of {datasets}")
    for name in own:
        there = len(group.known(name))
        estimate = interval_of(name.partition("/")[2], [*group.seeds(name).values()])
        suffix = f"(n {there})" if there < n else ""
        cells[_key(name)] = Value(estimate, decimals=decimals[name], suffix=suffix)
    cells |= {m.metric: _beside(cells, m) for m in MEASURES if m.beside and m.metric in cells}
    return group_row(group, labels, cells, n=n)


def _beside(cells: Mapping[str, Cell], measure: Measure) -> Cell:
    """A measure with the real features' own behind it, where that is known."""
    own, real = cells[measure.metric], cells.get(measure.beside)
    if not isinstance(own, Value) or not isinstance(real, Value):
        return own
    behind = f"/ {number(real.estimate.mean, own.decimals)}"
    return dataclasses.replace(own, suffix=" ".join(part for part in (behind, own.suffix) if part))
