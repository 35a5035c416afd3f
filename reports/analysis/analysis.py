"""Everything that is computed of a study's settings together, each part once and when asked for."""

from dataclasses import dataclass
from functools import cached_property

from reports.analysis.cost import CostPoint, cost_against
from reports.analysis.curves import (
    BudgetCorrelation,
    LearningCurves,
    budget_correlation,
    learning_curves,
)
from reports.analysis.dependence import Dependence, partial_dependence
from reports.analysis.design import Unavailable, subject
from reports.analysis.importance import Importance, importance
from reports.analysis.interactions import Interaction, interactions
from reports.analysis.path import AblationPath, ablation_path
from reports.read import Study


@dataclass(frozen=True)
class Analysis:
    """Of a study, or the reason why there is none.

    study: as it was read. metric: of its test metrics; the study has a heading for it.
    """

    study: Study
    metric: str

    @cached_property
    def subject(self) -> Study | Unavailable:
        """The study that is analysed: one over datasets by its averages."""
        return subject(self.study, self.metric)

    @cached_property
    def importance(self) -> Importance | Unavailable:
        """See reports.analysis.importance."""
        return importance(self.study, self.metric)

    @cached_property
    def interactions(self) -> tuple[Interaction, ...] | Unavailable:
        """See reports.analysis.interactions."""
        return interactions(self.study, self.metric)

    @cached_property
    def dependence(self) -> tuple[Dependence, ...] | Unavailable:
        """See reports.analysis.partial_dependence."""
        return partial_dependence(self.study, self.metric)

    @cached_property
    def path(self) -> AblationPath | Unavailable:
        """See reports.analysis.ablation_path."""
        return ablation_path(self.study, self.metric)

    @cached_property
    def costs(self) -> tuple[CostPoint, ...] | Unavailable:
        """See reports.analysis.cost_against."""
        return cost_against(self.study, self.metric)

    @cached_property
    def curves(self) -> LearningCurves | Unavailable:
        """See reports.analysis.learning_curves."""
        return learning_curves(self.study)

    @cached_property
    def budget(self) -> BudgetCorrelation | Unavailable:
        """See reports.analysis.budget_correlation."""
        return budget_correlation(self.study)
