"""Beside a study's results: what selection chose for each seed, and how good the features are."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from reports.cells import Cell, Cells, Column, Row, Table, Text, Value, known
from reports.contract import COMPLETE, FLAG, QUALITY
from reports.formatting import number
from reports.read import Study, heading
from reports.tables.families import first_family, method_family
from reports.tables.groups import Group
from reports.tables.metric import MEASURES, interval_of, measured, places
from reports.tables.notes import group_row, group_table
from reports.tables.pooling import datasets

_EDGE = "grid_edge"
# What selection may choose beside the epoch, by its metric's name -> whether the table shows it
# where no grid was searched, too.
_CHOSEN = {"age": True, "alpha": False, "beta": False, "ratio": False, "calibration": True}


def selection_tables(study: Study) -> list[Table]:
    """The table of what selection chose, a row as in the study's first table; [] without scores."""
    there, score = measured(study), study.score
    if score not in there:
        return []
    first = first_family(study, study.objective)
    groups = [group for group in first.groups if group.count(COMPLETE)]
    searched = f"{FLAG}{_EDGE}" in there  # else they are as configured
    chosen = [
        name
        for name, always in _CHOSEN.items()
        if f"selection/{name}" in there and (searched or always)
    ]
    made = [_chosen_row(group, first.labels, score, chosen) for group in groups]
    columns = (
        Column("score", f"sel. {heading(study.protocol, study.objective)}"),
        Column("epoch", "epoch (range)"),
        *(Column(name, name) for name in chosen),
    )
    note = (
        "sel.: on the pictures that selection looks at, at what it chose; epoch: the median over"
        " seeds and its range, 0 before any training; alpha, beta, ratio: how many seeds took each"
        " value"
    )
    title = "what selection chose"
    return [group_table(first, "selected", title, columns, made, [note], place="files")]


def _chosen_row(group: Group, labels: Sequence[Column], score: str, chosen: Sequence[str]) -> Row:
    epochs = group.known("selection_epoch")
    cells: Cells = {"score": known(Value, group.estimate(score))}
    if epochs:
        middle = statistics.median(epochs)
        cells["epoch"] = Text(f"{middle:g} ({min(epochs)}–{max(epochs)})")
    for name in chosen:
        if taken := group.known(f"selection/{name}"):
            cells[name] = Text(_tally(taken))
    return group_row(group, labels, cells)


def _tally(values: Sequence[float]) -> str:
    """Values with how many seeds took each, the most frequent first: "10 (8), 3 (2)"."""
    counts = Counter(values).most_common()
    if len(counts) > 3:  # a constant that is fitted to each seed
        return f"{min(values):.3g} to {max(values):.3g}"
    return ", ".join(f"{value:.3g} ({count})" for value, count in counts)


# Errors of one seed's estimate, for programs: the intervals over seeds hold them already.
_ERRORS = ("frechet_error", "mmd_error")
_SELECTION = "pseudo_new_"  # CSV columns of what was measured on the selection pictures


def quality_tables(study: Study) -> list[Table]:
    """The table of quality, a row as in the study's first table; none where nothing was measured.

    Over several datasets a seed's value is its mean over those on which its method finished; with
    no other factor a dataset is a row of its own.
    """
    names = sorted(name for name in measured(study) if QUALITY in name)
    if not any(name.startswith("test/") for name in names):
        return []
    over = len(datasets(study)) if len(study.factors) > 1 else 0
    family = (method_family if over else first_family)(study, study.objective)
    # What has no synthetic features is left out, what has not finished is not.
    groups = [
        group
        for group in family.groups
        if any(map(group.known, names)) or not group.count(COMPLETE)
    ]
    values = {name: [v for group in groups for v in group.known(name)] for name in names}
    decimals = {name: places(found) for name, found in values.items() if found}
    if not decimals:  # an average over datasets is of measures that all of them have
        return []
    keys = [_key(name) for name in decimals]
    rows = [_measured_row(group, family.labels, decimals, over) for group in groups]
    measures = [
        dataclasses.replace(one, drop=0) if one.metric == study.protocol.telling else one
        for one in MEASURES
        if one.metric in keys
    ]
    notes = [
        "n: finished rows with synthesized features, one a seed; datasets: those that the average"
        " of a row is over",
        "; ".join(measure.meaning for measure in measures if measure.meaning),
    ]
    # the real features' own, the errors, and what is of pseudo-new classes: for programs
    others = [one for one in (*(m.beside for m in MEASURES), *_ERRORS) if one in keys]
    others += [key for key in keys if key.startswith(_SELECTION)]
    columns = (
        *([Column("datasets", "datasets")] if over else []),
        *(Column(one.metric, one.heading, drop=one.drop) for one in measures),
        *(Column(key, key, csv_only=True) for key in others),
    )
    kind = f"{study.protocol.unseen or 'tested'} classes, test pictures"
    title = f"quality of synthesized features ({kind})"
    return [group_table(family, "quality", title, columns, rows, notes, place="files")]


def _key(name: str) -> str:
    """The column of a measure, as the table has it."""
    split, _, metric = name.partition(f"/{QUALITY}")
    return metric if split == "test" else f"{_SELECTION}{metric}"


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
    for one in MEASURES:  # the real features' own behind a measure, where that is known
        value, real = cells.get(one.metric), cells.get(one.beside)
        if isinstance(value, Value) and isinstance(real, Value):
            behind = f"/ {number(real.estimate.mean, value.decimals)} {value.suffix}".strip()
            cells[one.metric] = dataclasses.replace(value, suffix=behind)
    return group_row(group, labels, cells, n=n)
