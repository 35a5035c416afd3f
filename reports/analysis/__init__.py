"""What the settings of a study say together: importance, interactions, paths, curves, cost.

Answers for: numbers behind a figure, as frozen dataclasses. Renders nothing.
"""

from reports.analysis.design import Unavailable
from reports.analysis.importance import Effect, Importance, importance

__all__ = ["Effect", "Importance", "Unavailable", "importance"]
