"""Intervals, paired comparisons and rank tests of a study, as pure functions over numpy arrays.

The unit is a seed, which sets the few-shot draw, the pseudo-new split and the initialization: an
interval shows how far the mean would move with other seeds, not with other test images. For other
test classes see classes.py.

scipy is imported in the functions that call it, so that a study with nothing to do does not wait
for it. scipy.special is preferred to scipy.stats, which takes half a second to import.
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
from reports.stats.classes import (
    DRAWS,
    interval_over_classes,
    max_correct_by_guessing,
    resample_accuracy,
)
from reports.stats.paired import (
    Compared,
    Verdict,
    add_verdicts,
    compare_paired,
    holm,
    is_significant,
    one_sample_p,
)
from reports.stats.power import MAX_FURTHER_PAIRS, minimum_detectable
from reports.stats.ranks import (
    MIN_RANKED,
    Association,
    correlation,
    rank_correlation,
    rank_groups,
)
