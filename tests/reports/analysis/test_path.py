"""The path from the baseline to what selection prefers."""

from collections.abc import Mapping
from typing import Any

import pytest

from reports.analysis.cost import cost_against
from reports.analysis.path import AblationPath, ablation_path
from tests.reports.analysis.planted import METRIC, available, grid, levelled
from tests.reports.builder import StoreBuilder, scores

SEEDS = range(4)


def study_of(
    tested: Mapping[tuple[int, int], float], selected: Mapping[tuple[int, int], float]
) -> StoreBuilder:
    """Settings of two factors with their test H and their selection H, equal under all seeds."""
    builder = StoreBuilder(factors=levelled((2, 2)), seeds=SEEDS)
    for (a, b), value in tested.items():
        chosen = {METRIC: selected[a, b]}
        results = {s: {**scores(60.0), METRIC: value + s + (a + b) * s / 10} for s in SEEDS}
        builder.trial({"f0": a, "f1": b}, results, selected=chosen)
    return builder


def path(builder: StoreBuilder) -> AblationPath:
    """The path that there must be."""
    made = available(ablation_path(builder.study(), METRIC))
    assert isinstance(made, AblationPath)
    return made


def keys(made: AblationPath) -> list[tuple[str, ...]]:
    """The factors of each step."""
    return [tuple(change.factor for change in step.changes) for step in made.steps]


def test_selection_leads_and_test_is_told() -> None:
    """The order is selection's, though test would have taken the other factor first."""
    cells = {(0, 0): 50.0, (0, 1): 58.0, (1, 0): 51.0, (1, 1): 57.0}
    chosen = {(0, 0): 40.0, (0, 1): 41.0, (1, 0): 43.0, (1, 1): 44.0}
    made = path(study_of(cells, chosen))
    assert keys(made) == [("f0",), ("f1",)] and not made.missing
    first, second = made.steps
    assert (first.score, first.gain, second.gain) == pytest.approx((43, 3, 1))
    assert first.difference is not None and second.difference is not None
    assert first.difference.difference.mean == pytest.approx(1 + 0.15)
    assert second.difference.difference.mean == pytest.approx(6 + 0.15)
    assert second.total is not None
    assert second.total.difference.mean == pytest.approx(7 + 0.3)
    assert second.changes[0].before == 0 and second.changes[0].after == 1
    assert made.baseline == {"f0": 0, "f1": 0} and made.score == pytest.approx(40)


def test_what_does_not_exist_is_named_and_stepped_over() -> None:
    """Where no setting lies between, the step is of both factors, and those between are named."""
    made = path(study_of({(0, 0): 50.0, (1, 1): 57.0}, {(0, 0): 40.0, (1, 1): 44.0}))
    assert keys(made) == [("f0", "f1")]
    assert made.missing == ({"f1": 0, "f0": 1}, {"f0": 0, "f1": 1})


def test_one_way_round_is_enough() -> None:
    """With one of two settings between, the path goes through it and names the other."""
    tested = {(0, 0): 50.0, (0, 1): 49.0, (1, 1): 57.0}
    made = path(study_of(tested, {(0, 0): 40.0, (0, 1): 39.0, (1, 1): 44.0}))
    assert keys(made) == [("f1",), ("f0",)]
    assert made.missing == ({"f0": 1, "f1": 0},)
    assert made.steps[0].gain == pytest.approx(-1)


def test_baseline_may_be_the_best() -> None:
    """Where selection prefers the baseline there is no step."""
    assert path(study_of({(0, 0): 50.0, (1, 1): 57.0}, {(0, 0): 45.0, (1, 1): 44.0})).steps == ()


def test_factor_that_becomes_active_comes_with_what_activates_it() -> None:
    """Settings that no study could hold are not named as missing."""
    factors = [
        {"key": "g", "levels": ["none", "vae"], "log": False, "baseline": "none"},
        {"key": "n", "levels": [4, 8], "log": False, "baseline": 4},
    ]
    builder = StoreBuilder(factors=factors, seeds=SEEDS)
    cells: list[tuple[dict[str, Any], float]] = [
        ({"g": "none"}, 50.0), ({"g": "vae", "n": 4}, 51.0), ({"g": "vae", "n": 8}, 55.0)
    ]  # fmt: skip
    for assignment, value in cells:
        builder.trial(assignment, {s: scores(value + s) for s in SEEDS})
    made = path(builder)
    assert keys(made) == [("g", "n")] and made.missing == ()
    assert made.steps[0].changes[1].before is None


def test_long_path_ends_at_the_preferred_setting() -> None:
    """Over a grid of four factors every step changes one, and the last is what selection takes."""
    made = path(grid((2, 3, 2, 3), lambda s: sum(s.values())))
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
    builder = study_of({(0, 0): 50.0, (1, 1): 57.0}, {(0, 0): 40.0, (1, 1): 44.0})
    for run, rule in zip(builder.runs, rules, strict=True):
        run.tags["ship.selection"] = rule
    made = ablation_path(builder.study(), METRIC)
    assert not isinstance(made, AblationPath) and why in made.why
    points = available(cost_against(builder.study(), METRIC))
    assert [(point.score, point.optimal) for point in points] == [(None, False)] * 2
