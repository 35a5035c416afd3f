"""Cautions below the findings of an answer."""

import pytest

from reports.answer import Answer
from reports.charts import make_study_charts
from reports.report import make_report
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores
from tests.reports.studies import (
    make_grid_study,
    make_multi_dataset_study,
    make_one_factor_study,
    make_quality,
)

NO_BASELINE = "The baseline has not finished: nothing is compared with it."


def make_answer(builder: StoreBuilder, metric: str | None = None) -> Answer:
    """Return the answer of a study."""
    return make_report(builder.make_study(), metric).answer


def test_a_baseline_that_lacks_a_metric_in_one_seed_is_still_compared() -> None:
    """The other seeds are compared, and there is no caution that nothing is compared."""
    builder = make_prompt_len()
    (base,) = (
        run for run in builder.runs if run.tags["ship.assignment"] == '{"generator.n_ctx": 4}'
    )
    del base.metrics["test/joint_harmonic_mean/seed_0"]
    result = make_answer(builder, "joint_harmonic_mean")
    assert "baseline n_ctx=4, joint H is inconclusive for 1 (" in result.findings[0].text
    assert NO_BASELINE not in result.cautions


def test_a_baseline_without_the_metric_has_a_caution() -> None:
    """Without synthetic features, the baseline has no quality to compare with."""
    caution = "The baseline has no Fréchet: nothing is compared with it."
    builder = make_grid_study(
        {"generator": ["none", "vae"]},
        lambda name, s: make_scores(50.0 + s) | ({} if name == "none" else make_quality(s)),
    )
    assert caution in make_answer(builder, "quality/frechet").cautions
    assert caution not in make_answer(builder).cautions


def test_a_baseline_configuration_that_failed_leaves_comparisons_of_levels() -> None:
    """The caution names the table of configurations. Tables of factors have comparisons."""
    builder = make_grid_study(
        {"generator.n_ctx": [1, 2], "generator": ["none", "vae"]}, lambda n, name, s: 50.0 + n * s
    )
    del builder.runs[0]
    result = make_answer(builder)
    assert any("Compared with the baseline" in finding.text for finding in result.findings)
    assert NO_BASELINE not in result.cautions
    caution = (
        "The baseline has not finished: nothing is compared with it in the table configurations."
    )
    assert caution in result.cautions


def test_only_selection_rules_that_use_test_images_have_a_caution() -> None:
    """Numbers that other rules selected are not too optimistic."""
    builder = make_one_factor_study({4: 50.0, 8: 55.0})
    assert not any("Selection used" in line for line in make_answer(builder).cautions)
    builder.runs[1].tags["ship.selection"] = "test"
    caution = "Selection used test images (test): the numbers selected this way are too optimistic."
    assert caution in make_answer(builder).cautions


@pytest.mark.parametrize("further_datasets", [(), ("pets", "food")])
@pytest.mark.parametrize("n_failed", [1, None])
def test_a_baseline_that_failed_on_some_datasets_is_compared_on_the_others(
    further_datasets: tuple[str, ...], n_failed: int | None
) -> None:
    """If the baseline failed on all datasets, nothing is compared."""
    names = ("emoji", "dtd", *further_datasets)
    failed = {("none", name): "FAIL" for name in names[:n_failed]}
    result = make_answer(make_multi_dataset_study(names, ("none", "vae"), skip=failed))
    is_compared = any("averaged over datasets" in finding.subject for finding in result.findings)
    assert is_compared == (NO_BASELINE not in result.cautions) == (n_failed == 1)


def test_a_comparison_of_two_seeds_has_a_caution() -> None:
    """The baseline has 2 seeds, although the other level has 10."""
    builder = make_one_factor_study({4: 50.0, 8: 55.0}, seeds=10)
    base = builder.runs[0]
    for key in [key for key in base.metrics if key[-1] in "23456789" and "/seed_" in key]:
        del base.metrics[key]
    caution = "A comparison has only 2 seeds: its interval is rough."
    assert caution in make_answer(builder).cautions
    assert caution not in make_answer(make_one_factor_study({4: 50.0, 8: 55.0}, seeds=10)).cautions


def test_close_levels_have_different_names() -> None:
    """Levels such as 0.9995 and 0.9999 are not rounded to the same text."""
    new = {0.999: 50.0, 0.9995: 55.0, 0.9999: 52.0, 0.99995: 53.0, 0.99999: 54.0}
    report = make_report(make_one_factor_study(new).make_study())
    assert "n_ctx=0.999, H is higher for 0.9995 (" in report.answer.findings[0].text
    (chart, *_) = make_study_charts(report)
    assert "0.9995 61.9, 0.9999 60.0, 0.99995 60.6, 0.99999 61.3." in chart.caption
