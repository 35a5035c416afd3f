"""Findings of factors: their levels, their shares of the variance, and the best configuration."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.store import ALONE, ARMS
from reports import tables
from reports.analysis import Importance, Limit
from reports.answer.comparisons import (
    PHRASES,
    comparison_phrase,
    difference_text,
    flags_sentence,
    flags_text,
    is_conclusive,
    metric_name,
    no_verdict_text,
    others_text,
    p_words,
)
from reports.answer.finding import Finding
from reports.cells import AVERAGE, Ranged, Table, Value
from reports.formatting import cell_text, listed
from reports.stats import FEWEST_RANKED, Association, Estimate, is_beyond_chance
from reports.study import Study

BEST = "best setting by selection"  # the subject of a finding
_LEAST = 1.0  # percent of the variance; less is not worth a reader's time, however sure
_OVER = {"methods": ", averaged over datasets", "effects": ", averaged over the other factors"}


def levels_finding(table: Table, head: str, known: Sequence[Limit]) -> Finding | None:
    """Return the finding of a table whose rows are levels, or methods over datasets.

    Args:
        table: with differences to its baseline; without any there is no finding.
        head: the metric's heading.
        known: what keeps levels from a verdict.
    """
    told = [(row.level, row.compared) for row in table.own if row.compared]
    if table.kind in ("", "settings") or table.baseline is None or not told:
        return None
    factor = table.name.removeprefix(f"{AVERAGE}-")
    barring = [limit for limit in known if limit.concerns(factor)]
    if barring:
        plain = [(level, replace(one, verdict=None)) for level, one in told]
        told = [(level, one) for level, one in plain if is_conclusive(one)]
    judged = [one.verdict for _, one in told]
    verdicts = [verdict for verdict in PHRASES if verdict in judged]
    named: dict[str, list[str]] = {PHRASES[verdict]: [] for verdict in verdicts}
    for level, one in told:
        name = level if one.is_unchanged else f"{level} ({difference_text(one)})"
        named.setdefault(comparison_phrase(one, head), []).append(name)
    than = table.baseline.level
    texts = [f"{phrase} {than}: {listed(names)}." for phrase, names in named.items()]
    unit = "seed" if table.kind == "levels" else "trial"
    texts = [
        no_verdict_text(barring),
        *texts,
        flags_sentence([(row.level, row) for row in table.own], known, unit),
    ]
    subject = ", ".join(column.heading for column in table.columns[: table.labels])
    subject += _OVER.get(table.kind, "")
    return Finding(subject, next(iter(verdicts), None), " ".join(filter(None, texts)))


def best_configuration(study: Study, metric: str) -> Iterator[Finding]:
    """Yield the setting with the best selection score, its test result and what it gains.

    It is compared with the fine-tuner alone at the same levels, else with the baseline.
    """
    found = tables.headline(study, metric)
    if found is None or len(tables.by_preference(study)) < 2:
        return
    decimals = tables.decimals_of(study, metric)
    text = cell_text(Value(found.estimate, decimals=decimals))
    name = next((name for name in (ALONE, *found.beside) if name in found.beside), "")
    if name:
        beside = found.beside[name]
        told = cell_text(Value(beside, signed=True, decimals=decimals))
        than = _control_text(study, name) if name in ARMS else "the baseline"
        same = beside.mean == 0 and beside.low is None
        text += f", as {than}" if same else f", {told} against {than}"
        if name in ARMS:
            text += others_text(study, metric, partial(_best_against, study, name))
    best = tables.preferred(study)
    flags = flags_text(best[0].flags()) if len(best) == 1 else ""
    text = f"{found.setting}: mean {metric_name(study, metric)} {text}. {flags}"
    yield Finding(BEST, None, text.strip())


def _control_text(study: Study, name: str) -> str:
    """Return a control and what it shares with a setting: "fine-tuner alone at the same lr"."""
    names = tables.short_names(study)
    levels = [names[key] for key in tables.levels_of_control(study, name)]
    return f"{ARMS[name][0]} at the same {listed(levels)}" if levels else ARMS[name][0]


def _best_against(study: Study, name: str, metric: str) -> Estimate | None:
    """Return the best configuration's difference to a control in a metric, if there is one."""
    found = tables.headline(study, metric)
    return found.beside.get(name) if found else None


def ranks_finding(table: Table, head: str, study: Study) -> Finding:
    """Return the finding of a table of rank associations.

    Args:
        table: A row per factor.
        head: The metric's heading.
        study: The study whose configurations are ranked. Unless they were drawn at random, no
            factor is tested.
    """
    named: dict[str, list[str]] = {}
    for row in table.rows:
        if one := row.ranked:
            rho = f"ρ {cell_text(Ranged(one.rho))}" if one.rho else ""
            details = ", ".join(filter(None, [rho, p_words(one.p)]))
            phrase = _rank_phrase(one, head)
            named.setdefault(phrase, []).append(f"{row.name} ({details})" if details else row.name)
    wanted = len(study.own) + study.untried
    finished = sum(bool(s.known(f"test/{table.metric}")) for s in tables.setting_groups(study))
    texts = [f"{finished} of {wanted} settings finished."]
    texts += [f"{phrase} {listed(names)}." for phrase, names in named.items()]
    texts += filter(None, [_trials_text(study)])
    return Finding("factors, varied together", None, " ".join(texts))


def _rank_phrase(one: Association, head: str) -> str:
    """Return what an association says of a factor, before the factor's name.

    Args:
        one: The association.
        head: The metric's heading.
    """
    if one.least is None and one.n >= FEWEST_RANKED:  # the metric or the factor is constant
        return "Nothing can be said, as nothing differs, of"
    if not is_beyond_chance(one.least):  # even the best order of so few is within chance
        return "Nothing can be said, for want of settings, of"
    if one.p is None:
        return "Not tested, as settings were not drawn at random:"
    beyond = is_beyond_chance(one.p)
    return f"{head} goes with" if beyond else f"{head} does not go beyond chance with"


def _trials_text(study: Study) -> str:
    """Return in how many trials of all configurations a model was tested untrained."""
    rows = [row for setting in study.own for row in study.by_setting[setting.key]]
    raised = [flag for flag in tables.Group((), rows).flags() if flag.name == "untrained"]
    return "".join(f"Tested untrained: {one.raised} of {one.of} trials." for one in raised)


def interactions_text(found: Importance, table: Table, names: Mapping[str, str]) -> str:
    """Return on which other factors a factor's effect depends, beyond chance; "" for none."""
    key = table.name.removeprefix(f"{AVERAGE}-")
    others = [
        f"{names[other]} ({p_words(pair.holm)})"
        for pair in found.interactions
        if key in pair.factors and is_beyond_chance(pair.holm)
        for other in pair.factors
        if other != key
    ]
    return f"Its effect depends on {listed(others)}." if others else ""


def importance_findings(
    found: Importance, head: str, names: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield which factors explain some of the variance, beyond chance."""
    sure = [
        (effect, effect.share)
        for effect in (*found.factors, *found.pairs)
        if effect.share and effect.share.mean >= _LEAST and is_beyond_chance(effect.holm)
    ]
    told = []
    for effect, share in sorted(sure, key=lambda pair: -pair[1].mean):
        who = " with ".join(names[key] for key in effect.factors)
        ends = "" if share.low is None else f" [{share.low:.0f}, {share.high:.0f}]"
        told.append(f"{who} explains {share.mean:.0f}%{ends} ({p_words(effect.holm)})")
    if told:
        text = (
            f"Of the variance of {head} between settings, {listed(told)}. Brackets: 95% interval of"
            " the share, over seeds; p: of no effect, over seeds."
        )
        yield Finding("importance", None, text)
