"""Intervals, paired comparisons and rank tests of a study, as pure functions over numpy arrays.

Values are sampled over seeds. A seed determines the few-shot images, the pseudo-new split and the
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
    compute_mean_interval,
    compute_percent_interval,
    compute_scale,
    compute_t_critical,
    compute_t_tail,
    is_rounding,
    remove_rounding_errors,
)
from reports.stats.classes import (
    DRAWS,
    compute_interval_over_classes,
    compute_max_correct_by_guessing,
    resample_accuracy,
)
from reports.stats.paired import (
    Compared,
    Verdict,
    add_verdicts,
    adjust_by_holm,
    compare_paired,
    compute_one_sample_p,
    is_significant,
)
from reports.stats.power import MAX_FURTHER_PAIRS, compute_minimum_detectable
from reports.stats.ranks import (
    MIN_RANKED,
    Association,
    compute_group_association,
    compute_rank_correlation,
    compute_spearman_rho,
)
from reports.stats.residuals import compute_additive_residuals
