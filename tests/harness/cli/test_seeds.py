"""What `--dry-run` says of the differences that a study's seeds will show."""

import statistics
from pathlib import Path

import pytest

from harness.cli.seeds import detectable_lines, seeds_for, smallest_shown
from reports.stats import compare_paired
from reports.tables import Family, Paired, Quantity, build_tables
from reports.tables.families import families
from tests.harness.fakes import make_study
from tests.reports.builder import StoreBuilder, prompt_len, scores


def family(*deviations: float, pairs: int = 10) -> Family:
    """Comparisons whose differences have given standard deviations."""
    shape = [(-1.0) ** seed for seed in range(pairs)]
    scale = statistics.stdev(shape)
    found = [
        Paired(f"n_ctx {place}", {seed: x * std / scale for seed, x in enumerate(shape)})
        for place, std in enumerate(deviations)
    ]
    return Family("generator.n_ctx", "H", tuple(found), 30.0)


def test_families_are_what_the_table_compares() -> None:
    """Levels and arms against the baseline: the same differences, in the same order."""
    study = prompt_len().study()
    (found,) = families(study)
    assert (found.name, found.metric, found.seconds) == ("generator.n_ctx", "H", 9 * 8.0)
    table = build_tables(study)[0]
    means = [row.cells["difference"].estimate.mean for row in table.rows if "p" in row.cells]
    assert [statistics.fmean(pair.differences.values()) for pair in found.comparisons] == (
        pytest.approx(means)
    )
    assert found.comparisons[0].label == "n_ctx 1"
    assert found.comparisons[-1].label == "real pictures (ceiling)"


def test_several_factors_have_several_families() -> None:
    """All settings, then each factor's main effects, as in the tables."""
    factors = [
        {"key": "shots", "levels": [2, 4], "log": False, "baseline": 2},
        {"key": "generator.n_ctx", "levels": [1, 4], "log": False, "baseline": 4},
    ]
    build = StoreBuilder(factors=factors)
    for shots in (2, 4):
        for n_ctx in (1, 4):
            results = {seed: {"harmonic_mean": 60.0 + shots * seed + n_ctx} for seed in range(3)}
            whole = {seed: {"base": 70.0, "new": 50.0, **found} for seed, found in results.items()}
            build.trial({"shots": shots, "generator.n_ctx": n_ctx}, whole)
    found = families(build.study())
    assert [(one.name, len(one.comparisons)) for one in found] == [
        ("settings", 3), ("shots", 1), ("generator.n_ctx", 1),
    ]  # fmt: skip
    (shots,) = found[1].comparisons
    assert shots.differences == {0: 0.0, 1: 2.0, 2: 4.0}


def test_smallest_shown_is_the_tables_mde() -> None:
    """At the pairs that there are it is the median of the MDE column."""
    study = prompt_len().study()
    (found,) = families(study)
    column = [row.cells.get("detectable") for row in build_tables(study)[0].rows]
    shown = statistics.median(cell.number for cell in column if isinstance(cell, Quantity))
    assert smallest_shown(found, 5) == pytest.approx(shown)


def test_the_seeds_that_are_needed_are_the_fewest() -> None:
    """With one seed fewer the effect is not shown; a quarter of it takes about 16 times as many."""
    found = family(1.0, 1.5, 2.0)
    needed = seeds_for(found, 1.0)
    assert needed is not None
    assert (smallest_shown(found, needed) or 0) <= 1.0 < (smallest_shown(found, needed - 1) or 0)
    assert seeds_for(found, 0.25) == pytest.approx(16 * needed, rel=0.15)
    assert seeds_for(found, 1e-6) is None


def test_what_a_dry_run_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The difference that the asked seeds show, and the seeds and time that smaller ones take."""
    prompt_len().write(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (line,) = detectable_lines(make_study(name="prompt_len", seeds=10, smallest_effect=0.5))
    (found,) = families(prompt_len().study())
    shown = smallest_shown(found, 10)
    assert shown is not None
    head = f"10 seeds show differences in H of {shown:.2g} points or more (with 80% power; "
    assert line.startswith(f"{head}median of 8 comparisons, from 5 finished pairs each); for ")
    needed = seeds_for(found, 0.5)
    assert needed is not None
    minutes = (needed - 10) * 9 * 8.0 / 60
    assert f"for 0.5 points about {needed} seeds (+{minutes:.1f} min of computing)" in line


@pytest.mark.parametrize("seeds", [2, 0])
def test_too_few_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int) -> None:
    """Without three pairs, or without a store, it says what it needs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if seeds:
        prompt_len(seeds=range(seeds)).write(f"sqlite:///{tmp_path}/mlflow.db")
    (line,) = detectable_lines(make_study(name="prompt_len", seeds=4))
    assert "which differences 4 seeds would show" in line and line.endswith("--set seeds=3")


def test_pairs_that_do_not_vary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pairs without a spread are no pilot that is too small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    build = StoreBuilder()
    for n_ctx in (1, 4):
        build.trial({"generator.n_ctx": n_ctx}, {seed: scores(50.0) for seed in range(3)})
    build.write(f"sqlite:///{tmp_path}/mlflow.db")
    (line,) = detectable_lines(make_study(name="prompt_len", seeds=4))
    assert line.endswith(
        "cannot be told: the finished pairs of a level and the baseline do not vary"
    )


def test_one_seed_shows_nothing() -> None:
    """A single pair has no deviation, so that no difference is shown."""
    assert smallest_shown(family(1.0), 1) is None
    assert compare_paired({0: 1.0}, {0: 0.0}).p is None  # type: ignore[union-attr]
