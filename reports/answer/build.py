"""Build a study's answer from its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports import tables
from reports.analysis import Importance, Limit, choice_correlation, incomparable, limits
from reports.answer.cautions import cautions
from reports.answer.comparisons import metric_name
from reports.answer.controls import controls_finding
from reports.answer.external import external_finding
from reports.answer.factors import (
    best_configuration,
    importance_findings,
    interactions_text,
    levels_finding,
    ranks_finding,
)
from reports.answer.finding import Answer, Finding
from reports.cells import AVERAGE, Table
from reports.formatting import number, points_text
from reports.study import Study


def build_answer(
    study: Study, metric: str, all_tables: Sequence[Table], importance: Importance | None
) -> Answer:
    """Return the findings of each factor and of the controls, with the cautions that weaken them.

    Args:
        study: Study read from the store.
        metric: Metric of the tables.
        all_tables: Tables made by reports.tables.build_tables.
        importance: Importance of the study's factors, if available.
    """
    over = tables.datasets(study)
    averages = [t for t in all_tables if t.kind == "methods" or t.name.startswith(f"{AVERAGE}-")]
    whole = averages if over else all_tables  # tables of single datasets are left out
    known = limits(study, metric)
    controls = [
        finding
        for table in all_tables
        if (finding := controls_finding(table, study, metric, known))
    ]
    # the controls ran on one dataset, so their limits do not apply to averages over several
    of_levels = [limit for limit in known if not (over and limit.is_of_controls)]
    external = [
        finding
        for table in all_tables
        if (finding := external_finding(table, study, metric, known))
    ]
    findings = (*_findings(study, metric, whole, importance, of_levels), *controls[:1], *external)
    judged = any(finding.verdict for finding in findings)
    rule = rule_text(study, metric) if judged else ""
    shown = tuple(Finding(limit.name, None, limit.text) for limit in known)
    return Answer(findings, tuple(cautions(study, metric, whole)), rule, shown)


def _findings(
    study: Study,
    metric: str,
    whole: Sequence[Table],
    importance: Importance | None,
    known: Sequence[Limit],
) -> Iterator[Finding]:
    """Yield the findings of the tables of the whole study, the most general first.

    Args:
        study: Study read from the store.
        metric: Metric of the tables.
        whole: Tables of the whole study.
        importance: Importance of the study's factors, if available.
        known: Limits that keep levels from a verdict.
    """
    head, names = metric_name(study, metric), tables.short_names(study)
    # selection scores of different rules cannot be compared
    if any(table.kind == "configurations" for table in whole) and not incomparable(study):
        for finding in best_configuration(study, metric):
            yield replace(finding, text=f"{finding.text} {_choice_text(study, metric)}")
    for table in whole:
        if table.kind == "ranks":
            yield ranks_finding(table, head, study)
        elif levels := levels_finding(table, head, known):
            if importance and table.kind == "effects":
                depends = interactions_text(importance, table, names)
                levels = replace(levels, text=f"{levels.text} {depends}".strip())
            yield levels
    if importance:
        yield from importance_findings(importance, head, names)


def _choice_text(study: Study, metric: str) -> str:
    """Return the caution that the best configuration's interval ignores how it was chosen."""
    correlation = choice_correlation(study, metric)
    if correlation is None:
        return "The interval does not account for choosing the best."
    noises = f"correlation of selection noise and test noise: {number(correlation, 2)}"
    return f"The interval does not account for choosing the best ({noises})."


def rule_text(study: Study, metric: str, family: str = "of its table") -> str:
    """Return the explanation of the verdicts.

    Args:
        study: Study of the verdicts.
        metric: Metric of the verdicts.
        family: Comparisons that Holm's correction covers, as a phrase.
    """
    points = points_text(tables.effect_of(study, metric) or study.smallest_effect)
    name = metric_name(study, metric)
    return (
        f"Higher, lower: the difference exceeds {points} of {name} (Holm p < 0.05 over the"
        f" comparisons {family}). Equivalent: its 95% interval is within ±{points} (not"
        " corrected for the number of comparisons). Inconclusive: neither. ±: 95% interval over"
        " seeds, uncorrected. A second look after more seeds is a second test: fix the number of"
        " seeds beforehand, or report both looks."
    )
