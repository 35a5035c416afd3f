"""Findings on factors: their levels, their shares of the variance, and the best configuration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.store import CONTROLS, FINETUNER_ALONE
from reports import tables
from reports.analysis import Importance, Limit
from reports.answer.comparisons import (
    classify_comparison,
    format_difference,
    format_flags,
    format_flags_sentences,
    format_holm_p,
    format_metric_name,
    format_no_verdict,
    format_other_metrics,
    format_outcomes,
    is_conclusive,
)
from reports.answer.finding import Finding
from reports.cells import AVERAGE, Ranged, Table, Value
from reports.formatting import format_cell_text, join_names
from reports.stats import MIN_RANKED, Association, Estimate, Verdict, is_significant
from reports.study import Study

# Subjects of findings.
BEST = "best configuration by selection"
RANKS = "rank association with the factors"
IMPORTANCE = "importance"
_MIN_SHARE = 1.0  # percent of the variance; smaller shares are left out, even if significant
# Kind of table -> text after a finding's subject.
_AVERAGING = {"methods": ", averaged over datasets", "effects": ", averaged over the other factors"}


def make_levels_finding(table: Table, heading: str, limits: Sequence[Limit]) -> Finding | None:
    """Return the finding of a table whose rows are levels, or methods over datasets.

    If a limit applies to the table's factor, there is no verdict, and only levels with a
    significant difference or with unchanged results are listed.

    Args:
        table: Table of the study.
        heading: Heading of the metric.
        limits: Reasons why levels get no verdict.

    Returns:
        None for other tables, and if no level is compared with a baseline.
    """
    comparisons = [(row.level, row.comparison) for row in table.non_controls if row.comparison]
    if table.kind in ("", "configurations") or table.baseline is None or not comparisons:
        return None
    factor = table.name.removeprefix(f"{AVERAGE}-")
    factor_limits = [limit for limit in limits if limit.applies_to(factor)]
    if factor_limits:
        comparisons = [
            (level, replace(comparison, verdict=None, more_seeds=None))
            for level, comparison in comparisons
            if is_conclusive(comparison)
        ]
    names: dict[str, list[str]] = {}  # by outcome
    for level, comparison in comparisons:
        name = level if comparison.is_unchanged else f"{level} ({format_difference(comparison)})"
        names.setdefault(classify_comparison(comparison), []).append(name)
    verdict = next((verdict for verdict in Verdict if verdict in names), None)
    headings = [column.heading for column in table.columns[: table.n_labels]]
    baseline_text = table.baseline.level
    if len(headings) == 1:
        baseline_text = f"{headings[0]}={baseline_text}"
    outcomes = format_outcomes(names)
    sentence = ""
    if outcomes:
        sentence = f"Compared with the baseline {baseline_text}, {heading} is {outcomes}."
    unit = "seed" if table.kind == "levels" else "trial"
    texts = [
        format_no_verdict(factor_limits),
        sentence,
        format_flags_sentences([(row.level, row) for row in table.non_controls], limits, unit),
    ]
    subject = ", ".join(headings) + _AVERAGING.get(table.kind, "")
    return Finding(subject, verdict, " ".join(filter(None, texts)))


def make_best_configuration_finding(study: Study, metric: str) -> Iterator[Finding]:
    """Yield the finding on the configuration with the best selection score.

    It contains the test result and the difference to the fine-tuner alone at the same levels. If
    that is unknown, the difference is to the baseline, or else to another control. Nothing is
    yielded if fewer than two configurations have a score, or without a headline (see
    tables.make_headline).

    Args:
        study: Study read from the store.
        metric: Test metric of the answer.
    """
    headline = tables.make_headline(study, metric)
    if headline is None or len(tables.rank_configurations(study)) < 2:
        return
    decimals = tables.get_decimals(study, metric)
    text = format_cell_text(Value(headline.estimate, decimals=decimals))
    name = next(
        (name for name in (FINETUNER_ALONE, *headline.differences) if name in headline.differences),
        "",
    )
    if name:
        difference = headline.differences[name]
        gain = format_cell_text(Value(difference, signed=True, decimals=decimals))
        reference = _describe_control(study, name) if name in CONTROLS else "baseline"
        is_same = difference.mean == 0 and difference.low is None
        text += f", {'the same as' if is_same else f'{gain} compared with'} the {reference}"
        if name in CONTROLS:
            other_metrics = format_other_metrics(
                study, metric, partial(_get_best_difference, study, name)
            )
            text += f" ({other_metrics})" if other_metrics else ""
    best_groups = tables.find_best_configurations(study)
    flags = format_flags(best_groups[0].flags()) if len(best_groups) == 1 else ""
    text = f"{headline.configuration}: mean {format_metric_name(study, metric)} {text}. {flags}"
    yield Finding(BEST, None, text.strip())


def _describe_control(study: Study, name: str) -> str:
    """Return a control with the factors that it reads, e.g. "fine-tuner alone at the same lr"."""
    names = tables.shorten_factor_names(study)
    levels = [names[key] for key in tables.get_factors_of_control(study, name)]
    return f"{CONTROLS[name][0]} at the same {join_names(levels)}" if levels else CONTROLS[name][0]


def _get_best_difference(study: Study, name: str, metric: str) -> Estimate | None:
    """Return the best configuration's difference to a control in a metric; None if unknown."""
    headline = tables.make_headline(study, metric)
    return headline.differences.get(name) if headline else None


def make_ranks_finding(table: Table, heading: str, study: Study) -> Finding:
    """Return the finding of a table of rank associations.

    Args:
        table: Table with a row per factor.
        heading: Heading of the metric.
        study: Study whose configurations are ranked.
    """
    names_by_phrase: dict[str, list[str]] = {}
    for row in table.rows:
        if association := row.association:
            rho = f"ρ = {format_cell_text(Ranged(association.rho))}" if association.rho else ""
            details = ", ".join(filter(None, [rho, format_holm_p(association.p)]))
            phrase = _describe_association(association, heading)
            names_by_phrase.setdefault(phrase, []).append(
                f"{row.name} ({details})" if details else row.name
            )
    n_configurations = len(study.non_controls) + study.n_untried
    n_finished = sum(
        bool(group.finished_values(f"test/{table.metric}"))
        for group in tables.make_configuration_groups(study)
    )
    texts = [f"{n_finished} of {n_configurations} configurations finished."]
    texts += [f"{phrase} {join_names(names)}." for phrase, names in names_by_phrase.items()]
    texts += filter(None, [_describe_untrained(study)])
    return Finding(RANKS, None, " ".join(texts))


def _describe_association(association: Association, heading: str) -> str:
    """Return the beginning of a sentence that continues with the names of factors.

    Factors are tested only if the configurations were drawn at random.
    """
    if association.min_p is None and association.n >= MIN_RANKED:
        return f"No test, because the factor or {heading} does not vary:"
    # even the most extreme order of these configurations would not be significant
    if not is_significant(association.min_p):
        return "Too few configurations for a test of"
    if association.p is None:
        return "No test, because configurations were not drawn at random:"
    varies = "varies" if is_significant(association.p) else "does not vary"
    return f"{heading} {varies} significantly with"


def _describe_untrained(study: Study) -> str:
    """Return a sentence on the trials that tested an untrained model; "" if there are none."""
    rows = [
        row
        for configuration in study.non_controls
        for row in study.by_configuration[configuration.key]
    ]
    untrained_flags = [flag for flag in tables.Group((), rows).flags() if flag.name == "untrained"]
    return "".join(
        f"An untrained model was tested in {flag.n_raised} of {flag.n_checked} trials."
        for flag in untrained_flags
    )


def format_interactions(importance: Importance, table: Table, names: Mapping[str, str]) -> str:
    """Return a sentence on the factors that the effect of a table's factor depends on.

    Args:
        importance: Importance of the study's factors.
        table: Table of the levels of one factor.
        names: Short names of the factors by key.

    Returns:
        "" if no interaction is significant.
    """
    key = table.name.removeprefix(f"{AVERAGE}-")
    partners = [
        f"{names[other_key]} ({format_holm_p(pair.holm_p)})"
        for pair in importance.interactions
        if key in pair.factors and is_significant(pair.holm_p)
        for other_key in pair.factors
        if other_key != key
    ]
    return f"Its effect depends on {join_names(partners)}." if partners else ""


def make_importance_findings(
    importance: Importance, heading: str, names: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield one finding on all factors and pairs with a significant share; none without such.

    Args:
        importance: Importance of the study's factors.
        heading: Heading of the metric.
        names: Short names of the factors by key.
    """
    significant_shares = [
        (effect, effect.share)
        for effect in (*importance.factors, *importance.pairs)
        if effect.share and effect.share.mean >= _MIN_SHARE and is_significant(effect.holm_p)
    ]
    clauses: list[str] = []
    for effect, share in sorted(significant_shares, key=lambda pair: -pair[1].mean):
        factors = " and ".join(names[key] for key in effect.factors)
        subject = factors if len(effect.factors) == 1 else f"the interaction of {factors}"
        ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
        # only the first clause explains what the shares are shares of
        explanation = "" if clauses else f" of the variance of {heading} between configurations"
        share_text = f"{share.mean:.0f}%{ends}{explanation}"
        clauses.append(f"{subject} explains {share_text} ({format_holm_p(effect.holm_p)})")
    if clauses:
        brackets = "Brackets: 95% interval of the share over seeds. "
        legend = brackets if any(share.low is not None for _, share in significant_shares) else ""
        text = f"{join_names(clauses)}. {legend}p: test of no effect over seeds."
        if text.startswith("the "):
            text = f"T{text[1:]}"
        yield Finding(IMPORTANCE, None, text)
