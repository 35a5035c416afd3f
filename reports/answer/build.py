"""A study's answer, built from its tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports import tables
from reports.analysis import Importance, Limit, choice_correlation, incomparable, limits
from reports.answer.cautions import cautions
from reports.answer.comparisons import metric_name
from reports.answer.controls import controls_finding
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
    study: Study, metric: str, made: Sequence[Table], importance: Importance | None
) -> Answer:
    """Return what the tables say of each factor and of the controls, and what weakens it.

    Args:
        study: as it was read.
        metric: that its tables are of.
        made: as reports.tables.build_tables gives them.
        importance: of the study's factors, if there is one.
    """
    over = tables.datasets(study)
    averages = [t for t in made if t.kind == "methods" or t.name.startswith(f"{AVERAGE}-")]
    whole = averages if over else made  # and not of one dataset of several
    known = limits(study, metric)
    arms = [one for table in made if (one := controls_finding(table, study, metric, known))]
    # over several datasets, what the controls show of one of them limits no average
    of_levels = [limit for limit in known if not (over and limit.is_of_controls)]
    findings = (*_findings(study, metric, whole, importance, of_levels), *arms[:1])
    judged = any(finding.verdict for finding in findings)
    rule = _rule(study, metric) if judged else ""
    shown = tuple(Finding(limit.name, None, limit.text) for limit in known)
    return Answer(findings, tuple(cautions(study, metric, whole)), rule, shown)


def _findings(
    study: Study,
    metric: str,
    whole: Sequence[Table],
    importance: Importance | None,
    known: Sequence[Limit],
) -> Iterator[Finding]:
    """Yield the findings of tables of the whole study, the most general first.

    Args:
        study, metric, importance: as for build_answer.
        whole: The tables.
        known: What keeps levels from a verdict.
    """
    head, names = metric_name(study, metric), tables.short_names(study)
    # scores of different rules choose no setting
    if any(table.kind == "settings" for table in whole) and not incomparable(study):
        for finding in best_configuration(study, metric):
            yield replace(finding, text=f"{finding.text} {_choice_text(study, metric)}")
    for table in whole:
        if table.kind == "ranks":
            yield ranks_finding(table, head, study)
        elif found := levels_finding(table, head, known):
            if importance and table.kind == "effects":
                depends = interactions_text(importance, table, names)
                found = replace(found, text=f"{found.text} {depends}".strip())
            yield found
    if importance:
        yield from importance_findings(importance, head, names)


def _choice_text(study: Study, metric: str) -> str:
    """Return what the interval of the best configuration leaves out."""
    correlation = choice_correlation(study, metric)
    if correlation is None:
        return "Its interval does not allow for the choice."
    noises = f"noise of selection and test correlates by {number(correlation, 2)}"
    return f"Its interval does not allow for the choice ({noises})."


def _rule(study: Study, metric: str) -> str:
    """Return what the verdicts mean."""
    points = points_text(tables.effect_of(study, metric) or study.smallest_effect)
    name = metric_name(study, metric)
    return (
        f"Decided: beyond {points} of {name} (Holm p < 0.05 over the comparisons of its table)."
        f" Equivalent: the 95% interval is within ±{points} (not corrected for their number)."
        " ±: 95% over seeds, uncorrected. A second look after more seeds is a second test: fix"
        " their number before, or report both looks."
    )
