"""Intervals, paired comparisons and rank tests of a study, as pure functions over numpy arrays.

Values are sampled over seeds. A seed sets the few-shot draw, the pseudo-new split and the
initialization, so an interval shows how far the mean would move with other seeds. It does not cover
other test images; for other test classes see classes.py.

Functions that need scipy import it themselves, so that commands without statistics do not load it.
They use scipy.special, because importing scipy.stats takes half a second.
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
from reports.stats.residuals import additive_residuals
