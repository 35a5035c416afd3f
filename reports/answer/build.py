"""The answer of a study, out of its tables."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from reports.analysis import Analysis, incomparable
from reports.answer.cautions import cautions
from reports.answer.levels import arms_finding, levels_finding
from reports.answer.together import ranks_finding, shares_finding
from reports.answer.words import Answer, Finding, listed, p_words, points, signed, value_in
from reports.read import Study, heading
from reports.tables import (
    AVERAGE,
    OBJECTIVE,
    Counts,
    Row,
    Table,
    arms_dataset,
    cell_text,
    dataset_factor,
    effect_of,
    is_designed,
    on_other_classes,
    p_text,
    short_names,
    tied_first,
    tied_names,
    without_added,
)

_LEVEL = 0.05
BEST = "best setting by selection"  # the subject of a finding


def build_answer(analysis: Analysis, tables: Sequence[Table]) -> Answer:
    """What the tables say of each factor, of the reference arms, and what weakens it.

    Args:
        analysis: of the study and the metric whose tables they are.
        tables: as reports.tables.build_tables gives them.
    """
    study, metric = analysis.study, analysis.metric
    head = heading(study.protocol, metric).rstrip(".")
    effect = effect_of(study, metric)
    findings = list(_findings(analysis, tables, head, effect))
    judged = any(finding.verdict for finding in findings)
    rule = _rule(study, metric, head, effect) if judged and effect is not None else ""
    return Answer(tuple(findings), tuple(cautions(study, tables)), rule)


def _findings(
    analysis: Analysis, tables: Sequence[Table], head: str, effect: float | None
) -> Iterator[Finding]:
    """The findings, the most general first; of parts of a study, such as one dataset, none."""
    study = analysis.study
    over = dataset_factor(study)
    whole = [
        t for t in tables if not over or t.kind == "methods" or t.name.startswith(f"{AVERAGE}-")
    ]
    apart = on_other_classes(study)
    for table in whole:
        # scores of different rules, or on different classes, choose no setting
        if table.kind == "settings" and not apart and not incomparable(study):
            yield from filter(None, [_chosen(table, head)])
    told = list(_of_factors(analysis, whole, head, effect))
    yield from told
    certain = any(finding.certain for finding in told)
    if shares := shares_finding(analysis, head, certain=certain):
        yield shares
    # The reference arms ran on one dataset, in whose table they are.
    place = f" on {arms_dataset(study, over)}" if over else ""
    beside = (arms_finding(study, table, place) for table in tables)
    yield from itertools.islice((found for found in beside if found), 1)


def _of_factors(
    analysis: Analysis, tables: Sequence[Table], head: str, effect: float | None
) -> Iterator[Finding]:
    for table in tables:
        if table.kind == "ranks":
            yield ranks_finding(table, head, _wanted(analysis.study))
        elif table.kind in ("levels", "effects", "methods"):
            found = levels_finding(table, head, effect)
            if found:
                depends = _depends(analysis, table) if table.kind == "effects" else ""
                text = " ".join(part for part in (found.text, depends) if part)
                yield dataclasses.replace(found, text=text)


def _wanted(study: Study) -> int:
    """The settings that a sampler was asked for."""
    own = without_added(study)
    return sum(not setting.arm for setting in own.settings) + own.untried


def _depends(analysis: Analysis, table: Table) -> str:
    """On which other factors a factor's effect depends, beyond chance; "" on none."""
    key, names = table.name.removeprefix(f"{AVERAGE}-"), short_names(analysis.study)
    others = [
        f"{names[other]} (Holm p {p_text(pair.holm)})"
        for pair in analysis.interactions
        if key in pair.factors and pair.holm is not None and pair.holm < _LEVEL
        for other in pair.factors
        if other != key
    ]
    return f"Its effect depends on {listed(others)}." if others else ""


def _chosen(table: Table, head: str) -> Finding | None:
    """The setting with the best selection score, and its test result."""
    scored = [row for row in table.own if OBJECTIVE in row.cells]
    if len(scored) < 2 or table.metric not in scored[0].cells:
        return None
    first = tied_first([value_in(row, OBJECTIVE) for row in scored])
    best, *tied = (row for row, one in zip(scored, first, strict=True) if one)
    if tied:
        return _tie(table, head, [best, *tied])
    base = table.baseline
    ran = ", which --path ran" if best.added else ""
    name = f"{best.name}{ran}{_of_seeds(best)}"
    words = f"{name}: {head} {cell_text(best.cells[table.metric])}"
    if base is not None and best.compared is not None:
        than, told = base.name, p_words(best.compared.p)
        if best.compared.unchanged:
            words += f", under each seed exactly that of {than}"
        else:
            words += f", {signed(best.compared)} against {than}{f' ({told})' if told else ''}"
    return Finding(BEST, None, f"{words}.")


def _of_seeds(row: Row) -> str:
    """How many of its seeds a setting's scores are of, where it is not all."""
    counts = row.cells.get("n")
    if not isinstance(counts, Counts) or not counts.absent():
        return ""
    every = counts.done + counts.failed + counts.pruned + counts.missing
    return f" (over {counts.done} of its {every} seeds)"


def _tie(table: Table, head: str, rows: Sequence[Row]) -> Finding:
    """The settings that selection cannot tell apart, and what they reach on test."""
    shown = dict.fromkeys(cell_text(row.cells.get(table.metric)) for row in rows)
    means = [value_in(row, table.metric) for row in rows if table.metric in row.cells]
    each = f"{head} {next(iter(shown))} each"
    if len(shown) > 1:
        each = f"{head} from {min(means):.1f} to {max(means):.1f}"
    among = ". The baseline is among them" if any(row.baseline for row in rows) else ""
    names = tied_names([row.name for row in rows])
    text = f"none alone. {names}{among}. On test: {each}."
    return Finding(BEST, None, text)


def _rule(study: Study, metric: str, head: str, effect: float) -> str:
    """What the verdicts mean."""
    if study.detection is not None and is_designed(study, metric):
        return (
            "By the study's own design (--detect). Differs: from 0, at 5% for all"
            f" {study.detection.design.comparisons} comparisons together, levels and reference"
            f" arms. Equivalent: within ±{points(effect)} of {head}, at 2.5% for each. Undecided:"
            " neither. ±: 95% over seeds, which allows for the looks."
        )
    return (
        f"Decided: beyond ±{points(effect)} of {head}, the smallest effect of interest (Holm p of"
        f" that < 0.05). Equivalent: the 95% interval is within ±{effect:g}. ±: 95% over seeds,"
        " uncorrected."
    )
