"""What is compared with what: paired differences, by plain tests or the study's own design."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports import stats
from reports.read import Study, heading
from reports.stats import Comparison, Decision, Ending, Verdict
from reports.tables.metric import decimals_of, is_percent
from reports.tables.model import (
    CLASSES,
    Cells,
    Column,
    Compared,
    PValue,
    Quantity,
    Ranged,
    Text,
    Value,
    known,
)


def same_results(places: Sequence[Sequence[float]]) -> bool:
    """Whether at each place, such as a seed, all results are one number but for rounding.

    Args:
        places: the results at each; of none nothing is known.
    """
    return bool(places) and all(
        stats.is_rounding(max(found) - min(found), stats.scale_of(found)) for found in places
    )


def differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """seed -> value - baseline, on common seeds."""
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


# seed -> metric of a row, and of its baseline
Pairs = tuple[Mapping[int, float], Mapping[int, float]]
_PERCENT = 100.0
_VERDICTS: Mapping[Decision, Verdict] = {
    "differs": Verdict.DIFFERS,
    "equivalent": Verdict.EQUIVALENT,
    "open": Verdict.UNDECIDED,
    "constant": Verdict.UNDECIDED,
}


def is_designed(study: Study, metric: str) -> bool:
    """Whether the study's own design says what its differences in a metric have come to."""
    of_one_factor = len(study.factors) == 1
    return of_one_factor and study.detection is not None and study.detection.metric == metric


def given_out(values: Mapping[int, float], seeds: Sequence[int]) -> list[float]:
    """The values in the order of the seeds, up to the first seed that has none."""
    listed: list[float] = []
    for seed in seeds:
        if seed not in values:
            break
        listed.append(values[seed])
    return listed


def compare(study: Study, metric: str, pairs: Sequence[Pairs | None]) -> list[Compared | None]:
    """The comparisons of a table, which are one family: by its study's own design, or plain tests.

    Args:
        study: with its seeds in the order in which they were given out.
        metric: of the table.
        pairs: of each row; None: it is compared with nothing.

    Returns:
        What is known of each row. Where the design has a say the interval is the design's, and
        there is no p.
    """
    plain = [stats.compare_paired(*pair) if pair else None for pair in pairs]
    decimals = decimals_of(study, metric)
    if study.detection is None or not is_designed(study, metric):
        return _by_tests(plain, effect_of(study, metric), decimals)
    family = [given_out(differences(*pair), study.seeds) for pair in pairs if pair]
    told = iter(stats.endings(study.detection.design, family, _PERCENT))
    stopped = [next(told) if pair else None for pair in pairs]
    return [
        _by_design(one, ending, decimals) if one else None
        for one, ending in zip(plain, stopped, strict=True)
    ]


def _by_tests(
    family: Sequence[Comparison | None], effect: float | None, decimals: int
) -> list[Compared | None]:
    """What plain tests say of a family of comparisons.

    Args:
        family: a comparison a row; None: it is compared with nothing.
        effect: the smallest of interest; None: nothing is judged.
        decimals: of the metric.
    """
    corrected = stats.holm([one.p if one else None for one in family])
    tests = max(1, sum(p is not None for p in corrected))
    estimates = [one.difference if one else None for one in family]
    judged = [None] * len(family) if effect is None else stats.judge(estimates, effect)
    found: list[Compared | None] = []
    for one, p, told in zip(family, corrected, judged, strict=True):
        if one is None:
            found.append(None)
            continue
        tested = Compared(one.difference, p, one.p, one.detectable(tests), decimals=decimals)
        found.append(replace(tested, verdict=told.verdict, more=told.more) if told else tested)
    return found


def effect_of(study: Study, metric: str) -> float | None:
    """The effect that differences are judged against; None of a measure that is not in points.

    A study whose seeds were given out to detect an effect is judged by that.
    """
    if study.detection is not None and is_designed(study, metric):
        return study.detection.design.effect
    return study.smallest_effect if is_percent(metric) else None


def _by_design(comparison: Comparison, ending: Ending | None, decimals: int) -> Compared:
    """What the design has come to; with fewer seeds than its first look has, nothing is known."""
    decision: Decision = ending.decision if ending else "open"
    bare = replace(comparison.difference, low=None, high=None)
    difference, verdict = ending.difference if ending else bare, _VERDICTS[decision]
    return Compared(difference, decision=decision, verdict=verdict, decimals=decimals)


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


def difference_columns(
    head: str, compared: Sequence[Compared | None], *, designed: bool = False
) -> list[Column]:
    """The columns of a comparison to the baseline.

    Args:
        head: the metric's heading.
        compared: what is known of each row.
        designed: whether the study's own design decides, in place of plain tests.
    """
    plain = [Column("p", "Holm p"), Column("detectable", "MDE", drop=5)]
    over_classes = Column(CLASSES, f"Δ{head} over classes", drop=4)
    return [
        Column("difference", f"Δ{head}"),
        *([over_classes] if any(one and one.classes for one in compared) else []),
        Column("pairs", "pairs", drop=2),
        *([Column("decision", "decision", "left")] if designed else plain),
    ]


def compared_cells(compared: Compared | None) -> Cells:
    """Difference, pairs, corrected p, detectable effect and decision, as far as there are any."""
    if compared is None:
        return {}
    decimals, decision, over = compared.decimals, compared.decision, compared.datasets
    suffix = f"({over[0]}/{over[1]})" if over else ""
    return {
        "difference": Value(compared.difference, signed=True, decimals=decimals, suffix=suffix),
        "pairs": Quantity(compared.difference.n, 0),
        CLASSES: known(Ranged, compared.classes, 1, True),
        "p": known(PValue, compared.p),
        "detectable": known(Quantity, compared.detectable, decimals),
        "decision": known(Text, "no spread" if decision == "constant" else decision),
    }
