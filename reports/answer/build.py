"""Build a study's answer from its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports import tables
from reports.analysis import (
    Importance,
    Limit,
    choice_correlation,
    explain_incomparability,
    find_limits,
)
from reports.answer.cautions import find_cautions
from reports.answer.comparisons import metric_name
from reports.answer.controls import controls_finding
from reports.answer.external import external_finding
from reports.answer.factors import (
    best_configuration_finding,
    importance_findings,
    interactions_text,
    levels_finding,
    ranks_finding,
)
from reports.answer.finding import Answer, Finding
from reports.cells import AVERAGE, Table
from reports.formatting import number_text, points_text
from reports.study import Study


def build_answer(
    study: Study, metric: str, all_tables: Sequence[Table], importance: Importance | None
) -> Answer:
    """Return the findings on factors, controls and external results, with limits and cautions.

    Args:
        study: Study read from the store.
        metric: Metric of the tables.
        all_tables: Tables made by reports.tables.build_tables.
        importance: Importance of the study's factors, if available.
    """
    datasets = tables.list_datasets(study)
    averages = [t for t in all_tables if t.kind == "methods" or t.name.startswith(f"{AVERAGE}-")]
    study_tables = averages if datasets else all_tables  # tables of single datasets are left out
    limits = find_limits(study, metric)
    controls = [
        finding
        for table in all_tables
        if (finding := controls_finding(table, study, metric, limits))
    ]
    # the controls ran on one dataset, so their limits do not apply to averages over several
    level_limits = [limit for limit in limits if not (datasets and limit.is_of_controls)]
    external_findings = [
        finding
        for table in study_tables
        if (finding := external_finding(table, study, metric, level_limits))
    ]
    findings = (
        *_findings(study, metric, study_tables, importance, level_limits),
        *controls[:1],
        *external_findings,
    )
    has_verdicts = any(finding.verdict for finding in findings)
    rule = rule_text(study, metric) if has_verdicts else ""
    limit_findings = tuple(Finding(limit.name, None, limit.text) for limit in limits)
    return Answer(findings, tuple(find_cautions(study, metric, study_tables)), rule, limit_findings)


def _findings(
    study: Study,
    metric: str,
    study_tables: Sequence[Table],
    importance: Importance | None,
    limits: Sequence[Limit],
) -> Iterator[Finding]:
    """Yield the findings of the tables of the whole study, the most general first.

    Args:
        study: Study read from the store.
        metric: Metric of the tables.
        study_tables: Tables of the whole study.
        importance: Importance of the study's factors, if available.
        limits: Limits that keep levels from a verdict.
    """
    heading, names = metric_name(study, metric), tables.short_names(study)
    # selection scores of different rules cannot be compared
    if any(
        table.kind == "configurations" for table in study_tables
    ) and not explain_incomparability(study):
        for finding in best_configuration_finding(study, metric):
            yield replace(finding, text=f"{finding.text} {_choice_text(study, metric)}")
    for table in study_tables:
        if table.kind == "ranks":
            yield ranks_finding(table, heading, study)
        elif table_finding := levels_finding(table, heading, limits):
            if importance and table.kind == "effects":
                interactions = interactions_text(importance, table, names)
                text = f"{table_finding.text} {interactions}".strip()
                table_finding = replace(table_finding, text=text)
            yield table_finding
    if importance:
        yield from importance_findings(importance, heading, names)


def _choice_text(study: Study, metric: str) -> str:
    """Return the caution that the best configuration's interval ignores how it was chosen."""
    correlation = choice_correlation(study, metric)
    if correlation is None:
        return "The interval does not account for choosing the best."
    noises = f"correlation of selection noise and test noise: {number_text(correlation, 2)}"
    return f"The interval does not account for choosing the best ({noises})."


def rule_text(study: Study, metric: str, family: str = "of its table") -> str:
    """Return the explanation of the verdicts.

    Args:
        study: Study of the verdicts.
        metric: Metric of the verdicts.
        family: Phrase after "the comparisons" that says which ones Holm's correction covers.
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
