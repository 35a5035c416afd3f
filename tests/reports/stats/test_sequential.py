"""Comparisons that stop by their own results: error rates, intervals, and what they depend on."""

import itertools

import numpy as np
import pytest
from scipy import stats as reference

from reports.stats import MOST_LOOKS, Design, endings, stages
from reports.stats.sequential import DIFFERS, EQUIVALENT, OPEN, Outcome, decide

TWO = Design(1.0, (5, 10, 15), 2)


def looked_at(values: np.ndarray, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of raw differences, (..., comparisons, seeds), at each look."""
    means = np.stack([values[..., :n].mean(axis=-1) for n in design.looks])
    stds = np.stack([values[..., :n].std(axis=-1, ddof=1) for n in design.looks])
    return means, stds


@pytest.mark.parametrize(
    ("pilot", "most", "looks"),
    [
        (10, 60, (10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60)),
        (5, 15, (5, 8, 10, 13, 15)),
        (5, 7, (5, 7)),
        (4, 4, (4,)),
    ],
)
def test_stages_by_hand(pilot: int, most: int, looks: tuple[int, ...]) -> None:
    """Half a pilot more each time, in even steps, and the largest number at last."""
    assert stages(pilot, most) == looks


def test_stages_have_an_end() -> None:
    """A small pilot and many seeds make longer steps."""
    looks = stages(2, 1000)
    assert len(looks) == MOST_LOOKS and looks[0] == 2 and looks[-1] == 1000
    assert all(a < b for a, b in itertools.pairwise(looks))


def test_comparisons_without_a_difference_differ_in_5_of_100_studies() -> None:
    """Raw normal values, two independent comparisons, and nothing that stops as equivalent."""
    design = Design(1e-6, (5, 10, 15), 2)
    values = np.random.default_rng(5).standard_normal((40_000, 2, 15))
    stops = decide(design, *looked_at(values, design))
    rate = (stops.why == DIFFERS).any(axis=1).mean()
    assert rate == pytest.approx(1 - 0.975**2, abs=4 * np.sqrt(0.05 * 0.95 / 40_000))


def test_a_difference_as_large_as_the_effect_is_rarely_equivalent() -> None:
    """At most 2.5% of comparisons, whatever the deviation."""
    for spread in (0.3, 0.8, 2.0):
        values = 1.0 + spread * np.random.default_rng(6).standard_normal((20_000, 2, 15))
        stops = decide(TWO, *looked_at(values, TWO))
        assert (stops.why == EQUIVALENT).mean() < 0.027


def test_one_look_is_the_t_test() -> None:
    """Without further looks, the interval is that of the paired t-test."""
    values = np.random.default_rng(7).normal(0.7, 1.2, 12)
    (found,) = endings(Design(0.1, (12,), 1), [values.tolist()], 60.0)
    assert found is not None and found.difference.low is not None
    assert found.difference.high is not None
    interval = reference.t.interval(0.95, 11, loc=values.mean(), scale=reference.sem(values))
    ends = found.difference.low, found.difference.high
    width = interval[1] - interval[0]
    assert ends == pytest.approx(interval, abs=0.02 * width)  # 10,000 simulated comparisons


@pytest.mark.parametrize("truth", [0.5, 1.0])
def test_intervals_hold_the_truth(truth: float) -> None:
    """Of any level: the chance under the truth is uniform, wherever a comparison stops."""
    values = truth + np.random.default_rng(8).standard_normal((3_000, 2, 15))
    means, stds = looked_at(values, TWO)
    stops = decide(TWO, means, stds)
    chances = []
    for study in range(3_000):
        at = stops.look[study, 0]
        outer = tuple(stops.outer[:, study, 0])
        mean, std = means[at, study, 0], stds[at, study, 0]
        chances.append(Outcome(TWO, outer, mean, std, TWO.looks[at]).chance_above(truth))
    levels = np.array([0.025, 0.25, 0.5, 0.75, 0.975])
    shares = (np.array(chances)[:, None] < levels).mean(0)
    errors = np.sqrt(levels * (1 - levels) / 3_000)
    assert np.all(np.abs(shares - levels) < 3.5 * errors), shares


def test_the_interval_is_where_the_chance_is_a_tail() -> None:
    """Its ends are the differences under which the outcome is in the outer 2.5%."""
    outcome = Outcome(TWO, tuple(TWO.bounds.differs[1]), 1.1, 0.8, 10)
    low, high = outcome.interval()
    assert outcome.chance_above(low) == pytest.approx(0.025, abs=0.001)
    assert outcome.chance_above(high) == pytest.approx(0.975, abs=0.001)
    assert low < 1.1 < high


def test_what_differs_makes_it_easier_for_the_others() -> None:
    """Holm: a t between the two bounds is enough once the other comparison differs."""
    one, two = TWO.bounds.differs[0, 0], TWO.bounds.differs[1, 0]
    between, beyond = (one + two) / 2, two + 1
    stds = np.full((3, 2), np.sqrt(5) * 10)  # a standard error of 10: nothing is equivalent
    given = np.array([1, 1])
    alone = decide(TWO, np.array([[10 * between, 0.0]] * 3), stds, given)
    assert alone.why.tolist() == [OPEN, OPEN]
    both = decide(TWO, np.array([[10 * between, -10 * beyond]] * 3), stds, given)
    assert both.why.tolist() == [DIFFERS, DIFFERS]
    assert both.outer[0].tolist() == [one, two]


def test_seeds_after_the_stop_are_not_read() -> None:
    """The verdict is a pure function of the seeds until then, so that a resume finds the same."""
    rng = np.random.default_rng(9)
    large, small = rng.normal(5, 0.5, 15).tolist(), rng.normal(0.0, 0.4, 15).tolist()
    whole = endings(TWO, [large, small], 60.0)
    assert [found.decision for found in whole if found] == ["differs", "equivalent"]
    stopped = [found.difference.n for found in whole if found]
    assert stopped[0] == 5
    cut = [large[: stopped[0]], [*small[: stopped[1]], *[99.0] * (15 - stopped[1])]]
    assert endings(TWO, cut, 60.0) == whole


def test_what_cannot_be_decided() -> None:
    """Too few seeds: nothing; no spread: constant; neither far nor near after all looks: open."""
    wide = np.random.default_rng(10).normal(0.5, 3.0, 15).tolist()
    none, constant = endings(TWO, [wide[:4], [0.3] * 15], 60.0)
    assert none is None
    assert constant is not None
    assert (constant.decision, constant.difference.low) == ("constant", None)
    for n, seeds in ((15, 15), (12, 10)):
        found, _ = endings(TWO, [wide[:n], wide[:n]], 60.0)
        assert found is not None and (found.decision, found.difference.n) == ("open", seeds)
