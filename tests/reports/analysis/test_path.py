"""The path from the baseline to what selection prefers."""

import pytest

from reports.analysis import Unavailable, ablation_path
from reports.analysis.training import cost_against
from tests.reports.analysis.planted import METRIC, grid
from tests.reports.listed import listed


def test_long_path_ends_at_the_preferred_setting() -> None:
    """Over a grid of four factors every step changes one, and the last is what selection takes."""
    made = ablation_path(grid((2, 3, 2, 3), lambda s: sum(s.values())).study(), METRIC)
    assert len(made.steps) == 4 and all(len(step.changes) == 1 for step in made.steps)
    assert [change.after for step in made.steps for change in step.changes].count(2) == 2


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (("test", "test"), "selection looks at test pictures"),
        (("pseudo_new", "reference"), "selection looks at test pictures"),
        (("pseudo_new", "base_val"), "selected on different pictures"),
    ],
)
def test_scores_that_do_not_compare_lead_nowhere(rules: tuple[str, str], why: str) -> None:
    """Neither test pictures nor two rules' different pictures decide which setting is better."""
    builder = listed("path-over-a-gap")
    for run, rule in zip(builder.runs, rules, strict=True):
        run.tags["ship.selection"] = rule
    with pytest.raises(Unavailable, match=why):
        ablation_path(builder.study(), METRIC)
    assert not any(point.optimal for point in cost_against(builder.study(), METRIC))
