"""The importance of factors: against known effects, and against other ways to compute it."""

import numpy as np
import pytest

from reports.analysis.importance import Importance, importance
from tests.reports.analysis.planted import (
    METRIC,
    available,
    grid,
    levelled,
    nothing,
    planted,
)
from tests.reports.builder import StoreBuilder


def found(builder: StoreBuilder) -> Importance:
    """The importance that there must be."""
    made = available(importance(builder.study(), METRIC))
    assert isinstance(made, Importance)
    return made


def why(builder: StoreBuilder) -> str:
    """Why there is none."""
    made = importance(builder.study(), METRIC)
    assert not isinstance(made, Importance)
    return made.why


def test_shares_of_a_whole_grid_add_up() -> None:
    """Factors, pairs and the rest are all of the variance of a complete grid."""
    made = found(grid((3, 3, 2), lambda s: (1 + s["f0"]) * (1 + s["f1"]) * (1 + s["f2"])))
    parts = [effect.share for effect in (*made.factors, *made.pairs)] + [made.rest]
    shares = [part.mean for part in parts if part is not None]
    assert len(shares) == 7 and min(shares) > 0
    assert sum(shares) == pytest.approx(100)


def test_share_is_omega_squared() -> None:
    """With the pooled error replaced by each seed's, the share is Hays' formula over a grid."""
    builder = grid((2, 3), lambda s: 2.0 * s["f0"])
    y = np.array(
        [[run.metrics[f"seed_{s}/test/{METRIC}"] for s in range(5)] for run in builder.runs]
    )
    cube = y.reshape(2, 3, 5)
    by_level = cube.mean(axis=1)  # (levels, seeds)
    per_seed = by_level - by_level.mean(axis=0)
    own = 3 * 5 * (per_seed.mean(axis=1) ** 2).sum()
    error = 3 * ((per_seed - per_seed.mean(axis=1, keepdims=True)) ** 2).sum() / 4
    centred = y - y.mean(axis=0)
    total = 5 * (centred.mean(axis=1) ** 2).sum()
    noise = ((centred - centred.mean(axis=1, keepdims=True)) ** 2).sum() / 4
    share = next(e.share for e in found(builder).factors if e.factors == ("f0",))
    assert share is not None
    assert share.mean == pytest.approx(100 * (own - error) / (total - noise))


def test_incomplete_grid_adjusts_for_the_others() -> None:
    """A factor that only looks good because the best cells are missing from its other level."""
    cells = [(a, b) for a in range(2) for b in range(4) if (a, b) not in ((0, 2), (0, 3))]
    assignments = [{"f0": a, "f1": b} for a, b in cells]
    builder = planted(
        levelled((2, 4)), assignments, lambda s: 2.0 * s["f1"], 8, np.random.default_rng(1)
    )
    made = found(builder)
    other = next(effect for effect in made.factors if effect.factors == ("f0",))
    assert other.share is not None and other.share.mean < 1
    assert other.p is not None and other.p > 0.05


def test_a_factor_that_swings_with_the_seed_is_not_called() -> None:
    """Many settings do not make a factor sure whose effect has another sign under each seed."""
    rng = np.random.default_rng(4)
    builder = grid((2, 12), nothing, 6, rng)
    swing = [2.0, -2.0, 1.5, -1.5, 1.0, -1.0]
    for run in builder.runs:
        if '"f0": 1' in run.tags["ship.assignment"]:
            for seed in range(6):
                run.metrics[f"seed_{seed}/test/{METRIC}"] += swing[seed]
    made = next(e for e in found(builder).factors if e.factors == ("f0",))
    assert made.p is not None and made.p > 0.2


def test_conditional_factor_is_judged_where_it_is_active() -> None:
    """A factor that only one level of another has is told from that other."""
    levels = [{"g": "none"}, *({"g": "vae", "n": n} for n in (1, 2, 4, 8))]
    factors = [
        {"key": "g", "levels": ["none", "vae"], "log": False, "baseline": "none"},
        {"key": "n", "levels": [1, 2, 4, 8], "log": False, "baseline": 4},
    ]
    builder = planted(
        factors, levels, lambda s: 3.0 * (s["g"] == "vae"), 8, np.random.default_rng(0)
    )
    first, second = found(builder).factors
    assert first.factors == ("g",) and second.factors == ("n",)
    assert (first.freedom, second.freedom) == (1, 3)
    assert second.share is not None and second.share.mean < 5


def test_failed_trials_are_left_out_and_named() -> None:
    """A setting that failed under one seed costs itself; a seed that failed everywhere, itself."""
    builder = grid((3, 3), lambda s: s["f0"], 5)
    lost = builder.runs[4]
    for key in [key for key in lost.metrics if key.startswith("seed_2/test/")]:
        del lost.metrics[key]
    for run in builder.runs:
        for key in [key for key in run.metrics if key.startswith("seed_4/test/")]:
            del run.metrics[key]
    made = found(builder)
    assert (made.settings, made.seeds) == (8, 4)
    assert "1 of 9 settings" in made.left_out and "3 of 35 finished trials" in made.left_out


def test_confounded_factors_are_said_to_be() -> None:
    """Of two factors that always change together neither has a share or a p."""
    assignments = [{"f0": a, "f1": a} for a in range(3)]
    made = found(
        planted(levelled((3, 3)), assignments, lambda s: s["f0"], 5, np.random.default_rng(0))
    )
    assert all((e.freedom, e.share, e.p) == (0, None, None) for e in made.factors)


def test_levels_with_classes_of_their_own_are_not_compared() -> None:
    """That some classes are easier is nobody's importance."""
    levels = ["ant", "bee"]
    factors = [
        {"key": "unseen_class", "levels": levels, "log": False, "baseline": "ant"},
        *levelled((2,)),
    ]
    assignments = [{"unseen_class": name, "f0": level} for name in levels for level in (0, 1)]
    builder = planted(factors, assignments, nothing, 3, np.random.default_rng(0))
    assert why(builder) == "the levels of unseen_class are tested on classes of their own"
