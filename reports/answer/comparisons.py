"""Differences, verdicts and flags as text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.wording import count
from reports import tables
from reports.analysis import Limit
from reports.cells import Flagged, Row, Value
from reports.formatting import format_cell_text, format_p, format_points, join_names
from reports.stats import MAX_FURTHER_PAIRS, Compared, Estimate, Verdict, is_significant
from reports.study import Study, get_metric_heading

_CONSTANT = "different by the same amount under each seed"
# Outcomes of comparisons, worded to follow "H is". Sentences list them in this order.
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
# Flag -> beginning of the sentence that mentions it.
_FLAG_PHRASES = {
    "untrained": "An untrained model was tested",
    "saturated": "Selection was saturated",
}
# Name of a limit -> clause after "No verdict:".
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


def format_outcomes(names: Mapping[str, Sequence[str]]) -> str:
    """Return outcomes with the rows that have them: "higher for 4; equivalent for 8 and 16".

    Args:
        names: Names of the rows by outcome (see OUTCOMES), with any details in parentheses.

    Returns:
        "" without rows.
    """
    return "; ".join(
        f"{outcome} for {join_names(names[outcome])}" for outcome in OUTCOMES if outcome in names
    )


def is_conclusive(comparison: Compared) -> bool:
    """Return True if the difference is significantly nonzero, or if all results are unchanged."""
    return comparison.is_unchanged or is_significant(comparison.holm_p)


def format_difference(comparison: Compared) -> str:
    """Return a difference with its details: "+0.5 ± 0.4, about 3 to 9 more seeds".

    The details are the number of datasets if some are missing, p (see format_verdict_p), and the
    number of further seeds that an inconclusive comparison needs.
    """
    value = format_cell_text(
        Value(comparison.difference, signed=True, decimals=comparison.decimals)
    )
    datasets = ""
    if comparison.datasets:
        datasets = f"over {comparison.datasets[0]} of {comparison.datasets[1]} datasets"
    if comparison.is_constant:
        number = value.replace(" ± –", "")  # a constant difference has no interval
        value_text = f"{number} under each of {count(comparison.difference.n, 'seed')}"
        return ", ".join(filter(None, (value_text, datasets)))
    texts = [
        value,
        datasets,
        format_verdict_p(comparison),
        _format_further_seeds(comparison.more_seeds) if comparison.more_seeds else "",
    ]
    return ", ".join(filter(None, texts))


def format_verdict_p(comparison: Compared) -> str:
    """Return the p-values of a comparison, with labels that say what they test.

    - HIGHER, LOWER: "beyond 1 point: Holm p = 0.012".
    - EQUIVALENT: "within 1 point: p = 0.012".

    EQUIVALENT and INCONCLUSIVE also get the p of a nonzero difference if it is significant:
    "nonzero: Holm p = 0.012". Without a verdict, this p has no label.

    Returns:
        "" if there is no p to report.
    """
    points = format_points(comparison.effect) if comparison.effect else ""
    nonzero_text = format_holm_p(comparison.holm_p) if is_significant(comparison.holm_p) else ""
    if comparison.verdict and comparison.verdict.is_different:
        return f"beyond {points}: {format_holm_p(comparison.beyond_p)}"
    if comparison.verdict is Verdict.EQUIVALENT and comparison.within_p is not None:
        within_text = f"within {points}: p {_format_p(comparison.within_p)}"
        return f"{within_text}, nonzero: {nonzero_text}" if nonzero_text else within_text
    return f"nonzero: {nonzero_text}" if nonzero_text and comparison.verdict else nonzero_text


def _format_further_seeds(more_seeds: tuple[int, int]) -> str:
    """Return a range of numbers of further seeds as text: "about 5 to 40 more seeds"."""
    min_pairs, max_pairs = more_seeds
    if min_pairs > MAX_FURTHER_PAIRS:
        return f"over {MAX_FURTHER_PAIRS} more seeds"
    if max_pairs > MAX_FURTHER_PAIRS:
        return f"about {min_pairs} to over {MAX_FURTHER_PAIRS} more seeds"
    if min_pairs == max_pairs:
        return f"about {count(min_pairs, 'more seed')}"
    return f"about {min_pairs} to {max_pairs} more seeds"


def reverse_comparison(comparison: Compared) -> Compared:
    """Return the baseline's comparison with a row from the row's comparison with the baseline."""
    difference = comparison.difference
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    mirrored = replace(difference, mean=-difference.mean, low=low, high=high)
    verdict = comparison.verdict.reversed if comparison.verdict else None
    return replace(comparison, difference=mirrored, verdict=verdict)


def format_other_metrics(
    study: Study, metric: str, difference: Callable[[str], Estimate | None]
) -> str:
    """Return a difference in the other metrics of a study: "joint H −13.0 ± 2.0".

    A metric is listed only if its whole interval is beyond the smallest effect of interest.

    Args:
        study: The study.
        metric: Test metric of the answer.
        difference: Function from a metric to the difference in it. None if the difference is
            unknown.

    Returns:
        "" if no metric is listed.
    """
    texts = []
    for other_metric in tables.list_other_metrics(study, metric):
        estimate, effect = difference(other_metric), tables.get_smallest_effect(study, other_metric)
        if estimate is None or estimate.low is None or estimate.high is None or effect is None:
            continue  # without an interval, the difference may be noise
        if estimate.low > effect or estimate.high < -effect:
            decimals = tables.get_decimals(study, other_metric)
            value = format_cell_text(Value(estimate, signed=True, decimals=decimals))
            texts.append(f"{format_metric_name(study, other_metric)} {value}")
    return join_names(texts)


def format_flags_sentences(
    rows: Sequence[tuple[str, Row]], limits: Sequence[Limit], unit: str = "seed"
) -> str:
    """Return the flags of rows as sentences; "" if there are none.

    For example, "An untrained model was tested for 4 (5 of 8 seeds) and 16 (1 of 8 seeds).". Flags
    that the answer already reports as a limit are left out.

    Args:
        rows: Rows of a finding with their names.
        limits: Limits that the answer reports.
        unit: Unit of the numbers: "seed", or "trial" for rows of several configurations.
    """
    texts = []
    for name, phrase in _FLAG_PHRASES.items():
        named_flags = [
            (row_name, flag) for row_name, row in rows for flag in row.flags if flag.name == name
        ]
        weakening_flags = [(row_name, flag) for row_name, flag in named_flags if _weakens(flag)]
        if not weakening_flags or name in {limit.name for limit in limits}:
            continue
        names = [
            f"{row_name} ({flag.n_raised} of {count(flag.n_checked, unit)})"
            for row_name, flag in weakening_flags
        ]
        if len(names) == len(rows) > 1 and all(
            flag.n_raised == flag.n_checked for _, flag in weakening_flags
        ):
            names = [f"all {len(rows)} under every seed"]
        texts.append(f"{phrase} for {join_names(names)}.")
    return " ".join(texts)


def format_flags(flags: Sequence[Flagged]) -> str:
    """Return the flags of one row: "An untrained model was tested in 5 of 8 seeds."."""
    texts = {
        flag.name: f"in {flag.n_raised} of {count(flag.n_checked, 'seed')}"
        for flag in flags
        if _weakens(flag)
    }
    return " ".join(
        f"{phrase} {texts[name]}." for name, phrase in _FLAG_PHRASES.items() if name in texts
    )


def _weakens(flag: Flagged) -> bool:
    """Return True if a flag weakens the row's mean enough to be mentioned.

    Saturated selection does if at least half of the row's seeds have the flag; other flags always
    do.
    """
    return flag.name != "saturated" or 2 * flag.n_raised >= flag.n_checked


def format_no_verdict(limits: Sequence[Limit]) -> str:
    """Return the reasons for the missing verdict as a sentence; "" if there are none."""
    return (
        f"No verdict: {' and '.join(_REASONS[limit.name] for limit in limits)}." if limits else ""
    )


def format_holm_p(p: float | None) -> str:
    """Return a corrected p as text: "Holm p = 0.012"; "" for None."""
    return "" if p is None else f"Holm p {_format_p(p)}"


def _format_p(p: float) -> str:
    """Return a p-value with a relation sign: "= 0.012" or "< 0.001"."""
    text = format_p(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def format_metric_name(study: Study, metric: str) -> str:
    """Return the metric's heading without a final period, for use within a sentence."""
    return get_metric_heading(study.protocol, metric).rstrip(".")
