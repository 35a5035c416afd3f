"""Findings on factors: their levels, their shares of the variance, and the best configuration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.store import CONTROLS, FINETUNER_ALONE
from reports import tables
from reports.analysis import Importance, Limit
from reports.answer.comparisons import (
    classify_comparison,
    difference_text,
    flags_sentence,
    flags_text,
    holm_p_text,
    is_conclusive,
    metric_name,
    no_verdict_text,
    other_metrics_text,
    outcomes_text,
)
from reports.answer.finding import Finding
from reports.cells import AVERAGE, Ranged, Table, Value
from reports.formatting import cell_text, join_names
from reports.stats import MIN_RANKED, Association, Estimate, Verdict, is_significant
from reports.study import Study

# subjects of findings
BEST = "best configuration by selection"
RANKS = "rank association with the factors"
IMPORTANCE = "importance"
_MIN_SHARE = 1.0  # percent of the variance; smaller shares are not reported, even if significant
# End of a finding's subject, by kind of table.
_AVERAGING = {"methods": ", averaged over datasets", "effects": ", averaged over the other factors"}


def levels_finding(table: Table, heading: str, limits: Sequence[Limit]) -> Finding | None:
    """Return the finding of a table whose rows are levels, or methods over datasets.

    Args:
        table: Table of the study.
        heading: Heading of the metric.
        limits: Limits that keep levels from a verdict.

    Returns:
        None for other tables, and if the table has no difference to a baseline.
    """
    comparisons = [(row.level, row.comparison) for row in table.non_controls if row.comparison]
    if table.kind in ("", "configurations") or table.baseline is None or not comparisons:
        return None
    factor = table.name.removeprefix(f"{AVERAGE}-")
    blocking_limits = [limit for limit in limits if limit.applies_to(factor)]
    if blocking_limits:
        without_verdicts = [
            (level, replace(comparison, verdict=None)) for level, comparison in comparisons
        ]
        comparisons = [
            (level, comparison)
            for level, comparison in without_verdicts
            if is_conclusive(comparison)
        ]
    names: dict[str, list[str]] = {}  # by outcome
    for level, comparison in comparisons:
        name = level if comparison.is_unchanged else f"{level} ({difference_text(comparison)})"
        names.setdefault(classify_comparison(comparison), []).append(name)
    verdict = next((verdict for verdict in Verdict if verdict in names), None)
    headings = [column.heading for column in table.columns[: table.n_labels]]
    baseline_text = table.baseline.level
    if len(headings) == 1:
        baseline_text = f"{headings[0]}={baseline_text}"
    outcomes = outcomes_text(names)
    sentence = ""
    if outcomes:
        sentence = f"Compared with the baseline {baseline_text}, {heading} is {outcomes}."
    unit = "seed" if table.kind == "levels" else "trial"
    texts = [
        no_verdict_text(blocking_limits),
        sentence,
        flags_sentence([(row.level, row) for row in table.non_controls], limits, unit),
    ]
    subject = ", ".join(headings) + _AVERAGING.get(table.kind, "")
    return Finding(subject, verdict, " ".join(filter(None, texts)))


def best_configuration_finding(study: Study, metric: str) -> Iterator[Finding]:
    """Yield the finding on the configuration with the best selection score.

    It has the configuration's test result, and its difference to the fine-tuner alone at the same
    levels, or else to the baseline. With fewer than two configurations there is no finding.
    """
    headline = tables.make_headline(study, metric)
    if headline is None or len(tables.rank_configurations(study)) < 2:
        return
    decimals = tables.decimals_of(study, metric)
    text = cell_text(Value(headline.estimate, decimals=decimals))
    name = next(
        (name for name in (FINETUNER_ALONE, *headline.differences) if name in headline.differences),
        "",
    )
    if name:
        difference = headline.differences[name]
        gain = cell_text(Value(difference, signed=True, decimals=decimals))
        reference = _control_text(study, name) if name in CONTROLS else "baseline"
        is_same = difference.mean == 0 and difference.low is None
        text += f", {'the same as' if is_same else f'{gain} compared with'} the {reference}"
        if name in CONTROLS:
            other_metrics = other_metrics_text(
                study, metric, partial(_best_difference, study, name)
            )
            text += f" ({other_metrics})" if other_metrics else ""
    best_groups = tables.best_configurations(study)
    flags = flags_text(best_groups[0].flags()) if len(best_groups) == 1 else ""
    text = f"{headline.configuration}: mean {metric_name(study, metric)} {text}. {flags}"
    yield Finding(BEST, None, text.strip())


def _control_text(study: Study, name: str) -> str:
    """Return a control with the levels that it shares: "fine-tuner alone at the same lr"."""
    names = tables.short_names(study)
    levels = [names[key] for key in tables.factors_of_control(study, name)]
    return f"{CONTROLS[name][0]} at the same {join_names(levels)}" if levels else CONTROLS[name][0]


def _best_difference(study: Study, name: str, metric: str) -> Estimate | None:
    """Return the best configuration's difference to a control in a metric; None if unknown."""
    headline = tables.make_headline(study, metric)
    return headline.differences.get(name) if headline else None


def ranks_finding(table: Table, heading: str, study: Study) -> Finding:
    """Return the finding of a table of rank associations.

    Args:
        table: Table with a row per factor.
        heading: Heading of the metric.
        study: Study whose configurations are ranked. Factors are tested only if the configurations
            were drawn at random.
    """
    names_by_phrase: dict[str, list[str]] = {}
    for row in table.rows:
        if association := row.association:
            rho = f"ρ = {cell_text(Ranged(association.rho))}" if association.rho else ""
            details = ", ".join(filter(None, [rho, holm_p_text(association.p)]))
            phrase = _rank_phrase(association, heading)
            names_by_phrase.setdefault(phrase, []).append(
                f"{row.name} ({details})" if details else row.name
            )
    n_configurations = len(study.non_controls) + study.n_untried
    n_finished = sum(
        bool(group.finished_values(f"test/{table.metric}"))
        for group in tables.configuration_groups(study)
    )
    texts = [f"{n_finished} of {n_configurations} configurations finished."]
    texts += [f"{phrase} {join_names(names)}." for phrase, names in names_by_phrase.items()]
    texts += filter(None, [_untrained_text(study)])
    return Finding(RANKS, None, " ".join(texts))


def _rank_phrase(association: Association, heading: str) -> str:
    """Return the result of an association as a phrase before the factor's name."""
    if association.min_p is None and association.n >= MIN_RANKED:
        return f"No test, because the factor or {heading} does not vary:"
    # with this few configurations, even the most extreme order is not significant
    if not is_significant(association.min_p):
        return "Too few configurations for a test of"
    if association.p is None:
        return "No test, because configurations were not drawn at random:"
    varies = "varies" if is_significant(association.p) else "does not vary"
    return f"{heading} {varies} significantly with"


def _untrained_text(study: Study) -> str:
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


def interactions_text(importance: Importance, table: Table, names: Mapping[str, str]) -> str:
    """Return the factors with which a factor interacts significantly; "" if there are none."""
    key = table.name.removeprefix(f"{AVERAGE}-")
    partners = [
        f"{names[other_key]} ({holm_p_text(pair.holm_p)})"
        for pair in importance.interactions
        if key in pair.factors and is_significant(pair.holm_p)
        for other_key in pair.factors
        if other_key != key
    ]
    return f"Its effect depends on {join_names(partners)}." if partners else ""


def importance_findings(
    importance: Importance, heading: str, names: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield one finding on the factors and pairs with a significant share, if there are any."""
    significant_shares = [
        (effect, effect.share)
        for effect in (*importance.factors, *importance.pairs)
        if effect.share and effect.share.mean >= _MIN_SHARE and is_significant(effect.holm_p)
    ]
    shares: list[str] = []
    for effect, share in sorted(significant_shares, key=lambda pair: -pair[1].mean):
        factors = " and ".join(names[key] for key in effect.factors)
        subject = factors if len(effect.factors) == 1 else f"the interaction of {factors}"
        ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
        explanation = "" if shares else f" of the variance of {heading} between configurations"
        share_text = f"{share.mean:.0f}%{ends}{explanation}"
        shares.append(f"{subject} explains {share_text} ({holm_p_text(effect.holm_p)})")
    if shares:
        brackets = "Brackets: 95% interval of the share over seeds. "
        legend = brackets if any(share.low is not None for _, share in significant_shares) else ""
        text = f"{join_names(shares)}. {legend}p: test of no effect over seeds."
        if text.startswith("the "):
            text = f"T{text[1:]}"
        yield Finding(IMPORTANCE, None, text)
