"""What the settings of a study say together: importance, interactions, paths, curves, cost.

Answers for: the numbers behind figures and tables, as frozen dataclasses, or the reason why there
are none. Renders nothing.
"""

from reports.analysis.analysis import Analysis
from reports.analysis.cost import CostPoint, cost_against
from reports.analysis.curves import (
    BudgetCorrelation,
    LearningCurves,
    Rung,
    budget_correlation,
    learning_curves,
)
from reports.analysis.dependence import Dependence, partial_dependence
from reports.analysis.design import Unavailable, scores_compare
from reports.analysis.gaps import PathState, load_path
from reports.analysis.importance import Effect, Importance, importance
from reports.analysis.interactions import Interaction, interactions
from reports.analysis.path import AblationPath, Change, NoBaseline, Step, ablation_path
from reports.analysis.tables import PATH_TABLE, analysis_tables

__all__ = [
    "PATH_TABLE",
    "AblationPath",
    "Analysis",
    "BudgetCorrelation",
    "Change",
    "CostPoint",
    "Dependence",
    "Effect",
    "Importance",
    "Interaction",
    "LearningCurves",
    "NoBaseline",
    "PathState",
    "Rung",
    "Step",
    "Unavailable",
    "ablation_path",
    "analysis_tables",
    "budget_correlation",
    "cost_against",
    "importance",
    "interactions",
    "learning_curves",
    "load_path",
    "partial_dependence",
    "scores_compare",
]
