"""The footnotes: what a reader must know before believing a number of the table."""

from collections.abc import Iterable, Sequence

from reports.model import REFERENCES, Row, Value
from reports.records import Study
from reports.schema import ARMS, COMPLETE, FAIL, HEADINGS, PRUNED

_RULES = {
    "pseudo_new": "epochs selected on pseudo-new classes (validation pictures of base classes)",
    "base_val": "epochs selected on base-class validation pictures",
    "test": "selected on test: the epoch is the one with the best test result, a leak that flatters"
    " every number here",
}


def table_notes(
    study: Study,
    rows: Sequence[Row],
    metric: str,
    *,
    kind: str,
    baseline: str,
    shown: int | None = None,
) -> tuple[str, ...]:
    """Footnotes of a table.

    Args:
        kind: "levels", "effects" (main effects), "settings" or "ranks".
        baseline: the label of the baseline row, "" where the table has none.
        shown: rows of the first section that a page shows, None for all.
    """
    notes = [*_warnings(study, rows), _setup(study)]
    if kind == "ranks":
        notes.append(
            f"over finished settings, one point a setting: its mean {HEADINGS[metric]} over seeds;"
            " [bootstrap 95% interval]; permutation p (categorical factors: Kruskal-Wallis), Holm"
            " over the factors. A sampler that favours good settings makes these descriptive"
        )
    else:
        notes += _statistics(study, rows, metric, kind=kind, baseline=baseline)
        notes += _arms(study, rows)
    if kind == "settings" and shown is not None:
        total = sum(row.section != REFERENCES for row in rows)
        if total > shown:
            notes.append(f"the best {shown} of {total} settings shown; the CSV holds all")
    return (*notes, *_unfinished(study))


def chosen_by(rules: Iterable[str | None]) -> str:
    """What chose the epochs of some rows: the one rule, or all of them joined by "+"."""
    return "+".join(sorted({rule for rule in rules if rule}))


def on_test(selection: str) -> bool:
    """Say whether any of the joined rules is the leaking one."""
    return "test" in selection.split("+")


def titled(study_name: str, title: str, rows: Iterable[Row]) -> str:
    """A table's title; it says so where any row was selected on test."""
    leak = any(on_test(row.selection) for row in rows)
    return f"{study_name}: {title}" + (" (selected on test)" if leak else "")


def _warnings(study: Study, rows: Sequence[Row]) -> list[str]:
    """What weakens every number: the selection rule and the demonstration backbone."""
    rules = [r for r in _RULES if any(r in row.selection.split("+") for row in rows)]
    notes = [_RULES[rule] for rule in rules]
    if "test" in rules and len(rules) > 1:
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
    names = (
        ("dataset", "dataset"),
        ("max_classes", "first classes"),
        ("backbone", "backbone"),
        ("protocol", "protocol"),
        ("shots", "shots"),
        ("finetuner.name", "fine-tuner"),
        ("generator.name", "generator"),
    )
    factors = {f.key for f in study.factors}
    varied = [label for k, label in names if {k, k.removesuffix(".name")} & factors]
    parts = [
        f"{label} {constants[k]}"
        for k, label in names
        if label not in varied and constants.get(k, "null") != "null"
    ]
    if varied:
        parts.append(f"{', '.join(varied)} varied")
    seeds = study.rows["seed"].n_unique()
    return "; ".join([*parts, f"{seeds} seed{'s' if seeds != 1 else ''}"])


def _statistics(
    study: Study, rows: Sequence[Row], metric: str, *, kind: str, baseline: str
) -> list[str]:
    """What the columns are."""
    head = HEADINGS[metric]
    unit = {
        "levels": "n: finished rows, one a seed",
        "settings": "n: finished rows, one a seed",
        "effects": "n: finished rows; a seed's value is its mean over the settings of the level",
    }[kind]
    notes = [
        f"percent; {unit}. H = 2BN/(B+N) by seed, then averaged; joint: one softmax over base and"
        " new classes",
        "±: 95% t-interval over seeds (few-shot draw, pseudo-new split and initialisation at once);"
        " the test set is fixed, its sampling error is not in it",
    ]
    if baseline:
        family = f"the {'settings' if kind == 'settings' else 'levels'}"
        if any(row.section == REFERENCES for row in rows):
            family += " and, apart from them, over the reference arms"
        place = "on common seeds" + (
            " and settings of the other factors" if kind == "effects" else ""
        )
        notes.append(
            f"Δ{head}: to {baseline}, paired {place}, its interval uncorrected; p: paired t-test,"
            f" Holm over {family}. MDE: Δ found with"
            " 80% power at 5% (two-sided, uncorrected), from the observed paired deviation"
        )
        if any("p" in row.cells and "detectable" not in row.cells for row in rows):
            notes.append("where paired differences do not vary, p is the exact sign test's, no MDE")
        if study.sampler != "grid" and kind == "settings":
            notes.append("the order rests on the selection objective alone, Holm on all settings")
        if _all_zero(rows):
            notes.append("every Δ is 0 on every seed: nothing compared here changed a test result")
    else:
        notes.append("no baseline setting ran: no paired differences")
    notes.append("s/seed: wall seconds of a run divided over its seeds")
    return notes


def _all_zero(rows: Sequence[Row]) -> bool:
    """Say whether there are differences and none of them, on any seed, is other than 0."""
    found = [
        cell.estimate for row in rows if isinstance(cell := row.cells.get("difference"), Value)
    ]
    return bool(found) and not any(e.mean or e.low or e.high for e in found)


def _arms(study: Study, rows: Sequence[Row]) -> list[str]:
    present = [row.arm for row in rows if row.arm]
    said = [f"{ARMS[arm][0]}: {ARMS[arm][1]}" for arm in present]
    others = [f for f in study.factors if not f.key.startswith("generator")]
    held = ", ".join(f"{f.key} {f.baseline}" for f in others if f.baseline is not None)
    if said and held:
        said.append(f"reference arms at {held}")
    return ["; ".join(said)] if said else []


def _unfinished(study: Study) -> list[str]:
    """What is not in the means, and why."""
    counts = {
        state: int((study.rows["state"] == state).sum()) for state in (COMPLETE, FAIL, PRUNED)
    }
    missing = len(study.rows) - sum(counts.values())
    notes = []
    if counts[FAIL]:
        failed = study.rows.filter(study.rows["state"] == FAIL)
        reasons = failed["reason"].drop_nulls().unique(maintain_order=True).to_list()
        more = f" (and {len(reasons) - 2} other reasons)" if len(reasons) > 2 else ""
        told = f": {'; '.join(reasons[:2])}{more}" if reasons else ""
        notes.append(f"{_rows(counts[FAIL])} failed, in no mean{told}")
    if counts[PRUNED]:
        notes.append(f"{_rows(counts[PRUNED])} stopped early by the scheduler, in no mean")
    if missing or study.untried:
        parts = [f"{_rows(missing)} missing"] if missing else []
        parts += [f"{study.untried} settings not tried yet"] if study.untried else []
        notes.append(f"incomplete study: {', '.join(parts)}")
    if study.left_out:
        notes.append(f"{_rows(study.left_out)} of changed settings or seeds left out")
    return [*notes, *study.warnings]


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"
