"""What selection chose for each seed: epochs, alpha and beta, and which setting it would take."""

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from reports.contract import COMPLETE, FLAG
from reports.read import Study, heading
from reports.tables.ablation import shown_of
from reports.tables.families import families
from reports.tables.groups import Group
from reports.tables.legend import interval_note
from reports.tables.model import Cell, Column, Row, Table, Text, Value
from reports.tables.notes import flag_notes, noted_table
from reports.tables.preference import added_notes, preferred_note
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
    first = next(families(study, study.objective))
    labels = first.labels
    groups = [group for group in first.groups if group.count(COMPLETE)]
    edge = f"{FLAG}{_EDGE}"
    searched = edge in rows.columns and rows[edge].count() > 0  # else they are as configured
    chosen = [
        name
        for name in _CHOSEN
        if name in rows.columns and rows[name].count() and (searched or name in _ALWAYS)
    ]
    made = [_row(group, labels, score, chosen) for group in groups]
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
        *added_notes(made),
        *preferred_note(study),
        interval_note(study),
        *flag_notes(rows, made, _MARKS),
    ]
    told: dict[str, Any] = {"labels": len(labels), "shown": shown_of(first), "place": "files"}
    return [noted_table(study, "selected", "what selection chose", columns, made, notes, **told)]


def _row(group: Group, labels: Sequence[Column], score: str, chosen: Sequence[str]) -> Row:
    cells: dict[str, Cell] = {}
    if found := group.estimate(score):
        cells["score"] = Value(found)
    if epochs := group.known("selection_epoch"):
        middle = statistics.median(epochs)
        cells["epoch"] = Text(f"{middle:g} ({min(epochs)}–{max(epochs)})")
    for name in chosen:
        if taken := group.known(name):
            cells[name.partition("/")[2]] = Text(_tally(taken))
    return group_row(group, labels, cells, flags=raised_flags(group.rows, _MARKS))


def _tally(values: Sequence[float]) -> str:
    """Values with how many seeds took each, the most frequent first: "10 (8), 3 (2)"."""
    counts = Counter(values).most_common()
    if len(counts) > 3:  # a constant that is fitted to each seed
        return f"{min(values):.3g} to {max(values):.3g}"
    return ", ".join(f"{value:.3g} ({count})" for value, count in counts)
