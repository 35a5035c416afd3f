"""`--detect` on a real store: who gets seeds, when that ends, and what is left behind."""

import json
import os
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.study_config import StudyConfig
from harness.errors import ConfigError
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import StudyOutcome
from harness.planning.settings import SettingMaker
from harness.study.rounds import next_seeds, rounds_of, run_rounds
from harness.study.standing import detectable_lines, deviations, seeds_for
from harness.tuning.monitor import Monitor
from reports.cells import Quantity
from reports.read import load_records
from reports.stats import minimum_detectable
from reports.tables import Family, build_tables, families, load_values
from ship.trial_config import TrialConfig
from tests.harness import fakes
from tests.harness.conftest import Bench, cut_short
from tests.harness.fakes import make_study
from tests.harness.planning.made import settings_of
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.told import told

EFFECTS = {1: -6.0, 2: 0.1, 4: 0.0, 8: 0.9}


def noisy(config: TrialConfig, seed: float) -> float:
    """One level far from the baseline, one near it, one between."""
    n_ctx = getattr(config.generator, "n_ctx", 0)
    noise = np.random.default_rng([n_ctx, int(2 * seed)]).normal(0, 0.5)
    return 60.0 + EFFECTS[n_ctx] + float(noise)


Staged = Callable[..., tuple[StudyOutcome, list[str]]]


@pytest.fixture
def staged(bench: Bench, by_value: None, monkeypatch: pytest.MonkeyPatch) -> Staged:
    """Runs `--detect 1 --max-seeds 12` on the noisy method; what came of it, and what it said."""
    monkeypatch.setattr(fakes, "truth", noisy)

    def run(study: StudyConfig, run: Any = None) -> tuple[StudyOutcome, list[str]]:
        asked: dict[str, Any] = {"detect": 1.0, "max_seeds": 12}
        if run is not None:
            rounds = rounds_of(SettingMaker(study, bench.prints), bench.uri, **asked)
            return run_rounds(rounds, run, lambda line: None), []
        outcome, said = bench.told(study, **asked)
        return outcome, [line for line in said if " against " in line]

    return run


def seeds_run(bench: Bench) -> dict[int, int]:
    """n_ctx -> how many seeds of it have finished."""
    found: dict[int, int] = {}
    for run in bench.trials():
        n_ctx = json.loads(run.data.tags["ship.assignment"])["generator.n_ctx"]
        found[n_ctx] = found.get(n_ctx, 0) + len(json.loads(run.data.tags["ship.seeds"]))
    return found


def four_levels() -> StudyConfig:
    """Four levels and a pilot of four seeds."""
    return make_study(space={"generator.n_ctx": [1, 2, 4, 8]}, seeds=4)


def test_no_round_follows_one_that_was_interrupted_as_it_ended(
    bench: Bench, staged: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials have all finished: the signal is only noted, and the outcome says it."""
    original = Monitor.close

    def close(monitor: Monitor) -> None:
        monkeypatch.setattr(Monitor, "close", original)  # once
        os.kill(os.getpid(), signal.SIGINT)
        original(monitor)

    monkeypatch.setattr(Monitor, "close", close)
    outcome, _ = staged(four_levels())
    assert outcome.interrupted
    assert set(seeds_run(bench).values()) == {4}


@pytest.mark.slow
def test_undecided_comparisons_get_seeds(bench: Bench, staged: Staged) -> None:
    """The far level stops with the pilot, the baseline has the seeds that any has; all is whole.

    Cut short before its second stage it ends the same; behind that nothing runs.
    """
    with pytest.raises(KeyboardInterrupt):
        staged(four_levels(), run=cut_short(bench, 1))
    planned = bench.plan(four_levels(), detect=1.0, max_seeds=12)
    assert {len(row.seeds) for row in planned.rows} == {0, 2} and " against " in planned.notes[0]
    assert set(seeds_run(bench).values()) == {4}
    outcome, said = staged(four_levels())
    assert outcome.complete and (outcome.done, outcome.missing) == (4, 0)
    run, lines = seeds_run(bench), len(bench.lines())
    assert run[1] == 4 < run[2] and run[4] == max(run.values())
    assert lines == sum(run.values())
    assert said[-3].startswith("n_ctx=1 against n_ctx=4: -")
    assert said[-3].endswith(", differs after 4 seeds")
    assert said[-2].startswith("n_ctx=2 against n_ctx=4: ") and "equivalent after" in said[-2]
    bench.check_invariants()
    check_tags(bench, run)
    check_report(bench, said[-3:])
    outcome, again = staged(four_levels())
    assert outcome.complete and not outcome.ran and again == said[-3:]
    check_without(bench)
    assert len(bench.lines()) == lines


def check_tags(bench: Bench, run: dict[int, int]) -> None:
    """The study's run holds the design, and the seeds of a setting that stopped early."""
    tags = bench.parent().data.tags
    wanted = json.loads(tags["ship.wanted"])
    own = {one["assignment"]["generator.n_ctx"]: one.get("seeds") for one in wanted}
    assert own[1] == [0, 1, 2, 3] and own[4] is None
    config = json.loads(tags["ship.study"])
    assert len(config["seeds"]) == run[4] and "own_seeds" not in config
    assert config["detect"] == {
        "metric": "harmonic_mean", "effect": 1.0, "looks": [4, 6, 8, 10, 12], "comparisons": 3,
    }  # fmt: skip


def check_report(bench: Bench, said: list[str]) -> None:
    """No row is missing, and each difference has the interval that was said while it ran."""
    study = load_records("small", bench.uri)
    assert "MISSING" not in study.rows["state"].to_list()
    assert study.left_out == 0
    (table,) = [found for found in build_tables(study) if found.name == "generator.n_ctx"]
    text = "\n".join(table.notes)
    assert "ship-sweep --detect 1: seeds were added, from 4 to at most 12" in text
    assert "5% for all 3 comparisons together" in text and "incomplete" not in text
    found = [row.compared for row in table.rows if row.compared and row.compared.decision]
    for compared, line in zip(found, said, strict=True):
        estimate = compared.difference
        assert f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]" in line
        assert f"{compared.decision} after" in line


def check_without(bench: Bench) -> None:
    """A plain run has the seeds of the YAML, and its report says nothing of a design."""
    outcome = bench.run(four_levels())
    assert outcome.complete and not outcome.ran
    study = load_records("small", bench.uri)
    assert study.detection is None and study.rows.height == 16
    assert all(len(found) == 4 for found in load_values("small", bench.uri).values())


@pytest.mark.slow
def test_a_level_that_is_added_catches_up(bench: Bench, staged: Staged) -> None:
    """Its pilot runs first, and what was decided stays so, or gets more seeds."""
    staged(make_study(space={"generator.n_ctx": [2, 4]}, seeds=4))
    before = seeds_run(bench)
    outcome, said = staged(four_levels())
    after = seeds_run(bench)
    assert outcome.complete
    assert after[1] >= 4 and all(after[n_ctx] >= many for n_ctx, many in before.items())
    assert [line.split()[0] for line in said[-3:]] == ["n_ctx=1", "n_ctx=2", "n_ctx=8"]


def test_a_setting_that_fails_ends_the_stages(bench: Bench, staged: Staged) -> None:
    """An incomplete stage is the last one: without a number there is nothing to decide."""

    def behave(config: TrialConfig, epoch: int) -> None:
        if getattr(config.generator, "n_ctx", 0) == 2:
            raise RuntimeError("no")

    bench.behave = behave
    outcome, _ = staged(four_levels())
    assert (outcome.failed, outcome.complete) == (1, False)
    assert set(seeds_run(bench).values()) == {4}


def test_lagging_comparisons_go_first(bench: Bench) -> None:
    """One without its pilot holds back the others' next seeds, and takes none of theirs.

    Behind the pilot's seeds come the smallest numbers that it has not.
    """
    study = make_study(space={"generator.n_ctx": [2, 4, 8]}, seeds=[5, 0, 2, 7])
    two, four, eight = (setting.key for setting in settings_of(study, bench.prints))
    rng = np.random.default_rng(1)
    seeds = (5, 0, 2, 7, 1, 3)
    values = {key: dict(zip(seeds, rng.normal(60, 2, 6), strict=True)) for key in (two, four)}
    wanted, lines = next_seeds(SettingMaker(study, bench.prints), 1.0, 12, values)
    assert wanted.seeds == seeds and wanted.own_seeds == {eight: seeds[:4]}
    assert [line.split()[0] for line in lines] == ["n_ctx=2"]


def test_an_arm_that_is_the_baseline_is_no_comparison(bench: Bench) -> None:
    """The fine-tuner alone is the level none, and gets as many seeds as any other."""
    space = {"generator": {"choices": ["none", "vae"], "baseline": "none"}}
    study = make_study(space=space, seeds=4, reference_arms=True)
    found = bench.plan(study)
    (alone,) = found.equal_arms
    rng, seeds = np.random.default_rng(1), range(4)
    keys = {setting.key for setting in found.settings}
    values = {key: dict(zip(seeds, rng.normal(60, 2, 4), strict=True)) for key in keys}
    wanted, lines = next_seeds(SettingMaker(study, bench.prints), 1.0, 12, values)
    assert alone.key in keys and len(lines) == len(keys) - 1 == wanted.detect.comparisons
    assert wanted.seeds == tuple(range(6)) and alone.key not in wanted.own_seeds


REFUSED = told(__file__, "refused.yaml")


@pytest.mark.parametrize("option", REFUSED)
def test_one_line_for_each_mistake(prints: Fingerprints, option: str) -> None:
    """Of the study, and of the option's own numbers."""
    for case in REFUSED[option]:
        study = make_study(**case["keys"])
        with pytest.raises(ConfigError) as caught:
            next(
                rounds_of(
                    SettingMaker(study, prints),
                    "",
                    detect=case.get("effect"),
                    max_seeds=case.get("most"),
                    path=option == "path",
                )
            )
        for line, start in zip(caught.value.faults, case["lines"], strict=True):
            assert line.startswith(start)


def packaged() -> Family:
    """The comparisons of the packaged study."""
    (found,) = families(prompt_len().study(), "harmonic_mean")
    return found


def test_families_and_what_they_show_are_the_tables() -> None:
    """Levels and arms against the baseline; at the pairs that there are, its median MDE."""
    study, found = prompt_len().study(), packaged()
    assert (found.name, found.head, found.seconds) == ("generator.n_ctx", "H", 9 * 8.0)
    rows = build_tables(study)[0].rows
    means = [row.cells["difference"].estimate.mean for row in rows if "p" in row.cells]
    assert [statistics.fmean(pair.values()) for pair in found.differences] == pytest.approx(means)
    column = [row.cells.get("detectable") for row in rows]
    shown = statistics.median(cell.number for cell in column if isinstance(cell, Quantity))
    middle = statistics.median(deviations(found.differences))
    assert minimum_detectable(middle, 5, len(found.differences)) == pytest.approx(shown)


def test_the_seeds_that_are_needed_are_the_fewest() -> None:
    """With one seed fewer the effect is not shown; a quarter of it takes about 16 times as many."""
    needed = seeds_for(1.5, 3, 1.0)
    assert needed is not None
    enough, fewer = (minimum_detectable(1.5, n, 3) or 0 for n in (needed, needed - 1))
    assert enough <= 1.0 < fewer
    assert seeds_for(1.5, 3, 0.25) == pytest.approx(16 * needed, rel=0.15)
    assert seeds_for(1.5, 3, 1e-6) is None


def equal() -> StoreBuilder:
    """Two levels whose pairs do not vary."""
    build = StoreBuilder()
    for n_ctx in (1, 4):
        build.trial({"generator.n_ctx": n_ctx}, {seed: scores(50.0) for seed in range(3)})
    return build


@pytest.mark.parametrize(
    ("build", "head", "end"),
    [
        (prompt_len(), "generator.n_ctx: 10 seeds show differences in H of {shown:.2g} points or "
         "more (with 80% power; median of 8 comparisons); for ",
         "for 0.5 points about {needed} seeds (+{minutes:.1f} min of computing)"),
        (prompt_len(seeds=range(2)), "which differences 10 seeds would show", "--set seeds=3"),
        (None, "which differences 10 seeds would show", "--set seeds=3"),
        (equal(), "which differences 10 seeds would show", "--set seeds=3"),
    ],
)  # fmt: skip
def test_what_a_dry_run_says(
    tmp_path: Path, build: StoreBuilder | None, head: str, end: str
) -> None:
    """What the asked seeds show, and what smaller differences take; or what it lacks to tell."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    if build is not None:
        build.write(uri)
    asked = make_study(name="prompt_len", seeds=10, smallest_effect=0.5)
    (line,) = detectable_lines(asked, uri)
    found = packaged().differences
    middle = statistics.median(deviations(found))
    shown, needed = minimum_detectable(middle, 10, len(found)), seeds_for(middle, len(found), 0.5)
    assert shown is not None and needed is not None
    told = {"shown": shown, "needed": needed, "minutes": (needed - 10) * 9 * 8.0 / 60}
    assert line.startswith(head.format(**told)) and end.format(**told) in line
