"""Differences of a study whose comparisons got seeds until each was decided (--detect)."""

import dataclasses
from collections.abc import Mapping, Sequence

from reports.read import Study, heading
from reports.stats import Comparison, Decision, Ending, compare_paired, endings
from reports.tables.families import differences
from reports.tables.model import Text

# seed -> metric of a row, and of its baseline
Pairs = tuple[Mapping[int, float], Mapping[int, float]]
_PERCENT = 100.0
_WORDS: Mapping[Decision, str] = {"constant": "no spread"}


def is_designed(study: Study, metric: str) -> bool:
    """Whether the study's own design says what its differences in a metric have come to."""
    of_one_factor = len(study.factors) == 1
    return of_one_factor and study.detection is not None and study.detection.metric == metric


def stopped(
    study: Study, metric: str, pairs: Sequence[Pairs | None]
) -> Sequence[Ending | None] | None:
    """What the comparisons of a table have come to: its levels and its reference arms.

    Args:
        study: with its seeds in the order in which they were given out.
        metric: of the table.
        pairs: of each row; None: it is compared with nothing.

    Returns:
        An ending a row, None of one that is not compared, or has fewer seeds than the first look.
        None in place of all where the plain tests speak: without a design, or of another metric
        than it is for.
    """
    detection = study.detection
    if detection is None or not is_designed(study, metric):
        return None
    family = [given_out(differences(*pair), study.seeds) for pair in pairs if pair]
    found = iter(endings(detection.design, family, _PERCENT))
    return [next(found) if pair else None for pair in pairs]


def given_out(values: Mapping[int, float], seeds: Sequence[int]) -> list[float]:
    """The values in the order of the seeds, up to the first seed that has none."""
    listed: list[float] = []
    for seed in seeds:
        if seed not in values:
            break
        listed.append(values[seed])
    return listed


def compare(
    study: Study, metric: str, pairs: Sequence[Pairs | None]
) -> list[tuple[Comparison | None, Decision | None]]:
    """The comparisons of a table: by the study's own design, else by the plain tests.

    Args:
        study, metric, pairs: see stopped.

    Returns:
        For each row the comparison, None without one, and what the design has decided, None where
        it has no say. Where it has, the interval is the design's, and there is no p.
    """
    plain = [compare_paired(*pair) if pair else None for pair in pairs]
    found = stopped(study, metric, pairs)
    if found is None:
        return [(comparison, None) for comparison in plain]
    return [
        (None, None) if comparison is None else _by_design(comparison, ending)
        for comparison, ending in zip(plain, found, strict=True)
    ]


def _by_design(comparison: Comparison, ending: Ending | None) -> tuple[Comparison, Decision]:
    if ending is not None:
        return Comparison(ending.difference, None, None), ending.decision
    # fewer seeds than the first look: nothing is known of it yet
    bare = dataclasses.replace(comparison.difference, low=None, high=None)
    return Comparison(bare, None, None), "open"


def decision_cell(decision: Decision) -> Text:
    """What a design has decided, as a table says it."""
    return Text(_WORDS.get(decision, decision))


def detection_notes(study: Study, metric: str) -> list[str]:
    """How seeds were given out, and what allows for that.

    Args:
        study: whose table it is.
        metric: of the table.
    """
    if study.detection is None:
        return []
    design = study.detection.design
    effect, (first, *_, last) = f"{design.effect:g}", (*design.looks, design.looks[-1])
    if not is_designed(study, metric):
        other = heading(study.protocol, study.detection.metric)
        return [
            f"seeds were added until differences in {other} were decided (ship-sweep --detect"
            f" {effect}): the intervals and p-values of other metrics do not allow for that"
        ]
    return [
        f"ship-sweep --detect {effect}: seeds were added, from {first} to at most {last}, until a Δ"
        f" differed from 0 (at 5% for all {design.comparisons} comparisons together, levels and"
        f" reference arms) or was equivalent (within ±{effect}, at 2.5% for each). The column"
        " decision says what each has come to after so many pairs; open: neither yet, or not by the"
        " last look; no spread: its pairs do not vary. The interval of Δ allows for the looks,"
        " those of the rows' means do not. No other test is made of Δ: it would say something else"
    ]
