"""Intervals, paired comparisons and rank tests of a study; pure functions over numpy.

Answers for: what the numbers of a table claim. The unit is a seed, that is one few-shot draw, one
pseudo-new split and one initialisation together: an interval says how far the mean would move with
other seeds, not with other test pictures. classes.py says the same of other classes.
"""

from reports.stats.classes import DRAWS, Array, ClassCounts, Share, interval_over_classes, resampled
from reports.stats.intervals import Estimate, mean_interval, percent_interval
from reports.stats.paired import (
    Comparison,
    compare_paired,
    holm,
    minimum_detectable,
    one_sample_p,
)
from reports.stats.ranks import (
    FEWEST_RANKED,
    Association,
    correlation,
    rank_correlation,
    rank_groups,
)
from reports.stats.sequential import (
    DIFFERS,
    EQUIVALENT,
    MOST_COMPARISONS,
    MOST_LOOKS,
    Design,
    decide,
    stages,
)
from reports.stats.stopped import Decision, Outcome, Verdict, verdicts

__all__ = [
    "DIFFERS",
    "DRAWS",
    "EQUIVALENT",
    "FEWEST_RANKED",
    "MOST_COMPARISONS",
    "MOST_LOOKS",
    "Array",
    "Association",
    "ClassCounts",
    "Comparison",
    "Decision",
    "Design",
    "Estimate",
    "Outcome",
    "Share",
    "Verdict",
    "compare_paired",
    "correlation",
    "decide",
    "holm",
    "interval_over_classes",
    "mean_interval",
    "minimum_detectable",
    "one_sample_p",
    "percent_interval",
    "rank_correlation",
    "rank_groups",
    "resampled",
    "stages",
    "verdicts",
]
