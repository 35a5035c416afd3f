"""Statistical claims of answers about sampled studies and best configurations."""

import re

import numpy as np
import pytest

from reports.answer.factors import BEST
from reports.report import make_report
from tests.reports.analysis.planted import METRIC, make_planted_grid, make_planted_study, no_effect
from tests.reports.builder import StoreBuilder

KINDS = ("test", "selection")


def make_correlated_sample(sampler: str) -> StoreBuilder:
    """Build a study of two correlated factors, of which only x0 has an effect."""
    rng = np.random.default_rng(0)
    x0 = rng.random(40)
    x1 = np.clip(x0 + rng.normal(0, 0.2, 40), 0, 1)
    factors = [{"key": f"x{i}", "levels": None, "log": False, "baseline": 0.5} for i in (0, 1)]
    configurations = [{"x0": float(a), "x1": float(b)} for a, b in zip(x0, x1, strict=True)]
    return make_planted_study(
        factors, configurations, lambda s: 4 * s["x0"], 3, rng, sampler=sampler
    )


def test_under_tpe_no_factor_is_tested() -> None:
    """TPE's factors are correlated, so a test would be significant for factors without effect."""
    report = make_report(make_correlated_sample("tpe").make_study())
    (text,) = [
        finding.text for finding in report.answer.findings if "rank association" in finding.subject
    ]
    assert "No test, because configurations were not drawn at random: x0 (ρ = " in text
    assert "significantly" not in text and "Holm p" not in text
    assert "importance" not in {finding.subject for finding in report.answer.findings}
    for name in ("ranks", "importance"):
        (table,) = [table for table in report.all_tables if table.name == name]
        assert "p" not in {column.key for column in table.columns}


def test_random_search_has_a_test_of_ranks() -> None:
    """Random configurations are exchangeable, which the test assumes."""
    report = make_report(make_correlated_sample("random").make_study())
    (table,) = [table for table in report.all_tables if table.kind == "ranks"]
    assert all(row.association and row.association.p is not None for row in table.rows)


@pytest.mark.parametrize(("weight", "low", "high"), [(0.0, -0.4, 0.4), (1.0, 0.5, 0.9)])
def test_the_interval_of_the_best_configuration_has_a_caution(
    weight: float, low: float, high: float
) -> None:
    """The caution gives the correlation between the noise of selection and that of the test."""
    rng = np.random.default_rng(1)
    builder = make_planted_grid((3, 3), no_effect, seeds=8, rng=rng)
    for run in builder.runs:
        for seed in range(8):
            test, selected = (run.metrics[f"{kind}/{METRIC}/seed_{seed}"] for kind in KINDS)
            noise = weight * (test - 60) + rng.normal(0, 0.7)
            run.metrics[f"selection/{METRIC}/seed_{seed}"] = selected - test + 60 + noise
    (best,) = [f for f in make_report(builder.make_study()).answer.findings if f.subject == BEST]
    match = re.search(
        r"does not account for choosing the best \(correlation .*: ([−\d.]+)\)\.", best.text
    )
    assert match and low < float(match[1].replace("−", "-")) < high
