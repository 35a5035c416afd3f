"""The footnotes: what a reader must know before believing a number of the table."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reports.contract import FAIL, FLAGS, PRUNED, QUALITY
from reports.read import Study
from reports.tables.comparison import detection_notes
from reports.tables.families import Family
from reports.tables.groups import Group
from reports.tables.legend import (
    arm_notes,
    average_notes,
    difference_notes,
    metric_notes,
    rule_note,
)
from reports.tables.metric import MEASURES
from reports.tables.model import MARK, Cell, Column, Legend, Row, Table
from reports.tables.preferred import added_notes, preferred_note
from reports.tables.rows import LEAKS, chosen_by, on_test, raised_flags

_RULES = ("pseudo_new", "base_val", "few_val", "none", "test", "reference")
# With fewer, a t-interval rests on a deviation that is hardly known (docs/statistics.md).
FEWEST_SEEDS = 5


def table_notes(family: Family, rows: Sequence[Row], shown: int | None) -> list[str]:
    """The notes of its own that a table of comparisons has.

    Args:
        family: that the table is of.
        rows: of the table.
        shown: rows of the first section that a page shows, None for all.
    """
    study, metric, kind = family.study, family.metric, family.kind
    notes = [*metric_notes(study, rows, kind=kind), *_meaning(study, metric)]
    if kind == "methods":
        notes += average_notes(study, rows, metric)
    if family.comparable:
        notes += [*difference_notes(family, rows), *detection_notes(study, metric)]
    if kind != "methods":
        notes.append(Legend("s/seed: wall seconds of a run divided over its seeds"))
        notes += preferred_note(study)
    notes += [*flag_notes(study, rows), *added_notes(row.added for row in rows)]
    notes += arm_notes(study, rows)
    total = sum(not row.arm for row in rows)
    if shown is not None and total > shown:
        notes.append(f"the best {shown} of {total} settings shown; the CSV holds all")
    return notes


def noted_table(
    study: Study,
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    notes: Sequence[str],
    **more: Any,
) -> Table:
    """A table with what each owes its reader: around its own notes, and in its title.

    Args:
        study: that it is of.
        name, title, columns, rows: as a Table's; the title without the study's name.
        notes: of its own.
        more: of the Table.
    """
    said = (*_warnings(study, rows), *_few_seeds(study), _setup(study))
    said += (*notes, *_unfinished(study))
    scope = f"{study.scope}, " if study.scope else ""
    leak = " (selected on test)" if any(on_test(row.selection) for row in rows) else ""
    title = f"{study.name}: {scope}{title}{leak}"
    return Table(name, title, tuple(columns), tuple(rows), said, **more)


def plain_table(
    study: Study,
    name: str,
    title: str,
    columns: Sequence[Column],
    cells: Sequence[Mapping[str, Cell | None]],
    notes: Sequence[str],
    *,
    about: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Table:
    """A table whose rows are of the whole study.

    Args:
        study, name, title, columns, notes, more: see noted_table.
        cells: of each row, by column; those that are None are left out.
        about: of each row, what else it has; (): nothing.
    """
    rule = chosen_by(study.rows["selection"].to_list())
    rows = [
        Row({key: cell for key, cell in own.items() if cell is not None}, selection=rule, **told)
        for own, told in zip(cells, about or [{}] * len(cells), strict=True)
    ]
    return noted_table(study, name, title, columns, rows, notes, **more)


def _meaning(study: Study, metric: str) -> list[str]:
    """What the metric is, where its heading does not say it."""
    known = {f"{QUALITY}{m.metric}": m.meaning for m in MEASURES} | study.protocol.meanings
    return [Legend(meaning)] if (meaning := known.get(metric)) else []


def _few_seeds(study: Study) -> list[str]:
    seeds = study.rows["seed"].n_unique()
    if seeds >= FEWEST_SEEDS:
        return []
    if seeds == 1:
        return ["one seed: no interval, and nothing says how far another seed would differ"]
    return [
        f"only {seeds} seeds: intervals are rough, and what happens to one run in ten (a collapse,"
        " say) is more often missed than seen"
    ]


def _warnings(study: Study, rows: Sequence[Row]) -> list[str]:
    """The selection rule and the demonstration backbone."""
    rules = [r for r in _RULES if any(r in row.selection.split("+") for row in rows)]
    notes = list(dict.fromkeys(rule_note(rule, study.protocol) for rule in rules))
    if LEAKS & set(rules) and set(rules) - LEAKS:
        leaked = [_name(row) for row in rows if on_test(row.selection)]
        notes.append(f"selected on test: {', '.join(leaked)}; not comparable with the others")
    if study.demonstration:
        notes.append("demonstration backbone: figures say nothing about CLIP")
    return notes


def _name(row: Row) -> str:
    first = next(iter(row.cells.values()))
    return getattr(first, "text", "")


def _setup(study: Study) -> str:
    """Dataset, backbone, shots, fine-tuner, generator: what all settings share."""
    constants = study.constants
    crossed = constants.get("protocol") == "cross_dataset"
    names = {
        "dataset": "source dataset" if crossed else "dataset",
        "split_version": "split version",
        "targets": "targets",
        "max_classes": "first classes",
        "unseen_class": "unseen class",
        "backbone": "backbone",
        "protocol": "protocol",
        "shots": "shots",
        "finetuner.name": "fine-tuner",
        "generator.name": "generator",
    }
    factors = {f.key for f in study.factors} | ({"dataset"} if study.pooled else set())
    varied = [key for key in names if {key, key.removesuffix(".name")} & factors]
    parts = [
        f"{name} {_listed(constants[key])}"
        for key, name in names.items()
        if key not in varied and constants.get(key, "") not in ("", "null", "[]")
    ]
    if varied:
        parts.append(f"{', '.join(names[key] for key in varied)} varied")
    seeds = study.rows["seed"].n_unique()
    return "; ".join([*parts, f"{seeds} seed{'s' if seeds != 1 else ''}"])


def _listed(text: str) -> str:
    """A param as people write it: a JSON list by its items."""
    if not text.startswith("["):
        return text
    try:
        return ", ".join(map(str, json.loads(text)))
    except json.JSONDecodeError:
        return text


def _unfinished(study: Study) -> list[str]:
    """What is not in the means, and why."""
    whole = Group((), study.rows)
    failed, pruned, missing = whole.count(FAIL), whole.count(PRUNED), whole.missing()
    of = " on some dataset" if study.pooled else ""
    notes = []
    if failed:
        rows = study.rows.filter(state=FAIL)
        reasons = rows["reason"].drop_nulls().unique(maintain_order=True).to_list()
        more = f" (and {len(reasons) - 2} other reasons)" if len(reasons) > 2 else ""
        told = f": {'; '.join(reasons[:2])}{more}" if reasons else ""
        notes.append(f"{_rows(failed)} failed{of}, in no mean{told}")
    if pruned:
        notes.append(f"{_rows(pruned)} stopped early by the scheduler{of}, in no mean")
    if missing or study.untried:
        parts = [f"{_rows(missing)} missing{of}"] if missing else []
        parts += [f"{study.untried} settings not tried yet"] if study.untried else []
        notes.append(f"incomplete study: {', '.join(parts)}")
    if study.aside:
        many = "1 setting that" if study.aside == 1 else f"{study.aside} settings that"
        notes.append(f"without {many} --path ran: chosen by results, neither levels nor draws")
    if study.scope and not study.pooled:
        return [*notes, *study.warnings]  # what is left out is counted over all datasets
    if study.left_out:
        notes.append(f"{_rows(study.left_out)} of changed settings or seeds left out")
    for source, adopted in study.adopted.items():
        notes.append(f"{_rows(adopted)} of the same settings and seeds taken from study {source}")
    return [*notes, *study.warnings]


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"


_MOST_NAMED = 4  # rows that a footnote names
# What is raised where a generator's settings have little left to act on.
_COLLAPSES = ("posterior_collapse", "diversity_collapse")


def collapse_of(rows: Sequence[Row]) -> str:
    """The collapse that every finished trial of some rows raised, in words: "... in 24 of 24".

    Args:
        rows: with the flags that they raised.

    Returns:
        "" where there is no such flag.
    """
    for name in _COLLAPSES:
        own = [flag for row in rows for flag in row.flags if flag.name == name]
        if own and len(own) == len(rows) and all(flag.raised == flag.of for flag in own):
            trials = sum(flag.of for flag in own)
            return f"{FLAGS[name][0]} in {trials} of {trials} trials"
    return ""


def flag_notes(study: Study, rows: Sequence[Row], only: Collection[str] | None = None) -> list[str]:
    """One line a flag: how many trials raised it, in which rows, and what it means.

    Args:
        study: whose table it is.
        rows: of the table.
        only: see raised_flags.
    """
    notes = []
    for flag in raised_flags(Group((), study.rows), only):
        label, meaning = FLAGS.get(flag.name, (flag.name.replace("_", " "), ""))
        hits = [
            f"{row.name}: {own.raised} of {own.of}"
            for row in rows
            for own in row.flags
            if own.name == flag.name
        ]
        more = f"; {len(hits) - _MOST_NAMED} more rows" if len(hits) > _MOST_NAMED else ""
        where = f" ({'; '.join(hits[:_MOST_NAMED])}{more})" if hits else ""
        total = f"{flag.raised} of {flag.of} trials, one a seed"
        notes.append(f"{MARK} {label} in {total}{where}" + (f": {meaning}" if meaning else ""))
    return notes
