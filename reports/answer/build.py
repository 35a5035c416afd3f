"""Build a study's answer from its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports import tables
from reports.analysis import (
    Importance,
    Limit,
    compute_choice_correlation,
    explain_incomparability,
    find_limits,
)
from reports.answer.cautions import find_cautions
from reports.answer.comparisons import format_metric_name
from reports.answer.controls import make_controls_finding
from reports.answer.external import make_external_finding
from reports.answer.factors import (
    format_interactions,
    make_best_configuration_finding,
    make_importance_findings,
    make_levels_finding,
    make_ranks_finding,
)
from reports.answer.finding import Answer, Finding
from reports.cells import AVERAGE, Table
from reports.formatting import format_number, format_points
from reports.study import Study


def build_answer(
    study: Study, metric: str, all_tables: Sequence[Table], importance: Importance | None
) -> Answer:
    """Return the findings on factors, controls and external results, with limits and cautions.

    In a study over datasets, tables of single datasets contribute only the finding on the controls.

    Args:
        study: Study read from the store.
        metric: Metric of the tables.
        all_tables: Tables made by reports.tables.build_tables.
        importance: Importance of the study's factors. None if it cannot be computed.
    """
    datasets = tables.list_datasets(study)
    averages = [
        table
        for table in all_tables
        if table.kind == "methods" or table.name.startswith(f"{AVERAGE}-")
    ]
    study_tables = averages if datasets else all_tables
    limits = find_limits(study, metric)
    # several tables may contain the controls; they have the same finding
    controls_findings = [
        finding
        for table in all_tables
        if (finding := make_controls_finding(table, study, metric, limits))
    ]
    # the controls ran on one dataset, so limits found with them do not apply to averages
    level_limits = [limit for limit in limits if not (datasets and limit.is_of_controls)]
    external_findings = [
        finding
        for table in study_tables
        if (finding := make_external_finding(table, study, metric, level_limits))
    ]
    findings = (
        *_find_level_findings(study, metric, study_tables, importance, level_limits),
        *controls_findings[:1],
        *external_findings,
    )
    has_verdicts = any(finding.verdict for finding in findings)
    rule = format_rule(study, metric) if has_verdicts else ""
    limit_findings = tuple(Finding(limit.name, None, limit.text) for limit in limits)
    return Answer(findings, tuple(find_cautions(study, metric, study_tables)), rule, limit_findings)


def _find_level_findings(
    study: Study,
    metric: str,
    study_tables: Sequence[Table],
    importance: Importance | None,
    limits: Sequence[Limit],
) -> Iterator[Finding]:
    """Yield the findings on the best configuration, the factors, and their importance.

    Args:
        study: Study read from the store.
        metric: Metric of the tables.
        study_tables: Tables of the whole study, without those of single datasets.
        importance: Importance of the study's factors. None if it cannot be computed.
        limits: Reasons why levels get no verdict.
    """
    heading, names = format_metric_name(study, metric), tables.shorten_factor_names(study)
    has_configurations = any(table.kind == "configurations" for table in study_tables)
    if has_configurations and not explain_incomparability(study):
        for finding in make_best_configuration_finding(study, metric):
            yield replace(finding, text=f"{finding.text} {_describe_choice(study, metric)}")
    for table in study_tables:
        if table.kind == "ranks":
            yield make_ranks_finding(table, heading, study)
        elif table_finding := make_levels_finding(table, heading, limits):
            if importance and table.kind == "effects":
                interactions = format_interactions(importance, table, names)
                text = f"{table_finding.text} {interactions}".strip()
                table_finding = replace(table_finding, text=text)
            yield table_finding
    if importance:
        yield from make_importance_findings(importance, heading, names)


def _describe_choice(study: Study, metric: str) -> str:
    """Return the caution that the interval ignores that the best configuration was chosen."""
    correlation = compute_choice_correlation(study, metric)
    if correlation is None:
        return "The interval does not account for choosing the best."
    details = f"correlation of selection noise and test noise: {format_number(correlation, 2)}"
    return f"The interval does not account for choosing the best ({details})."


def format_rule(study: Study, metric: str, family: str = "of its table") -> str:
    """Return the explanation of the verdicts.

    Args:
        study: Study of the verdicts.
        metric: Metric of the verdicts.
        family: Phrase that completes "Holm p < 0.05 over the comparisons ...".
    """
    points = format_points(tables.get_smallest_effect(study, metric) or study.smallest_effect)
    name = format_metric_name(study, metric)
    return (
        f"Higher, lower: the difference exceeds {points} of {name} (Holm p < 0.05 over the"
        f" comparisons {family}). Equivalent: its 95% interval is within ±{points} (not"
        " corrected for the number of comparisons). Inconclusive: neither. ±: 95% interval over"
        " seeds, uncorrected. A second look after more seeds is a second test: fix the number of"
        " seeds beforehand, or report both looks."
    )
