"""The line of a dry run about the smallest difference that the seeds can detect."""

import statistics

import pytest

from harness.cli.detectable_difference import count_needed_seeds, format_detectable, list_deviations
from reports.stats import compute_minimum_detectable
from reports.tables import Family, list_families
from tests.harness.fakes import make_study
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores


def make_packaged_family() -> Family:
    """Return the comparisons of the packaged study prompt_len."""
    (family,) = list_families(make_prompt_len().make_study(), "harmonic_mean")
    return family


def test_the_number_of_seeds_is_the_smallest_that_detects_the_effect() -> None:
    """A quarter of the effect needs about 16 times as many seeds."""
    needed = count_needed_seeds(1.5, 3, 1.0)
    assert needed is not None
    detectable, with_one_less = (
        compute_minimum_detectable(1.5, n, 3) or 0 for n in (needed, needed - 1)
    )
    assert detectable <= 1.0 < with_one_less
    assert count_needed_seeds(1.5, 3, 0.25) == pytest.approx(16 * needed, rel=0.15)
    assert count_needed_seeds(1.5, 3, 1e-6) is None


def test_a_control_that_is_a_configuration_is_not_computed_twice() -> None:
    """Its key is that of the level 2, and it adds no computing time."""
    builder = make_prompt_len()
    builder.runs = [run for run in builder.runs if run.tags["ship.control"] != "text_feature"]
    assert builder.planned is not None
    builder.planned = [entry for entry in builder.planned if entry["control"] != "text_feature"]
    (without_control,) = list_families(builder.make_study(), "harmonic_mean")
    builder.add_planned({}, control="text_feature", key='{"generator.n_ctx": 2}')
    (family,) = list_families(builder.make_study(), "harmonic_mean")
    assert len(family.groups) == len(without_control.groups) + 1
    assert family.seconds_per_extra_seed == pytest.approx(without_control.seconds_per_extra_seed)


def make_equal_levels() -> StoreBuilder:
    """Return a study of two levels with equal results, whose differences do not vary."""
    builder = StoreBuilder()
    for n_ctx in (1, 4):
        builder.add_run({"generator.n_ctx": n_ctx}, {seed: make_scores(50.0) for seed in range(3)})
    return builder


def test_a_pilot_is_not_advised_to_run_a_pilot() -> None:
    """A study of three seeds has as many seeds as the pilot that larger studies are advised."""
    (line,) = format_detectable(make_study(seeds=3), [])
    assert line.endswith("with differences that vary")


@pytest.mark.parametrize(
    ("builder", "head", "end"),
    [
        (make_prompt_len(), "generator.n_ctx: 10 seeds can detect differences in H of {shown:.2g} "
         "points or more (with 80% power; median of 8 comparisons); ",
         "detecting 0.5 points needs about {needed} seeds (+{minutes:.1f} min of computing)"),
        (make_prompt_len(seeds=range(2)), "the difference that 10 seeds can detect",
         "--set seeds=3"),
        (None, "the difference that 10 seeds can detect", "--set seeds=3"),
        (make_equal_levels(), "the difference that 10 seeds can detect", "--set seeds=3"),
    ],
)  # fmt: skip
def test_a_dry_run_reports_the_detectable_difference(
    builder: StoreBuilder | None, head: str, end: str
) -> None:
    """It adds the seeds that smaller differences need, or advises a pilot of three seeds."""
    study = make_study(name="prompt_len", seeds=10, smallest_effect=0.5)
    runs = [builder.make_study_run(), *builder.runs] if builder else []
    (line,) = format_detectable(study, runs)
    differences = make_packaged_family().differences_by_seed
    deviation = statistics.median(list_deviations(differences))
    shown = compute_minimum_detectable(deviation, 10, len(differences))
    needed = count_needed_seeds(deviation, len(differences), 0.5)
    assert shown is not None and needed is not None
    values = {"shown": shown, "needed": needed, "minutes": (needed - 10) * 9 * 8.0 / 60}
    assert line.startswith(head.format(**values)) and end.format(**values) in line
