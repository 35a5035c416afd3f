"""Analyses over all configurations of a study: importance, interactions, curves, cost.

This package computes the numbers behind figures and tables, or raises Unavailable with the reason
why there are none. It renders nothing.
"""

from reports.analysis.choice import choice_correlation
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
from reports.analysis.training import (
    OPTIMAL,
    OTHER,
    cost_points,
    interval_values,
    learning_curves,
)
from reports.analysis.uneven import describe_uneven_noise
