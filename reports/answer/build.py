"""The answer of a study, out of its tables."""

import itertools
from collections.abc import Iterator, Sequence

import polars as pl

from reports.analysis import Analysis
from reports.answer.arms import arms_finding
from reports.answer.levels import levels_finding
from reports.answer.model import Answer, Finding
from reports.answer.ranked import ranks_finding
from reports.answer.shares import shares_finding
from reports.answer.words import difference, p_words, points, signed
from reports.contract import COMPLETE, FAIL, PRUNED
from reports.read import Study, heading
from reports.tables import (
    APART,
    AVERAGE,
    FEWEST_SEEDS,
    LEVELS,
    Table,
    cell_text,
    is_percent,
    on_test,
    spelled_row,
)


def build_answer(analysis: Analysis, tables: Sequence[Table]) -> Answer:
    """What the tables say of each factor, of the reference arms, and what weakens it.

    Args:
        analysis: of the study and the metric whose tables they are.
        tables: as reports.tables.build_tables gives them.
    """
    study, metric = analysis.study, analysis.metric
    head = heading(study.protocol, metric).rstrip(".")
    # The smallest effect is in points; other measures have units of their own, and no verdict.
    effect = study.smallest_effect if is_percent(metric) else None
    findings = list(_findings(analysis, tables, head, effect))
    judged = effect is not None and any(finding.verdict for finding in findings)
    rule = _rule(head, study.smallest_effect) if judged else ""
    return Answer(tuple(findings), tuple(_cautions(study)), rule)


def _findings(
    analysis: Analysis, tables: Sequence[Table], head: str, effect: float | None
) -> Iterator[Finding]:
    """The findings, the most general first; of parts of a study, such as one dataset, none."""
    study = analysis.study
    apart = any(factor.key in (*APART, "max_classes") for factor in study.factors)
    over = any(table.kind == "methods" for table in tables)
    whole = [
        t for t in tables if not over or t.kind == "methods" or t.name.startswith(f"{AVERAGE}-")
    ]
    for table in whole:
        if table.kind == "settings" and not apart and (chosen := _chosen(table, head)):
            yield chosen
    for table in whole:
        if table.kind == "ranks":
            yield ranks_finding(table, head)
        elif table.kind in ("levels", "effects", "methods"):
            found = levels_finding(table, head, effect)
            if found:
                yield found
    if shares := shares_finding(analysis, head):
        yield shares
    # The reference arms ran on one dataset, in whose table they are.
    beside = (arms_finding(study, table, head, effect) for table in tables)
    yield from itertools.islice((found for found in beside if found), 1)


def _chosen(table: Table, head: str) -> Finding | None:
    """The setting with the best selection score, and its test result."""
    rows = [row for row in table.rows if row.section == LEVELS and "objective" in row.cells]
    base = next((row for row in table.rows if row.baseline), None)
    if len(rows) < 2 or table.metric not in rows[0].cells:
        return None
    best = rows[0]
    words = f"{spelled_row(table, best)}: {head} {cell_text(best.cells[table.metric])}"
    if base is not None and difference(best) is not None:
        p = f" ({told})" if (told := p_words(best)) else ""
        words += f", {signed(best)} against {spelled_row(table, base)}{p}"
    return Finding("best setting by selection", None, f"{words}.")


def _rule(head: str, effect: float) -> str:
    """What the verdicts mean."""
    return (
        f"Decided: beyond ±{points(effect)} of {head}, the smallest effect of interest (Holm p of"
        f" that < 0.05). Equivalent: the 95% interval is within ±{effect:g}. ±: 95% over seeds,"
        " uncorrected."
    )


def _cautions(study: Study) -> Iterator[str]:
    """What a reader must know before believing any of it."""
    rules = {rule for rule in study.rows["selection"].to_list() if rule}
    if any(on_test(rule) for rule in rules):
        yield "Selected on test data, which flatters every number."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    grouped = study.rows.group_by("setting_key").agg(pl.col("state"))
    states = [set(found) for found in grouped["state"].to_list()]
    lacking = {
        "failed": sum(FAIL in found for found in states),
        "stopped early": sum(PRUNED in found for found in states),
        "incomplete": sum(bool(found - {COMPLETE, FAIL, PRUNED}) for found in states),
    }
    parts = [f"{count} {name}" for name, count in lacking.items() if count]
    if parts:
        yield f"Not answered in full: of {len(states)} settings, {', '.join(parts)}."
    if study.untried:
        yield f"Not answered in full: {study.untried} settings are still to be tried."
    seeds = study.rows["seed"].n_unique()
    if seeds < FEWEST_SEEDS:
        yield f"Only {seeds} seed{'s' if seeds > 1 else ''}: intervals are rough."
