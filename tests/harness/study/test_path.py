"""`--path` on a real store: what is asked for, when that ends, and what is left behind."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.planning.plan import StudyOutcome
from harness.planning.settings import SettingMaker
from harness.study.rounds import rounds_of, run_rounds
from reports.analysis import AblationPath, ablation_path
from reports.read import load_records
from ship.trial_config import TrialConfig
from tests.harness import fakes
from tests.harness.conftest import Bench, cut_short
from tests.harness.fakes import make_study

N_CTX, KL, SHOTS = "generator.n_ctx", "generator.kl_weight", "shots"
CORNERS = {
    N_CTX: {"choices": [8, 4], "baseline": 4},
    KL: {"choices": [0.01, 1.0], "baseline": 1.0},
    SHOTS: {"choices": [4, 2], "baseline": 2},
}
SINGLE = "n_ctx=4, kl_weight=0.01, shots=2"
NO_BASELINE = "the setting with every factor at its baseline has not finished"
WHERE = "path from the baseline to n_ctx=8, kl_weight=0.01, shots=4"


def corner(**keys: Any) -> StudyConfig:
    """Of a grid of eight settings the one that is furthest from the baseline."""
    return make_study(**{"space": CORNERS, "trials": 1, **keys})


def moved(config: TrialConfig) -> tuple[bool, bool, bool]:
    """Which of the factors are away from their baseline."""
    generator: Any = config.generator
    return generator.n_ctx == 8, generator.kl_weight == 0.01, config.shots == 4


def rising(config: TrialConfig, seed: float) -> float:
    """Each factor gains, the first one most."""
    return 60.0 + sum(gain * far for gain, far in zip((3, 2, 1), moved(config), strict=True)) + seed


def with_a_better_one(config: TrialConfig, seed: float) -> float:
    """Prompt length and KL weight alone are better than all three."""
    return rising(config, seed) + 2.0 * (moved(config) == (True, True, False))


def without_a_baseline(config: TrialConfig, seed: float) -> float:
    """The baseline's loss is not finite."""
    return rising(config, seed) if any(moved(config)) else math.nan


def without_a_single(config: TrialConfig, seed: float) -> float:
    """Nor is that of the KL weight alone."""
    return math.nan if moved(config) == (False, True, False) else rising(config, seed)


def by_length(config: TrialConfig, seed: float) -> float:
    """Longer prompts are better."""
    generator: Any = config.generator
    return 60.0 + generator.n_ctx + seed / 100


Filled = Callable[..., tuple[StudyOutcome, list[str]]]


@pytest.fixture
def filled(bench: Bench, by_value: None, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """Runs --path on a method of the test's; what came of it, and what it said."""

    def run(
        study: StudyConfig, truth: Callable[..., float] = rising, **keys: Any
    ) -> tuple[StudyOutcome, list[str]]:
        monkeypatch.setattr(fakes, "truth", truth)
        if "run" in keys:
            rounds = rounds_of(SettingMaker(study, bench.prints), bench.uri, path=True)
            return run_rounds(rounds, keys["run"], lambda line: None), []
        outcome, said = bench.told(study, path=True)
        return outcome, [line for line in said if line.removeprefix("no ").startswith("path")]

    return run


def path_of(bench: Bench) -> AblationPath:
    """The path of the report, which there must be."""
    return ablation_path(load_records("small", bench.uri), "harmonic_mean")


def runs_for_path(bench: Bench) -> list[bool]:
    """Of each finished trial, in order, whether its run says that it was for the path."""
    done = [run for run in bench.trials() if run.data.tags["ship.state"] == "COMPLETE"]
    return [run.data.tags.get("ship.added") == "path" for run in done]


@pytest.mark.slow
def test_a_path_is_filled_round_by_round(bench: Bench, filled: Filled) -> None:
    """First the baseline, then all one step from it, then all one step from the best of these.

    Stopped behind the first of these rounds it goes on there, and no trial runs twice. Another time
    nothing runs; without --path the study still has what the path added.
    """
    with pytest.raises(KeyboardInterrupt):
        filled(corner(), run=cut_short(bench, 2))
    assert sorted(runs_for_path(bench)) == [False, True]
    outcome, said = filled(corner())
    assert outcome.complete and (outcome.done, outcome.missing) == (7, 0)
    assert said == [
        f"{WHERE} lacks 3 settings: n_ctx=8, kl_weight=1, shots=2; n_ctx=4, kl_weight=0.01, "
        "shots=2; n_ctx=4, kl_weight=1, shots=4",
        f"{WHERE} lacks 2 settings: n_ctx=8, kl_weight=0.01, shots=2; n_ctx=8, kl_weight=1, "
        "shots=4",
        f"{WHERE}: nothing is missing, 3 steps",
    ]
    assert sorted(runs_for_path(bench)) == [False, *[True] * 6]
    bench.check_invariants()
    outcome, again = filled(corner())
    assert again == said[-1:] and not outcome.ran
    outcome = bench.run(corner())
    assert (outcome.done, outcome.ran, len(bench.lines())) == (7, False, 2 * 7)
    wanted = json.loads(bench.parent().data.tags["ship.wanted"])
    assert [entry.get("added") for entry in wanted] == [None, *["path"] * 6]
    path = path_of(bench)
    steps = [[*stop.changes] for stop in path.stops[1:]]
    assert steps == [[N_CTX], [KL], [SHOTS]] and not path.missing
    study = load_records("small", bench.uri)
    assert sum(setting.added for setting in study.settings) == 6
    assert "added" not in study.config and study.rows["seed"].n_unique() == 2


@pytest.mark.slow
def test_a_better_setting_on_the_way_is_the_new_end(bench: Bench, filled: Filled) -> None:
    """Selection decides, whoever had the setting run; the path to it is whole as well."""
    _, said = filled(corner(), with_a_better_one)
    assert said[-1] == (
        "path from the baseline to n_ctx=8, kl_weight=0.01, shots=2: nothing is missing, 2 steps"
    )
    assert len(path_of(bench).stops) == 3


@pytest.mark.slow
def test_a_sampled_study_gets_its_baseline(bench: Bench, filled: Filled) -> None:
    """A range's is the study's constant; trials of the sampler stay as many as were asked for."""
    space = {N_CTX: {"low": 1, "high": 8}, KL: {"low": 0.01, "high": 1.0, "log": True}}
    study = make_study(space=space, sampler="random", trials=3)
    _, said = filled(study, by_length)
    assert said[0] == "path: its first setting, the baseline, is missing: n_ctx=4, kl_weight=1"
    assert ": nothing is missing" in said[-1]
    assert runs_for_path(bench).count(False) == 3 and runs_for_path(bench).count(True) >= 1
    more = bench.run(study.model_copy(update={"trials": 4}))
    assert more.complete and runs_for_path(bench).count(False) == 4


@pytest.mark.parametrize(
    ("truth", "done", "last"),
    [
        (without_a_single, 6, f"{WHERE} lacks 1 setting: {SINGLE}"),
        (without_a_baseline, 7, f"no path: {NO_BASELINE}"),
    ],
)
@pytest.mark.slow
def test_what_failed_on_the_way_is_named(
    bench: Bench, filled: Filled, truth: Any, done: int, last: str
) -> None:
    """The path goes round it, the study is incomplete, and the next call says the same."""
    for _ in range(2):
        outcome, said = filled(corner(trials=1 if done == 6 else None), truth)
        assert (outcome.done, outcome.failed, outcome.complete) == (done, 1, False)
        assert outcome.final and said[-1] == last
    assert len(bench.lines()) == 2 * (done + 1)
    assert bench.run(corner()).complete  # the YAML asks for none of what the path added


def test_with_one_factor_nothing_is_missing(bench: Bench, filled: Filled) -> None:
    """One line says so."""
    outcome, said = filled(corner(space={N_CTX: [1, 4]}, trials=None))
    assert outcome.complete and not any(runs_for_path(bench))
    assert [line.partition(": ")[2] for line in said] == ["nothing is missing, 0 steps"]


def test_a_path_is_of_the_study_as_it_is_now(bench: Bench, filled: Filled) -> None:
    """From the baseline that its YAML has today, though nothing of the study is left to run."""
    levels = {N_CTX: [4, 8], KL: [0.01, 1.0], SHOTS: [4, 2]}

    def study(*start: float) -> StudyConfig:
        space = {
            key: {"choices": choices, "baseline": one}
            for (key, choices), one in zip(levels.items(), start, strict=True)
        }
        return corner(space=space, trials=5)

    bench.run(study(4, 1.0, 2))  # from which the path would lack n_ctx=8 alone
    outcome, said = filled(study(4, 0.01, 4))
    assert said == [f"{WHERE}: nothing is missing, 1 step"] and not outcome.ran


def test_a_path_waits_for_the_studys_own_settings(bench: Bench, filled: Filled) -> None:
    """One that may yet finish may be the best."""

    def behave(config: TrialConfig, epoch: int) -> None:
        raise RuntimeError("no")

    bench.behave = behave
    outcome, said = filled(corner())
    assert (outcome.failed, said) == (1, [])


@pytest.mark.slow
def test_over_datasets_what_is_missing_runs_on_each(bench: Bench, filled: Filled) -> None:
    """A method is a setting a dataset; with one of them alone there is no average."""
    space = {N_CTX: CORNERS[N_CTX], SHOTS: CORNERS[SHOTS], "dataset": ["emoji", "photos"]}
    outcome, said = filled(corner(space=space, trials=2))
    assert outcome.complete and outcome.done == 8
    assert said[0].endswith(
        "is missing: n_ctx=4, shots=2, dataset=emoji; n_ctx=4, shots=2, dataset=photos"
    )
    assert said[-1] == "path from the baseline to n_ctx=8, shots=4: nothing is missing, 2 steps"


@pytest.mark.slow
def test_a_dry_run_says_what_would_run(
    bench: Bench, filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the path before the study has run; the next round afterwards."""
    monkeypatch.setattr(fakes, "truth", rising)
    plan = bench.plan(corner(), path=True)
    assert len(plan.rows) == 1 and not any(note.startswith("path") for note in plan.notes)
    bench.run(corner())
    plan = bench.plan(corner(), path=True)
    assert any(note.startswith("path: its first setting, the baseline") for note in plan.notes)
    assert {row.label: row.state for row in plan.rows} == {
        "n_ctx=8, kl_weight=0.01, shots=4": "done",
        "n_ctx=4, kl_weight=1, shots=2 (for the path)": "to run",
    }
    filled(corner())
    before = len(bench.lines())
    plan = bench.plan(corner(), path=True)
    assert plan.finished and f"{WHERE}: nothing is missing, 3 steps" in plan.notes
    assert len(bench.lines()) == before
