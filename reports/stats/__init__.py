"""Intervals, paired comparisons and rank tests of a study; pure functions over numpy.

Answers for: what the numbers of a table claim. The unit is a seed, that is one few-shot draw, one
pseudo-new split and one initialisation together: an interval says how far the mean would move with
other seeds, not with other test pictures. classes.py says the same of other classes.

scipy is imported in the functions that call it, and where its special functions will do, not
scipy.stats: importing that takes half a second, and a study with nothing to do waits for it.
"""

from harness.intervals import (
    MEASURED_ROUNDING,
    ROUNDING,
    Array,
    Estimate,
    critical,
    is_rounding,
    mean_interval,
    percent_interval,
    scale_of,
    t_tail,
    without_rounding,
)
from reports.stats.classes import DRAWS, interval_over_classes, most_by_guessing, resampled
from reports.stats.paired import (
    Compared,
    Verdict,
    compare_paired,
    holm,
    is_beyond_chance,
    judge,
    one_sample_p,
)
from reports.stats.power import MOST_FURTHER, minimum_detectable
from reports.stats.ranks import (
    FEWEST_RANKED,
    Association,
    correlation,
    rank_correlation,
    rank_groups,
)
