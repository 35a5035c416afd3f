"""Analyses over all configurations of a study: importance, interactions, curves, cost.

This package computes the numbers of figures and tables, and renders nothing. An analysis that is
impossible for a study raises Unavailable with the reason.
"""

from reports.analysis.choice import compute_choice_correlation
from reports.analysis.design import (
    Design,
    Unavailable,
    compute_if_available,
    explain_incomparability,
    make_design,
    select_analyzed_study,
)
from reports.analysis.factor_tables import build_factor_tables
from reports.analysis.importance import Importance, compute_importance
from reports.analysis.limits import NO_HEADROOM, Limit, find_limits
from reports.analysis.noise_checks import describe_uneven_noise
from reports.analysis.training import (
    OPTIMAL,
    OTHER,
    make_cost_points,
    make_interval_values,
    make_learning_curves,
)
