"""Differences, verdicts and flags as text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.wording import count
from reports import tables
from reports.analysis import Limit
from reports.cells import Flagged, Row, Value
from reports.formatting import cell_text, join_names, p_text, points_text
from reports.stats import MAX_FURTHER_PAIRS, Compared, Estimate, Verdict, is_significant
from reports.study import Study, metric_heading

_CONSTANT = "different by the same amount under each seed"
# Outcomes of a comparison as words after "H is", in the order in which a sentence lists them.
OUTCOMES: Final = (
    Verdict.HIGHER,
    Verdict.LOWER,
    Verdict.INCONCLUSIVE,
    Verdict.EQUIVALENT,
    "significantly different",
    "not significantly different",
    _CONSTANT,
    "unchanged",
)
# Flags that a finding mentions, as the beginning of a sentence.
_FLAG_SENTENCES = {
    "untrained": "An untrained model was tested",
    "saturated": "Selection was saturated",
}
_REASONS = {
    "saturated": "selection is saturated",
    "no headroom": "there is no headroom",
    "at chance": "results are at chance",
}


def classify_comparison(comparison: Compared) -> str:
    """Return the outcome of a comparison, one of OUTCOMES."""
    if comparison.is_unchanged:
        return "unchanged"
    if comparison.is_constant:
        return _CONSTANT
    if comparison.verdict:
        return comparison.verdict
    if is_significant(comparison.holm_p):
        return "significantly different"
    return "not significantly different"


def outcomes_text(names: Mapping[str, Sequence[str]]) -> str:
    """Return outcomes with the rows that have them: "higher for 4; equivalent for 8 and 16".

    Args:
        names: Names of the rows by outcome.
    """
    return "; ".join(
        f"{outcome} for {join_names(names[outcome])}" for outcome in OUTCOMES if outcome in names
    )


def is_conclusive(comparison: Compared) -> bool:
    """Return True if a difference is significant, or if all results are the same."""
    return comparison.is_unchanged or is_significant(comparison.holm_p)


def difference_text(comparison: Compared) -> str:
    """Return a difference with its details: "+0.5 ± 0.4, about 3 to 9 more seeds".

    Each p is labeled with what it shows. The p of the verdict comes first. The p of a nonzero
    difference is given only if it is significant.
    """
    value = cell_text(Value(comparison.difference, signed=True, decimals=comparison.decimals))
    datasets = ""
    if comparison.datasets:
        datasets = f"over {comparison.datasets[0]} of {comparison.datasets[1]} datasets"
    if comparison.is_constant:
        number = value.replace(" ± –", "")  # a constant difference has no interval
        value_text = f"{number} under each of {count(comparison.difference.n, 'seed')}"
        return ", ".join(filter(None, (value_text, datasets)))
    parts = [
        value,
        datasets,
        verdict_p_text(comparison),
        _further_text(comparison.more_seeds) if comparison.more_seeds else "",
    ]
    return ", ".join(filter(None, parts))


def verdict_p_text(comparison: Compared) -> str:
    """Return the p of a verdict, labeled with what it shows; "" if there is none to report."""
    points = points_text(comparison.effect) if comparison.effect else ""
    nonzero_text = holm_p_text(comparison.holm_p) if is_significant(comparison.holm_p) else ""
    if comparison.verdict and comparison.verdict.is_different:
        return f"beyond {points}: {holm_p_text(comparison.beyond_p)}"
    if comparison.verdict is Verdict.EQUIVALENT and comparison.within_p is not None:
        within_text = f"within {points}: p {_relation_text(comparison.within_p)}"
        return f"{within_text}, nonzero: {nonzero_text}" if nonzero_text else within_text
    return f"nonzero: {nonzero_text}" if nonzero_text and comparison.verdict else nonzero_text


def _further_text(pairs: tuple[int, int]) -> str:
    """Return a number of further seeds as text: "about 5 to 40 more seeds"."""
    min_pairs, max_pairs = pairs
    if min_pairs > MAX_FURTHER_PAIRS:
        return f"over {MAX_FURTHER_PAIRS} more seeds"
    if max_pairs > MAX_FURTHER_PAIRS:
        return f"about {min_pairs} to over {MAX_FURTHER_PAIRS} more seeds"
    if min_pairs == max_pairs:
        return f"about {count(min_pairs, 'more seed')}"
    return f"about {min_pairs} to {max_pairs} more seeds"


def reverse_comparison(comparison: Compared) -> Compared:
    """Turn a row's comparison with the baseline into the baseline's comparison with the row."""
    difference = comparison.difference
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    mirrored = replace(difference, mean=-difference.mean, low=low, high=high)
    verdict = comparison.verdict.reversed if comparison.verdict else None
    return replace(comparison, difference=mirrored, verdict=verdict)


def other_metrics_text(
    study: Study, metric: str, difference: Callable[[str], Estimate | None]
) -> str:
    """Return the same difference in other metrics, for example "joint H −13.0 ± 2.0".

    Metrics whose interval is not entirely beyond the smallest effect of interest are left out.

    Args:
        study: The study.
        metric: Test metric of the answer.
        difference: Function that returns the difference in a given metric; None if there is none.
    """
    texts = []
    for other_metric in tables.other_metrics(study, metric):
        estimate, effect = difference(other_metric), tables.effect_of(study, other_metric)
        if estimate is None or estimate.low is None or estimate.high is None or effect is None:
            continue  # without an interval, the difference may be noise
        if estimate.low > effect or estimate.high < -effect:
            decimals = tables.decimals_of(study, other_metric)
            value = cell_text(Value(estimate, signed=True, decimals=decimals))
            texts.append(f"{metric_name(study, other_metric)} {value}")
    return join_names(texts)


def flags_sentence(
    rows: Sequence[tuple[str, Row]], limits: Sequence[Limit], unit: str = "seed"
) -> str:
    """Return the flags of rows as sentences.

    For example, "An untrained model was tested for 4 (5 of 8 seeds) and 16 (1 of 8 seeds).". Flags
    that the answer reports as a limit are not repeated.

    Args:
        rows: Rows of a finding with their names.
        limits: Limits that the answer reports.
        unit: What the flags of a row count: "seed", or "trial" for rows of several configurations.
    """
    texts = []
    for name, phrase in _FLAG_SENTENCES.items():
        named_flags = [
            (row_name, flag) for row_name, row in rows for flag in row.flags if flag.name == name
        ]
        weakening_flags = [(row_name, flag) for row_name, flag in named_flags if _weakens(flag)]
        if not weakening_flags or name in {limit.name for limit in limits}:
            continue
        parts = [
            f"{row_name} ({flag.n_raised} of {count(flag.n_checked, unit)})"
            for row_name, flag in weakening_flags
        ]
        if len(parts) == len(rows) > 1 and all(
            flag.n_raised == flag.n_checked for _, flag in weakening_flags
        ):
            parts = [f"all {len(rows)} under every seed"]
        texts.append(f"{phrase} for {join_names(parts)}.")
    return " ".join(texts)


def flags_text(flags: Sequence[Flagged]) -> str:
    """Return the flags of one row: "An untrained model was tested in 5 of 8 seeds."."""
    texts = {
        flag.name: f"in {flag.n_raised} of {count(flag.n_checked, 'seed')}"
        for flag in flags
        if _weakens(flag)
    }
    return " ".join(
        f"{phrase} {texts[name]}." for name, phrase in _FLAG_SENTENCES.items() if name in texts
    )


def _weakens(flag: Flagged) -> bool:
    """Return True if a flag weakens a row's mean.

    Saturated selection weakens it only if at least half of the seeds have the flag.
    """
    return flag.name != "saturated" or 2 * flag.n_raised >= flag.n_checked


def no_verdict_text(limits: Sequence[Limit]) -> str:
    """Return the reasons for the missing verdict as a sentence; "" if there are none."""
    return (
        f"No verdict: {' and '.join(_REASONS[limit.name] for limit in limits)}." if limits else ""
    )


def holm_p_text(p: float | None) -> str:
    """Return a corrected p as text: "Holm p = 0.012"; "" for None."""
    return "" if p is None else f"Holm p {_relation_text(p)}"


def _relation_text(p: float) -> str:
    """Return a p-value with its relation: "= 0.012" or "< 0.001"."""
    text = p_text(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def metric_name(study: Study, metric: str) -> str:
    """Return the metric's heading for use within a sentence."""
    return metric_heading(study.protocol, metric).rstrip(".")
