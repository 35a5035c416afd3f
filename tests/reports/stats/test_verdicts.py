"""Decided, equivalent or undecided."""

from collections.abc import Sequence

import numpy as np
import pytest

from reports.stats import (
    MOST_FURTHER,
    Compared,
    Estimate,
    Verdict,
    compare_paired,
    critical,
    judge,
    mean_interval,
)


def difference(mean: float, half: float, n: int = 10) -> Compared:
    """A difference with its interval."""
    std = half / critical(n - 1) * n**0.5
    return Compared(Estimate(mean, mean - half, mean + half, n), std)


def paired(values: Sequence[float] | np.ndarray) -> Compared:
    """Differences of pairs, as they are."""
    found = compare_paired(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("mean", "half", "verdict"),
    [
        (0.2, 0.5, Verdict.EQUIVALENT),
        (-0.6, 0.3, Verdict.EQUIVALENT),
        (0.6, 0.5, Verdict.UNDECIDED),
        (1.4, 0.5, Verdict.UNDECIDED),
        (1.6, 0.5, Verdict.DECIDED),
        (-3.0, 0.5, Verdict.DECIDED),
    ],
)
def test_a_difference_alone_is_judged_by_its_interval(
    mean: float, half: float, verdict: Verdict
) -> None:
    """Beyond the effect, within it, or across one of its bounds."""
    (found,) = judge([difference(mean, half)], 1.0)
    assert found is not None and found.verdict is verdict
    assert (found.pairs_more is None) == (verdict is not Verdict.UNDECIDED)


def test_a_family_needs_more_to_decide() -> None:
    """What one comparison decides, the same among ten does not; equivalence is not corrected."""
    near, within = difference(1.55, 0.5), difference(0.2, 0.5)
    alone = judge([near], 1.0)
    among = judge([near, *[within] * 9], 1.0)
    assert [one.verdict for one in alone] == [Verdict.DECIDED]
    assert [one.verdict for one in among] == [Verdict.UNDECIDED, *[Verdict.EQUIVALENT] * 9]


def test_further_seeds_would_decide() -> None:
    """With as many pairs more, of the same mean and deviation, the interval clears the bound."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 8)
    values = 0.4 + (values - values.mean()) / values.std(ddof=1) * 1.2
    (found,) = judge([paired(values)], 1.0)
    assert found.pairs_more is not None and found.pairs_more > 2
    for pairs, enough in ((8 + found.pairs_more, True), (7 + found.pairs_more, False)):
        many = rng.normal(0, 1, pairs)
        many = 0.4 + (many - many.mean()) / many.std(ddof=1) * 1.2
        high = mean_interval(list(many)).high
        assert high is not None and (high < 1.0) == enough


def test_errors_over_many_families() -> None:
    """Of 1,000 families of six at the bound itself, 5% or fewer have one that is called decided."""
    rng = np.random.default_rng(1)
    called = 0
    for _ in range(1000):
        pairs = rng.normal(1.0, 1.0, (6, 8))  # the true difference is the effect: the worst null
        found = judge([paired(row) for row in pairs], 1.0)
        called += any(one.verdict is Verdict.DECIDED for one in found)
    assert called <= 65  # 50 expected at the most, and three standard errors


def test_a_family_is_told_more_seeds_than_one_comparison() -> None:
    """What Holm asks of a difference beyond the effect is in the number of further seeds."""
    near = difference(1.4, 0.5)
    (alone,) = judge([near], 1.0)
    among, *_ = judge([near, *[difference(0.1, 0.5)] * 7], 1.0)
    assert (
        alone.pairs_more is not None
        and among.pairs_more is not None
        and among.pairs_more > alone.pairs_more
    )


def test_at_the_bound_itself_no_number_settles_it() -> None:
    """A mean that is the effect would need more than anybody is told."""
    (found,) = judge([difference(1.0, 0.5)], 1.0)
    assert found.pairs_more == MOST_FURTHER + 1
