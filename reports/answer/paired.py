"""The answer to two studies that are compared seed by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from harness.store import ConfigurationRecord
from harness.wording import count
from reports import tables
from reports.analysis import NO_HEADROOM, Design, Limit, find_limits, uneven_noise
from reports.answer.build import rule_text
from reports.answer.cautions import MIN_SEEDS
from reports.answer.comparisons import (
    OUTCOMES,
    classify_comparison,
    difference_text,
    is_conclusive,
    metric_name,
    no_verdict_text,
)
from reports.answer.finding import Answer, Finding
from reports.formatting import join_names
from reports.stats import Verdict
from reports.tables import PairedStudies


def paired_answer(paired: PairedStudies, average: PairedStudies | None) -> Answer:
    """Return what differs between two studies, a finding per metric, and the cautions.

    Args:
        paired: The two studies.
        average: The same for averages over datasets, whose findings come first; None without them.
    """
    study, metric = paired.combined, paired.metrics[0]
    limits = paired_limits(paired)
    findings = [Finding("studies", None, f"{tables.differences_text(paired)}.")]
    for part in filter(None, (average, paired)):
        findings += [_metric_finding(part, metric, limits) for metric in part.metrics]
    has_verdicts = any(finding.verdict for finding in findings)
    rule = rule_text(study, metric, "of its metric") if has_verdicts else ""
    limit_findings = tuple(Finding(limit.name, None, limit.text) for limit in limits)
    return Answer(tuple(findings), tuple(_cautions(paired)), rule, limit_findings)


def paired_limits(paired: PairedStudies) -> list[Limit]:
    """Return the limits that keep the comparison from verdicts.

    Saturated selection and results at chance in one of the studies are sufficient. Missing headroom
    counts if both studies have it and an option of the synthesis differs.

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
        sides = [by_name.get(name) for by_name in by_study]
        existing = [limit for limit in sides if limit]
        is_affected = any(map(existing[0].applies_to, paired.differing))
        if name == NO_HEADROOM and not (len(existing) == 2 and is_affected):
            continue
        texts = [
            f"{letter}: {limit.text}" for letter, limit in zip("AB", sides, strict=True) if limit
        ]
        merged_limits.append(replace(existing[0], text=" ".join(dict.fromkeys(texts))))
    return merged_limits


def _metric_finding(paired: PairedStudies, metric: str, limits: Sequence[Limit]) -> Finding:
    """Return the finding of a metric: the outcome of each pair, in the order of OUTCOMES."""
    head = metric_name(paired.combined, metric)
    compared = paired.compared[metric]
    if limits:
        plain = {pair: replace(c, verdict=None, more_seeds=None) for pair, c in compared.items()}
        compared = {pair: c for pair, c in plain.items() if is_conclusive(c)}
    sentences, verdicts = [no_verdict_text(limits)], set[str]()
    for is_control in (False, True):
        names: dict[str, list[str]] = {}  # by outcome
        for pair, comparison in compared.items():
            if bool(pair.control) is is_control:
                details = "" if comparison.is_unchanged else f" ({difference_text(comparison)})"
                names.setdefault(classify_comparison(comparison), []).append(
                    f"{paired.name_of(pair)}{details}"
                )
        if not is_control:
            verdicts |= names.keys()
        outcomes = [result for result in OUTCOMES if result in names]
        parts = "; ".join(f"{result} for {join_names(names[result])}" for result in outcomes)
        beginning = "Of the controls, it" if is_control else f"In B, {head}"
        sentences.append(f"{beginning} is {parts}." if parts else "")
    verdict = next((verdict for verdict in Verdict if verdict in verdicts), None)
    scope = f" ({paired.combined.scope})" if paired.combined.scope else ""
    return Finding(f"{head}, B compared with A{scope}", verdict, " ".join(filter(None, sentences)))


def _cautions(paired: PairedStudies) -> Iterator[str]:
    """Yield the cautions that weaken every finding, the most serious first."""
    study, metric = paired.combined, paired.metrics[0]
    rule = tables.join_rules(study.rows["selection"].to_list())
    if tables.uses_test_images(rule):
        yield f"Selection used test images ({rule}): the numbers are too optimistic."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    pairs = [comparison.difference.n for comparison in paired.compared[metric].values()]
    if pairs and min(pairs) < MIN_SEEDS:
        yield f"A comparison has only {count(min(pairs), 'common seed')}: its interval is rough."
    absent = tables.all_rows(study).counts.absence_texts()
    if absent:
        yield f"Incomplete: {', '.join(absent)} of {len(study.rows)} (configuration, seed) pairs."
    name, design = metric_name(study, metric), _design(paired, metric)
    for place in uneven_noise(design) if design else ():
        yield f"{name} {place}: intervals and verdicts do not account for rare large losses."


def _design(paired: PairedStudies, metric: str) -> Design | None:
    """Return the paired configurations of both studies under the seeds that all of them finished.

    Args:
        paired: The two studies.
        metric: Test metric of the values.

    Returns:
        None with fewer than two such seeds.
    """
    column = f"test/{metric}"
    pairs = [pair for pair in paired.pairs if not pair.control and pair.common_seeds(column)]
    common = [set(pair.common_seeds(column)) for pair in pairs]
    seeds = sorted(set.intersection(*common)) if common else []
    if len(seeds) < 2:
        return None
    configurations, values = [], []
    for pair in pairs:
        for letter, group in (("A", pair.first), ("B", pair.second)):
            levels = {"study": letter, **pair.first.value.assignment}
            configurations.append(ConfigurationRecord("", levels, ""))
            by_seed = group.seeds(column)
            values.append([by_seed[seed] for seed in seeds])
    return Design(
        paired.combined, metric, tuple(configurations), tuple(seeds), np.array(values), "", 0, ()
    )
