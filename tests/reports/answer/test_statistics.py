"""Statistical claims of an answer hold for difficult noise, samplers and few seeds."""

import re

import numpy as np
import pytest

from reports.answer.factors import BEST
from reports.report import make_report
from tests.reports.analysis.planted import METRIC, make_planted_grid, make_planted_study, no_effect
from tests.reports.builder import StoreBuilder

KINDS = ("test", "selection")


def make_correlated_sample(sampler: str) -> StoreBuilder:
    """Forty configurations of two ranges that move together, of which only x0 has an effect."""
    rng = np.random.default_rng(0)
    x0 = rng.random(40)
    x1 = np.clip(x0 + rng.normal(0, 0.2, 40), 0, 1)
    factors = [{"key": f"x{i}", "levels": None, "log": False, "baseline": 0.5} for i in (0, 1)]
    configurations = [{"x0": float(a), "x1": float(b)} for a, b in zip(x0, x1, strict=True)]
    return make_planted_study(
        factors, configurations, lambda s: 4 * s["x0"], 3, rng, sampler=sampler
    )


def test_under_tpe_no_factor_is_tested() -> None:
    """TPE moves factors together, so ranks would find factors without effect significant."""
    report = make_report(make_correlated_sample("tpe").make_study())
    (text,) = [
        finding.text for finding in report.answer.findings if "rank association" in finding.subject
    ]
    assert "No test, because configurations were not drawn at random: x0 (ρ = " in text
    assert "significantly" not in text and "Holm p" not in text
    assert "importance" not in {finding.subject for finding in report.answer.findings}
    for name in ("ranks", "importance"):
        (table,) = [finding for finding in report.all_tables if finding.name == name]
        assert "p" not in {column.key for column in table.columns}


def test_random_search_has_a_test_of_ranks() -> None:
    """Configurations that were drawn at random are exchangeable."""
    report = make_report(make_correlated_sample("random").make_study())
    (table,) = [any_table for any_table in report.all_tables if any_table.kind == "ranks"]
    assert all(row.association and row.association.p is not None for row in table.rows)


@pytest.mark.parametrize(("weight", "least", "most"), [(0.0, -0.4, 0.4), (1.0, 0.5, 0.9)])
def test_the_best_configurations_interval_has_a_caution(
    weight: float, least: float, most: float
) -> None:
    """It gives the correlation of the noise of selection with that of the test."""
    rng = np.random.default_rng(1)
    builder = make_planted_grid((3, 3), no_effect, seeds=8, rng=rng)
    for run in builder.runs:
        for seed in range(8):
            test, selected = (run.metrics[f"{of}/{METRIC}/seed_{seed}"] for of in KINDS)
            noise = weight * (test - 60) + rng.normal(0, 0.7)
            run.metrics[f"selection/{METRIC}/seed_{seed}"] = selected - test + 60 + noise
    (best,) = [f for f in make_report(builder.make_study()).answer.findings if f.subject == BEST]
    match = re.search(
        r"does not account for choosing the best \(correlation .*: ([−\d.]+)\)\.", best.text
    )
    assert match and least < float(match[1].replace("−", "-")) < most
