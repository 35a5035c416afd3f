"""Differences, verdicts and flags as text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.wording import count
from reports import tables
from reports.analysis import Limit
from reports.cells import Flagged, Row, Value
from reports.formatting import cell_text, listed, p_text, points_text
from reports.stats import MAX_FURTHER_PAIRS, Compared, Estimate, Verdict, is_beyond_chance
from reports.study import Study, heading

# In order of precedence: the first verdict that any row has is the verdict of the finding. Each has
# the preposition that joins it to what the row is compared with.
PREPOSITIONS: Final[Mapping[str, str]] = {
    Verdict.HIGHER: "than",
    Verdict.LOWER: "than",
    Verdict.INCONCLUSIVE: "against",
    Verdict.EQUIVALENT: "to",
    "significantly different": "from",
    "not significantly different": "from",
    "different by the same amount under each seed": "from",
    "unchanged": "from",
}
# Flags that a finding mentions.
_TESTED_FLAGS = {"untrained": "Tested untrained", "saturated": "Selection saturated"}
_WHY_NONE = {
    "saturated": "selection is saturated",
    "no headroom": "there is no headroom",
    "at chance": "results are at chance",
}


def outcome(comparison: Compared) -> str:
    """Return the outcome of a comparison, a key of PREPOSITIONS."""
    if comparison.is_unchanged:
        return "unchanged"
    if comparison.is_constant:
        return "different by the same amount under each seed"
    if comparison.verdict:
        return comparison.verdict
    is_sure = is_beyond_chance(comparison.holm_p)
    return "significantly different" if is_sure else "not significantly different"


def is_conclusive(comparison: Compared) -> bool:
    """Return True if a difference is significant, or if all results are the same."""
    return comparison.is_unchanged or is_beyond_chance(comparison.holm_p)


def difference_text(comparison: Compared) -> str:
    """Return a difference with its details: "+0.5 ± 0.4, about 3 to 9 more seeds".

    Each p is labeled with its hypothesis. The p of the verdict comes first; the p of no difference
    is given only if it is significant.
    """
    over = (
        f"(over {comparison.datasets[0]} of {comparison.datasets[1]} datasets)"
        if comparison.datasets
        else ""
    )
    value = cell_text(
        Value(comparison.difference, signed=True, decimals=comparison.decimals, suffix=over)
    )
    if comparison.is_constant:
        number = value.replace(" ± –", "")
        return f"{number} under {comparison.difference.n} of {comparison.difference.n} seeds"
    parts = [
        value,
        verdict_p_text(comparison),
        _further_text(comparison.more_seeds) if comparison.more_seeds else "",
    ]
    return ", ".join(filter(None, parts))


def verdict_p_text(comparison: Compared) -> str:
    """Return the p of a verdict, labeled with its hypothesis; "" if there is none to report."""
    points = points_text(comparison.effect) if comparison.effect else ""
    zero = p_words(comparison.holm_p) if is_beyond_chance(comparison.holm_p) else ""
    if comparison.verdict and comparison.verdict.is_different:
        return f"beyond {points}: {p_words(comparison.beyond_p)}"
    if comparison.verdict is Verdict.EQUIVALENT and comparison.within_p is not None:
        within = f"within {points}: p {p_text(comparison.within_p)}"
        return f"{within}, not 0: {zero}" if zero else within
    return f"not 0: {zero}" if zero and comparison.verdict else zero


def _further_text(pairs: tuple[int, int]) -> str:
    """Return a number of further seeds as text: "about 5 to 40 more seeds"."""
    fewest, most = pairs
    if fewest > MAX_FURTHER_PAIRS:
        return f"over {MAX_FURTHER_PAIRS} more seeds"
    if most > MAX_FURTHER_PAIRS:
        return f"about {fewest} to over {MAX_FURTHER_PAIRS} more seeds"
    if fewest == most:
        return f"about {count(fewest, 'more seed')}"
    return f"about {fewest} to {most} more seeds"


def reversed_difference(comparison: Compared) -> Compared:
    """Return a row's comparison with the baseline as the baseline's comparison with the row."""
    difference = comparison.difference
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    mirrored = replace(difference, mean=-difference.mean, low=low, high=high)
    verdict = comparison.verdict.reversed if comparison.verdict else None
    return replace(comparison, difference=mirrored, verdict=verdict)


def others_text(study: Study, metric: str, difference: Callable[[str], Estimate | None]) -> str:
    """Return the same difference in other metrics, for example "joint H −13.0 ± 2.0".

    Metrics whose interval is not entirely beyond the smallest effect of interest are left out.

    Args:
        study: The study.
        metric: Test metric of the answer.
        difference: Function that returns the difference in a given metric.
    """
    texts = []
    for other in tables.other_metrics(study, metric):
        estimate, effect = difference(other), tables.effect_of(study, other)
        if estimate is None or estimate.low is None or estimate.high is None or effect is None:
            continue  # without an interval, other seeds may differ
        if estimate.low > effect or estimate.high < -effect:
            decimals = tables.decimals_of(study, other)
            value = cell_text(Value(estimate, signed=True, decimals=decimals))
            texts.append(f"{metric_name(study, other)} {value}")
    return listed(texts)


def flags_sentence(
    rows: Sequence[tuple[str, Row]], known: Sequence[Limit], unit: str = "seed"
) -> str:
    """Return the flags of rows: "Tested untrained: 4 (5 of 8 seeds), 16 (1 of 8 seeds).".

    Flags that the answer reports as a limit are not repeated.

    Args:
        rows: Rows of a finding with their names.
        known: Limits that the answer reports.
        unit: Unit that a row counts: "seed", or "trial" for several configurations.
    """
    texts = []
    for name, phrase in _TESTED_FLAGS.items():
        flagged = [(who, flag) for who, row in rows for flag in row.flags if flag.name == name]
        raised = [(who, flag) for who, flag in flagged if _weakens(flag)]
        if not raised or name in {limit.name for limit in known}:
            continue
        parts = [f"{who} ({flag.raised} of {count(flag.of, unit)})" for who, flag in raised]
        if len(parts) == len(rows) > 1 and all(flag.raised == flag.of for _, flag in raised):
            parts = [f"all {len(rows)}, under every seed"]
        texts.append(f"{phrase}: {listed(parts)}.")
    return " ".join(texts)


def flags_text(flags: Sequence[Flagged]) -> str:
    """Return, for example, "Tested untrained in 5 of 8 seeds."; "" without such flags."""
    raised = {flag.name: flag for flag in flags if _weakens(flag)}
    return " ".join(
        f"{phrase} in {raised[name].raised} of {count(raised[name].of, 'seed')}."
        for name, phrase in _TESTED_FLAGS.items()
        if name in raised
    )


def _weakens(flag: Flagged) -> bool:
    """Return True if a flag weakens a row's mean.

    Saturated selection does so only if at least half of the seeds have it.
    """
    return flag.name != "saturated" or 2 * flag.raised >= flag.of


def no_verdict_text(known: Sequence[Limit]) -> str:
    """Return the reasons for the missing verdict as a sentence; "" if there are none."""
    return f"No verdict: {' and '.join(_WHY_NONE[limit.name] for limit in known)}." if known else ""


def p_words(p: float | None) -> str:
    """Return a corrected p as text; "" for None."""
    return "" if p is None else f"Holm p {p_text(p)}"


def metric_name(study: Study, metric: str) -> str:
    """Return the metric's heading for use within a sentence."""
    return heading(study.protocol, metric).rstrip(".")
