"""The answer of a comparison of two studies seed by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.store import ConfigurationRecord
from harness.wording import count
from reports import tables
from reports.analysis import NO_HEADROOM, Design, Limit, find_limits
from reports.answer.build import format_rule
from reports.answer.cautions import (
    MIN_SEEDS,
    find_absence_cautions,
    find_noise_cautions,
    find_selection_cautions,
)
from reports.answer.comparisons import (
    classify_comparison,
    format_difference,
    format_metric_name,
    format_no_verdict,
    format_outcomes,
    is_conclusive,
)
from reports.answer.finding import Answer, Finding
from reports.stats import Verdict
from reports.tables import PairedStudies


def make_paired_answer(paired: PairedStudies, average: PairedStudies | None) -> Answer:
    """Return the answer of a paired comparison: the differing options and a finding per metric.

    Args:
        paired: The two studies.
        average: The same comparison for averages over datasets. Its findings come before the
            others. None if there are no averages.
    """
    study, metric = paired.combined, paired.metrics[0]
    limits = list_paired_limits(paired)
    findings = [Finding("studies", None, f"{tables.format_differences(paired)}.")]
    for comparison in filter(None, (average, paired)):
        findings += [
            _make_metric_finding(comparison, metric, limits) for metric in comparison.metrics
        ]
    has_verdicts = any(finding.verdict for finding in findings)
    rule = format_rule(study, metric, "of its metric") if has_verdicts else ""
    limit_findings = tuple(Finding(limit.name, None, limit.text) for limit in limits)
    return Answer(tuple(findings), tuple(_find_cautions(paired)), rule, limit_findings)


def list_paired_limits(paired: PairedStudies) -> list[Limit]:
    """Return the reasons why the comparison gets no verdicts; [] if there are none.

    A limit of either study counts. The exception is "no headroom": it counts only if both studies
    have this limit and differ in an option of the synthesis.

    Args:
        paired: The two studies.
    """
    metric = paired.metrics[0]
    by_study = [
        {limit.name: limit for limit in find_limits(study, metric)}
        for study in (paired.first, paired.second)
    ]
    names = dict.fromkeys(name for by_name in by_study for name in by_name)
    merged_limits = []
    for name in names:
        limits = {
            letter: by_name[name]
            for letter, by_name in zip("AB", by_study, strict=True)
            if name in by_name
        }
        first_limit = next(iter(limits.values()))
        differs_in_synthesis = any(map(first_limit.applies_to, paired.differing))
        if name == NO_HEADROOM and not (len(limits) == 2 and differs_in_synthesis):
            continue
        text = " ".join(f"{letter}: {limit.text}" for letter, limit in limits.items())
        merged_limits.append(replace(first_limit, text=text))
    return merged_limits


def _make_metric_finding(paired: PairedStudies, metric: str, limits: Sequence[Limit]) -> Finding:
    """Return the finding on a metric: the outcome of each pair, with the controls listed apart.

    With limits there is no verdict, and only pairs with a significant difference or with unchanged
    results are listed.
    """
    heading = format_metric_name(paired.combined, metric)
    compared = paired.compared[metric]
    if limits:
        compared = {
            pair: replace(comparison, verdict=None, more_seeds=None)
            for pair, comparison in compared.items()
            if is_conclusive(comparison)
        }
    sentences, verdicts = [format_no_verdict(limits)], set[str]()
    for is_control in (False, True):
        names: dict[str, list[str]] = {}  # by outcome
        for pair, comparison in compared.items():
            if bool(pair.control) is is_control:
                details = "" if comparison.is_unchanged else f" ({format_difference(comparison)})"
                names.setdefault(classify_comparison(comparison), []).append(
                    f"{paired.name_of(pair)}{details}"
                )
        if not is_control:
            verdicts |= names.keys()
        outcomes = format_outcomes(names)
        beginning = "Among the controls" if is_control else "In B"
        sentences.append(f"{beginning}, {heading} is {outcomes}." if outcomes else "")
    verdict = next((verdict for verdict in Verdict if verdict in verdicts), None)
    scope = f" ({paired.combined.scope})" if paired.combined.scope else ""
    subject = f"{heading}, B compared with A{scope}"
    return Finding(subject, verdict, " ".join(filter(None, sentences)))


def _find_cautions(paired: PairedStudies) -> Iterator[str]:
    """Yield the cautions that weaken every finding, the most serious first."""
    study, metric = paired.combined, paired.metrics[0]
    yield from find_selection_cautions(study)
    seed_counts = [comparison.difference.n for comparison in paired.compared[metric].values()]
    if seed_counts and min(seed_counts) < MIN_SEEDS:
        n = count(min(seed_counts), "common seed")
        yield f"A comparison has only {n}: its interval is rough."
    yield from find_absence_cautions(study)
    design = _make_design(paired, metric)
    if design:
        yield from find_noise_cautions(design)


def _make_design(paired: PairedStudies, metric: str) -> Design | None:
    """Return the results of both studies' paired configurations, to check them for uneven noise.

    The design has the seeds under which all of these configurations finished. Its list of factors
    is empty, so levels are not checked.

    Args:
        paired: The two studies.
        metric: Test metric of the values.

    Returns:
        None with fewer than two common seeds.
    """
    column = f"test/{metric}"
    pairs = [pair for pair in paired.pairs if not pair.control and pair.common_seeds(column)]
    seeds_by_pair = [set(pair.common_seeds(column)) for pair in pairs]
    seeds = sorted(set.intersection(*seeds_by_pair)) if seeds_by_pair else []
    if len(seeds) < 2:
        return None
    configurations, values = [], []
    for pair in pairs:
        for letter, group in (("A", pair.first), ("B", pair.second)):
            levels = {"study": letter, **pair.first.value.assignment}
            configurations.append(ConfigurationRecord("", levels, ""))
            by_seed = group.values_by_seed(column)
            values.append([by_seed[seed] for seed in seeds])
    return Design(
        paired.combined, metric, tuple(configurations), tuple(seeds), np.array(values), "", 0, ()
    )
