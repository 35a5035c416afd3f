"""Differences of a study whose comparisons got seeds until each was decided (--detect)."""

from collections.abc import Mapping, Sequence

from reports.read import Study
from reports.stats import Comparison, Ending, endings
from reports.tables.families import differences

# seed -> metric of a row, and of its baseline
Pairs = tuple[Mapping[int, float], Mapping[int, float]]
_PERCENT = 100.0


def stopped(study: Study, metric: str, pairs: Sequence[Pairs | None]) -> list[Ending | None]:
    """What the comparisons of a table have come to; None each where nothing is to be said.

    Args:
        study: with its seeds in the order in which they were given out.
        metric: of the table; another one than decided has the plain tests.
        pairs: of each row; None: it is compared with nothing.
    """
    detection = study.detection
    if detection is None or detection.metric != metric:
        return [None] * len(pairs)
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


def with_ending(comparison: Comparison | None, found: Ending | None) -> Comparison | None:
    """A comparison with the interval and p that belong to its design."""
    if comparison is None or found is None or found.p is None:
        return comparison
    return Comparison(found.difference, found.p, comparison.std)


def detection_notes(
    study: Study, names: Sequence[str], found: Sequence[Ending | None]
) -> list[str]:
    """How seeds were given out, and what the rows have come to.

    Args:
        study: whose table it is.
        names: the rows in words.
        found: of each row; None where nothing is to be said.
    """
    if study.detection is None or not any(found):
        return []
    design = study.detection.design
    effect, (first, *_, last) = f"{design.effect:g}", (*design.looks, design.looks[-1])
    told = {
        "differs": "Δ differs from 0",
        "equivalent": f"equivalent within ±{effect}",
        "constant": "without a spread",
        "open": "open",
    }
    parts = []
    for decision, words in told.items():
        rows = [
            f"{name} ({one.seeds})"
            for name, one in zip(names, found, strict=True)
            if one is not None and one.decision == decision
        ]
        parts += [f"{words}: {', '.join(rows)}"] if rows else []
    return [
        f"ship-sweep --detect {effect}: seeds were added, from {first} to at most {last}, until a Δ"
        f" differed from 0 (5% for all {design.comparisons} comparisons together) or its 95%"
        f" interval lay within ±{effect}. Its interval and p allow for that; the means of rows and"
        f" other metrics do not. After so many seeds: {'; '.join(parts)}"
    ]
