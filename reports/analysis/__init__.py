"""What the settings of a study say together: importance, interactions, paths, curves, cost.

Answers for: the numbers behind figures and tables, as frozen dataclasses, or the reason why there
are none (Unavailable). Renders nothing.
"""

from reports.analysis.analysis import PATH_TABLE, Analysis, analysis_tables
from reports.analysis.dependence import Dependence
from reports.analysis.importance import Effect, Importance, importance
from reports.analysis.layout import Unavailable, incomparable
from reports.analysis.path import AblationPath, NoBaseline, ablation_path, load_path
from reports.analysis.training import BudgetCorrelation, CostPoint, LearningCurves
