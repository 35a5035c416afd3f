"""A store is untrusted input: analyses of any levels and numbers give a result or a reason."""

import contextlib
import warnings
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reports.analysis import (
    Unavailable,
    build_factor_tables,
    compute_if_available,
    compute_importance,
    make_cost_points,
)
from reports.render import format_csv, format_tables_as_markdown
from tests.reports.analysis.planted import METRIC, drawn, grid, nothing
from tests.reports.builder import StoreBuilder, scores

ANALYSES: tuple[Any, ...] = (compute_importance, make_cost_points)
LEVELS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.just("name"), st.text(max_size=3)),
)  # fmt: skip
VALUES = st.one_of(st.floats(0, 100), st.just(60.0), st.floats(-1e290, 1e290, allow_nan=False))
ASSIGNMENTS = st.dictionaries(st.sampled_from(["a", "b.c", "<i>"]), LEVELS)
TRIALS = st.lists(st.tuples(ASSIGNMENTS, st.lists(VALUES, min_size=1, max_size=4)), max_size=14)
MANY = [({"a": float(i), "b.c": i % 3}, [50.0 + i, 51.0, 49.0 - i]) for i in range(14)]


def study_of(trials: Any, sampler: str, log: bool) -> StoreBuilder:
    """A study with these configurations and their H under each seed."""
    factors = [
        {"key": key, "levels": None, "log": log, "baseline": 1} for key in ("a", "b.c", "<i>")
    ]
    builder = StoreBuilder(factors=factors, seeds=range(4), sampler=sampler)
    builder.trial({"a": 1}, {0: scores(60.0)})
    for assignment, values in trials:
        results = {seed: {**scores(60.0), METRIC: value} for seed, value in enumerate(values)}
        builder.trial(assignment, results)
    return builder


@example([(a | {"a": float("inf")}, v) for a, v in MANY], "tpe", True)
@example([(a | {"a": 10**400}, v) for a, v in MANY[:3]] + MANY, "tpe", False)
@example([(a | {"a": 1 + i * 1e-12}, v) for i, (a, v) in enumerate(MANY)], "random", True)
@example([(a, [value * 1e200 for value in v]) for a, v in MANY], "random", True)
@example(MANY, "random", True)
@example(MANY, "grid", False)
@given(TRIALS, st.sampled_from(["grid", "tpe"]), st.booleans())
def test_analyses_of_any_levels_and_numbers_give_a_result_or_a_reason(
    trials: Any, sampler: str, log: bool
) -> None:
    """No level and no number raises another error, and each result can be written."""
    study = study_of(trials, sampler, log).study()
    with warnings.catch_warnings():
        # what a mean of 1e290 is, intervals of other tables do not know either
        warnings.filterwarnings("ignore", "overflow", RuntimeWarning)
        for analyse in ANALYSES:
            with contextlib.suppress(Unavailable):
                analyse(study, METRIC)
        tables = build_factor_tables(
            study, METRIC, compute_if_available(compute_importance, study, METRIC)
        )
    assert all(format_csv(table) for table in tables) and isinstance(
        format_tables_as_markdown(tables), str
    )


@pytest.mark.parametrize(
    ("analyse", "builder", "why"),
    [
        (compute_importance, grid((3, 1), nothing), "only f0 varies"),
        (compute_importance, grid((3, 3), nothing, 1), "only one seed finished"),
        (compute_importance, drawn(4, 8, nothing), "8 finished configurations are too few"),
    ],
)
def test_an_unavailable_analysis_gives_its_reason(
    analyse: Any, builder: StoreBuilder, why: str
) -> None:
    """The reason names what the study lacks: factors, seeds or configurations."""
    with pytest.raises(Unavailable, match=why):
        analyse(builder.study(), METRIC)
