"""The line of a dry run on the differences that the seeds can detect."""

import statistics

import pytest

from harness.cli.detectable_difference import count_needed_seeds, format_detectable, list_deviations
from reports.stats import compute_minimum_detectable
from reports.tables import Family, list_families
from tests.harness.fakes import make_study
from tests.reports.builder import StoreBuilder, prompt_len, scores


def packaged() -> Family:
    """The comparisons of the packaged study."""
    (family,) = list_families(prompt_len().study(), "harmonic_mean")
    return family


def test_the_number_of_seeds_is_the_smallest_that_detects_the_effect() -> None:
    """One seed fewer does not detect it; a quarter of the effect takes about 16 times as many."""
    needed = count_needed_seeds(1.5, 3, 1.0)
    assert needed is not None
    enough, fewer = (compute_minimum_detectable(1.5, n, 3) or 0 for n in (needed, needed - 1))
    assert enough <= 1.0 < fewer
    assert count_needed_seeds(1.5, 3, 0.25) == pytest.approx(16 * needed, rel=0.15)
    assert count_needed_seeds(1.5, 3, 1e-6) is None


def test_a_control_that_is_a_configuration_is_not_computed_twice() -> None:
    """Its key is that of the level 2, and it costs no time in addition."""
    build = prompt_len()
    build.runs = [run for run in build.runs if run.tags["ship.control"] != "text_feature"]
    assert build.wanted is not None
    build.wanted = [entry for entry in build.wanted if entry["control"] != "text_feature"]
    (without,) = list_families(build.study(), "harmonic_mean")
    build.want({}, control="text_feature", key='{"generator.n_ctx": 2}')
    (family,) = list_families(build.study(), "harmonic_mean")
    assert len(family.groups) == len(without.groups) + 1
    assert family.seconds_per_extra_seed == pytest.approx(without.seconds_per_extra_seed)


def equal() -> StoreBuilder:
    """Two levels whose pairs do not vary."""
    build = StoreBuilder()
    for n_ctx in (1, 4):
        build.trial({"generator.n_ctx": n_ctx}, {seed: scores(50.0) for seed in range(3)})
    return build


def test_no_pilot_is_advised_to_a_pilot() -> None:
    """The study has no more seeds than the advice."""
    (line,) = format_detectable(make_study(seeds=3), [])
    assert line.endswith("with differences that vary")


@pytest.mark.parametrize(
    ("build", "head", "end"),
    [
        (prompt_len(), "generator.n_ctx: 10 seeds can detect differences in H of {shown:.2g} "
         "points or more (with 80% power; median of 8 comparisons); ",
         "0.5 points need about {needed} seeds (+{minutes:.1f} min of computing)"),
        (prompt_len(seeds=range(2)), "the difference that 10 seeds can detect", "--set seeds=3"),
        (None, "the difference that 10 seeds can detect", "--set seeds=3"),
        (equal(), "the difference that 10 seeds can detect", "--set seeds=3"),
    ],
)  # fmt: skip
def test_a_dry_run_reports_the_detectable_difference(
    build: StoreBuilder | None, head: str, end: str
) -> None:
    """It gives the seeds for smaller differences, or the reason why they are unknown."""
    study = make_study(name="prompt_len", seeds=10, smallest_effect=0.5)
    (line,) = format_detectable(study, [build.parent(), *build.runs] if build else [])
    differences = packaged().differences_by_seed
    middle = statistics.median(list_deviations(differences))
    shown, needed = (
        compute_minimum_detectable(middle, 10, len(differences)),
        count_needed_seeds(middle, len(differences), 0.5),
    )
    assert shown is not None and needed is not None
    values = {"shown": shown, "needed": needed, "minutes": (needed - 10) * 9 * 8.0 / 60}
    assert line.startswith(head.format(**values)) and end.format(**values) in line
