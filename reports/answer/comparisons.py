"""Differences, verdicts and flags in words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.wording import count
from reports import tables
from reports.analysis import Limit
from reports.cells import Flagged, Row, Value
from reports.formatting import cell_text, listed, p_text, points_text
from reports.stats import MOST_FURTHER, Compared, Estimate, Verdict, is_beyond_chance
from reports.study import Study, heading

SAME: Final = "The same {} under each seed as"
CONSTANT: Final = "The same difference under each seed from"
# In order of precedence: the first of these that any row has is the verdict of them all.
PHRASES: Final[Mapping[Verdict, str]] = {
    Verdict.DECIDED: "Decided against",
    Verdict.UNDECIDED: "Undecided against",
    Verdict.EQUIVALENT: "Equivalent to",
}
# Flags about what was tested, which the sentence about the rows names.
_TESTED_FLAGS = {"untrained": "Tested untrained", "saturated": "Selection saturated"}
_WHY_NONE = {
    "saturated": "selection is saturated",
    "no headroom": "there is no headroom",
    "at chance": "results are at chance",
}


def comparison_phrase(one: Compared, head: str = "") -> str:
    """Return how a row compares with the baseline, as it is written before the row's name."""
    if one.is_unchanged:
        return SAME.format(head)
    if one.is_constant:
        return CONSTANT
    if one.verdict:
        return PHRASES[one.verdict]
    return "Beyond chance different from" if is_beyond_chance(one.holm_p) else "Not told from"


def is_conclusive(one: Compared) -> bool:
    """Return True if a difference is beyond chance, or nothing differs."""
    return one.is_unchanged or is_beyond_chance(one.holm_p)


def difference_text(one: Compared) -> str:
    """Return a difference and its details: "+0.5 ± 0.4, about 3 to 9 more seeds".

    Each p is named by what it tests. The verdict's own comes first; that of no difference is left
    out unless it is beyond chance.
    """
    over = f"(over {one.datasets[0]} of {one.datasets[1]} datasets)" if one.datasets else ""
    value = cell_text(Value(one.difference, signed=True, decimals=one.decimals, suffix=over))
    if one.is_constant:
        number = value.replace(" ± –", "")
        return f"{number} under {one.difference.n} of {one.difference.n} seeds"
    parts = [
        value,
        verdict_p_text(one),
        _further_text(one.pairs_more) if one.pairs_more else "",
    ]
    return ", ".join(filter(None, parts))


def verdict_p_text(one: Compared) -> str:
    """Return the p of a verdict, named by what it tests; "" where there is none to give."""
    points = points_text(one.effect) if one.effect else ""
    zero = p_words(one.holm_p) if is_beyond_chance(one.holm_p) else ""
    if one.verdict is Verdict.DECIDED:
        return f"beyond {points}: {p_words(one.beyond_p)}"
    if one.verdict is Verdict.EQUIVALENT and one.within_p is not None:
        within = f"within {points}: p {p_text(one.within_p)}"
        return f"{within}, not 0: {zero}" if zero else within
    return f"not 0: {zero}" if zero and one.verdict else zero


def _further_text(pairs: tuple[int, int]) -> str:
    """Return a number of further seeds in words: "about 5 to 40 more seeds"."""
    fewest, most = pairs
    if fewest > MOST_FURTHER:
        return f"over {MOST_FURTHER} more seeds"
    if most > MOST_FURTHER:
        return f"about {fewest} to over {MOST_FURTHER} more seeds"
    if fewest == most:
        return f"about {count(fewest, 'more seed')}"
    return f"about {fewest} to {most} more seeds"


def reversed_difference(one: Compared) -> Compared:
    """Return a row's comparison with the baseline as that of the baseline with the row."""
    own = one.difference
    low, high = (None if end is None else -end for end in (own.high, own.low))
    return replace(one, difference=replace(own, mean=-own.mean, low=low, high=high))


def others_text(study: Study, metric: str, difference: Callable[[str], Estimate | None]) -> str:
    """Return the same difference in other metrics, for example " (joint H −13.0 ± 2.0)".

    Args:
        study: The study.
        metric: Test metric of the answer.
        difference: Returns the difference in a metric. Metrics in which its interval is not beyond
            the smallest effect of interest are left out.
    """
    texts = []
    for other in tables.other_metrics(study, metric):
        found, effect = difference(other), tables.effect_of(study, other)
        if found is None or found.low is None or found.high is None or effect is None:
            continue  # nothing is known of other seeds
        if found.low > effect or found.high < -effect:
            decimals = tables.decimals_of(study, other)
            value = cell_text(Value(found, signed=True, decimals=decimals))
            texts.append(f"{metric_name(study, other)} {value}")
    return f" ({listed(texts)})" if texts else ""


def flags_sentence(
    rows: Sequence[tuple[str, Row]], known: Sequence[Limit], unit: str = "seed"
) -> str:
    """Return what was tested, for example "Tested untrained: 4 (5 of 8 seeds), 16 (1 of 8 seeds).".

    Args:
        rows: The rows of a finding with their names.
        known: Limits that the answer names: a saturated selection is not named again.
        unit: What a row counts: seeds, or trials of several configurations.
    """
    texts = []
    for name, phrase in _TESTED_FLAGS.items():
        flagged = [(who, flag) for who, row in rows for flag in row.flags if flag.name == name]
        raised = [(who, flag) for who, flag in flagged if _weakens(flag)]
        if not raised or name in {limit.name for limit in known}:
            continue
        parts = [f"{who} ({one.raised} of {count(one.of, unit)})" for who, one in raised]
        if len(parts) == len(rows) > 1 and all(one.raised == one.of for _, one in raised):
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
    """Return True if a flag weakens a row's mean: one saturated seed of ten only has a footnote."""
    return flag.name != "saturated" or 2 * flag.raised >= flag.of


def no_verdict_text(known: Sequence[Limit]) -> str:
    """Return why there is no verdict, in a sentence; "" where nothing keeps from one."""
    return f"No verdict: {' and '.join(_WHY_NONE[limit.name] for limit in known)}." if known else ""


def p_words(p: float | None) -> str:
    """Return a corrected p in words, "" without one."""
    return "" if p is None else f"Holm p {p_text(p)}"


def metric_name(study: Study, metric: str) -> str:
    """Return the metric's heading within a sentence."""
    return heading(study.protocol, metric).rstrip(".")
