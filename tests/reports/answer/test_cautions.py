"""Cautions below the findings of an answer are true."""

import pytest

from reports.answer import Answer
from reports.charts import make_study_charts
from reports.report import make_report
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.studies import crossed, leveled, over_datasets, quality

NOTHING = "The baseline has not finished: nothing is compared with it."


def answer(builder: StoreBuilder, metric: str | None = None) -> Answer:
    """The answer to a study."""
    return make_report(builder.study(), metric).answer


def test_a_baseline_that_lacks_a_metric_in_one_seed_is_still_compared() -> None:
    """Its other seeds are compared, and the answer does not deny that."""
    builder = prompt_len()
    (base,) = (r for r in builder.runs if r.tags["ship.assignment"] == '{"generator.n_ctx": 4}')
    del base.metrics["test/joint_harmonic_mean/seed_0"]
    result = answer(builder, "joint_harmonic_mean")
    assert "baseline n_ctx=4, joint H is inconclusive for 1 (" in result.findings[0].text
    assert NOTHING not in result.cautions


def test_a_baseline_without_the_metric_has_a_caution() -> None:
    """Without synthetic features, the baseline has no quality to compare with."""
    caution = "The baseline has no Fréchet: nothing is compared with it."
    builder = crossed(
        {"generator": ["none", "vae"]},
        lambda name, s: scores(50.0 + s) | ({} if name == "none" else quality(s)),
    )
    assert caution in answer(builder, "quality/frechet").cautions
    assert caution not in answer(builder).cautions


def test_a_baseline_configuration_that_failed_leaves_comparisons_of_levels() -> None:
    """The caution names the table without comparisons, not those of the factors."""
    builder = crossed(
        {"generator.n_ctx": [1, 2], "generator": ["none", "vae"]}, lambda n, name, s: 50.0 + n * s
    )
    del builder.runs[0]
    result = answer(builder)
    assert any("Compared with the baseline" in finding.text for finding in result.findings)
    assert NOTHING not in result.cautions
    partial = (
        "The baseline has not finished: nothing is compared with it in the table configurations."
    )
    assert partial in result.cautions


def test_only_rules_that_use_test_images_are_blamed() -> None:
    """The numbers that other rules selected are not too optimistic."""
    builder = leveled({4: 50.0, 8: 55.0})
    assert not any("Selection used" in line for line in answer(builder).cautions)
    builder.runs[1].tags["ship.selection"] = "test"
    caution = "Selection used test images (test): the numbers selected this way are too optimistic."
    assert caution in answer(builder).cautions


@pytest.mark.parametrize("finished_datasets", [(), ("pets", "food")])
@pytest.mark.parametrize("lost", [1, None])
def test_a_baseline_that_failed_on_some_datasets_is_compared_on_the_others(
    finished_datasets: tuple[str, ...], lost: int | None
) -> None:
    """If it finished on no dataset, nothing is compared."""
    names = ("emoji", "dtd", *finished_datasets)
    gone = {("none", name): "FAIL" for name in names[:lost]}
    result = answer(over_datasets(names, ("none", "vae"), skip=gone))
    compared = any("averaged over datasets" in finding.subject for finding in result.findings)
    assert compared == (NOTHING not in result.cautions) == (lost == 1)


def test_a_comparison_of_two_seeds_has_a_caution() -> None:
    """It has one although ten seeds of other levels finished."""
    builder = leveled({4: 50.0, 8: 55.0}, seeds=10)
    base = builder.runs[0]
    for key in [key for key in base.metrics if key[-1] in "23456789" and "/seed_" in key]:
        del base.metrics[key]
    caution = "A comparison has only 2 seeds: its interval is rough."
    assert caution in answer(builder).cautions
    assert caution not in answer(leveled({4: 50.0, 8: 55.0}, seeds=10)).cautions


def test_close_levels_have_different_names() -> None:
    """In sentences and figures, 0.9995 and 0.9999 are not rounded to 1 or to each other."""
    new = {0.999: 50.0, 0.9995: 55.0, 0.9999: 52.0, 0.99995: 53.0, 0.99999: 54.0}
    report = make_report(leveled(new).study())
    assert "n_ctx=0.999, H is higher for 0.9995 (" in report.answer.findings[0].text
    (chart, *_) = make_study_charts(report)
    assert "0.9995 61.9, 0.9999 60.0, 0.99995 60.6, 0.99999 61.3." in chart.caption
