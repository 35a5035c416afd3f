"""The estimate of `--dry-run`: by runs that have ended, else by steps, at a pretended pace."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

import harness.resources
from harness.config.study_config import StudyConfig
from harness.planning.estimate import FEW, estimate_time
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import BETWEEN_TRIALS, START, Estimate, make_plan
from harness.store.ledger import Ledger, LedgerRun
from ship.trial_config import EpochMetrics, TrialConfig
from tests.harness.fakes import make_method, make_study
from tests.harness.planning.made import run_of, settings_of
from tests.told import told

LABELS = np.array([0, 0, 1, 1, 1])
GENERATOR, FINETUNER = 4, 6  # epochs of the studies below


@dataclass
class Paced:
    """A method whose epochs take so many seconds by a clock that nothing else moves.

    A generator epoch takes n_ctx hundredths of a second a seed, one of the fine-tuner 1, its look
    before the first one too, the test 5 for all seeds.

    Attributes:
        timed: n_ctx and seeds of each trial that was run, and its features.
    """

    now: float = 0.0
    timed: list[tuple[int, int, Any]] = field(default_factory=list)

    def run_trial(
        self, config: TrialConfig, seeds: Sequence[int], features: Any, *_: Any
    ) -> Iterator[EpochMetrics]:
        n_ctx = getattr(config.generator, "n_ctx", 0)
        self.timed.append((n_ctx, len(seeds), features))
        for epoch in range(1, 1 + getattr(config.generator, "epochs", 0)):
            self.now += 0.01 * n_ctx * len(seeds)
            yield EpochMetrics("selection_generator", epoch, 0.5, {})
        for epoch in range(getattr(config.finetuner, "epochs", 0) + 1):
            self.now += 0.01 * len(seeds)
            yield EpochMetrics("selection", epoch, 0.5, {})
        self.now += 0.05
        yield EpochMetrics("test", 1, 1.0, {})


def pictures(*_: Any) -> Any:
    """A dataset of two classes."""
    splits = {split: SimpleNamespace(labels=LABELS) for split in ("train", "val", "test")}
    return SimpleNamespace(
        fingerprint="p", split_version="", splits=splits, class_names=("cat", "dog"), n_seen=None
    )


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Paced:
    """Its clock is the processor's time."""
    method = Paced()
    monkeypatch.setattr(time, "process_time", lambda: method.now)
    return method


@pytest.fixture
def prints(tmp_path: Path, paced: Paced) -> Fingerprints:
    """Fingerprints of a study of that method."""

    method = replace(
        make_method(tmp_path / "log"),
        run_trial=paced.run_trial,
        load_backbone=Mock(return_value=SimpleNamespace(fingerprint="w", feature_dim=4)),
        load_dataset=pictures,
        timed=True,
    )
    return Fingerprints(method, None, tmp_path / "cache")


def study_of(**keys: Any) -> StudyConfig:
    """Three lengths of the prompt, two seeds, some epochs."""
    epochs = {"generator": {"epochs": GENERATOR}, "finetuner": {"epochs": FINETUNER}}
    return make_study(**{**epochs, "seeds": 2, **keys})


def a_seed(n_ctx: int) -> float:
    """Seconds of one seed, whose fine-tuner is trained twice, with what has no epochs."""
    return 0.01 * (GENERATOR * n_ctx + 2 * FINETUNER + 1) + 0.05 / FEW


def estimate_of(
    study: StudyConfig,
    prints: Fingerprints,
    runs: tuple[LedgerRun, ...] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Estimate | None:
    """The estimate of what is left of a study with some runs."""
    return estimate_time(study, make_plan(study, Ledger(runs), prints), runs, prints, say)


def finished(study: StudyConfig, prints: Fingerprints, seconds: float, **keys: Any) -> LedgerRun:
    """A run of the study's first setting, n_ctx 1, both seeds."""
    values = {"device": "cpu (x86_64)", **keys}
    return run_of(settings_of(study, prints)[0], (0, 1), seconds=seconds, **values)


def test_finished_runs_tell_the_time(prints: Fingerprints, paced: Paced) -> None:
    """A setting's own seconds a seed where it has any, else the mean of all; no step runs."""
    study = study_of(seeds=3)
    settings = settings_of(study, prints)
    runs = (
        finished(study, prints, 6.0),
        run_of(settings[1], (0,), seconds=9.0, device="cpu (x86_64)"),
        finished(study, prints, 0.1, arm="zero_shot", setting_key="arm"),
        finished(study, prints, 900.0, device="NVIDIA H100"),
    )
    found = estimate_of(study, prints, runs)
    assert found is not None and not paced.timed
    one, two, four = (setting.key for setting in settings)
    assert found.seconds == {one: 3.0, two: 18.0, four: pytest.approx(3 * 5.0)}
    assert found.source == "3 finished trials"


@pytest.mark.parametrize("keys", [{"device": "NVIDIA H100"}, {"arm": "zero_shot"}])
def test_runs_that_say_nothing_of_the_settings_leave_it_to_steps(
    prints: Fingerprints, paced: Paced, keys: dict[str, Any]
) -> None:
    """Those of another kind of device, and of reference arms alone, which take no time."""
    study = study_of()
    said: list[str] = []
    found = estimate_of(study, prints, (finished(study, prints, 6.0, **keys),), said.append)
    assert found is not None and paced.timed
    assert said == ["no finished trials yet: timing a few steps here, in 15 s of processor time"]


def test_a_reference_arm_that_was_a_level_elsewhere_says_nothing_of_levels(
    prints: Fingerprints, paced: Paced
) -> None:
    """It takes no time, in whichever study it has run."""
    study = study_of(reference_arms=True)
    arm = next(setting for setting in settings_of(study, prints) if setting.arm)
    ended = run_of(arm, (0, 1), seconds=0.1, device="cpu (x86_64)", arm="")
    assert estimate_of(study, prints, (ended,)) is not None and paced.timed


def test_steps_are_scaled_to_all_epochs_and_seeds(prints: Fingerprints, paced: Paced) -> None:
    """What belongs to no epoch is not; the features have the shape of what a trial reads."""
    study = study_of(seeds=4, shots=2, views=3, space={"generator.n_ctx": [2]})
    found = estimate_of(study, prints)
    assert found is not None
    assert list(found.seconds.values()) == [pytest.approx(4 * a_seed(2))]
    assert found.source == "a few steps of the baseline here, scaled by epochs: rough"
    features = paced.timed[-1][2]
    assert features.train.shape == (4, 1 + 3, 4) and list(features.train_labels) == [0, 0, 1, 1]
    assert features.test.shape == (5, 4)


def test_the_baseline_is_timed_and_epochs_are_counted(prints: Fingerprints, paced: Paced) -> None:
    """An arm without a generator, or without a fine-tuner's epochs, takes as much less."""
    space = {"generator.n_ctx": {"choices": [1, 4], "baseline": 4}, "generator.epochs": [4, 8]}
    study = study_of(space=space, reference_arms=True)
    found = estimate_of(study, prints)
    assert found is not None and {n_ctx for n_ctx, *_ in paced.timed} == {4}
    seconds = {s.label: found.seconds[s.key] / 2 for s in settings_of(study, prints)}
    expected = {
        "n_ctx=1, epochs=4": a_seed(4),
        "n_ctx=4, epochs=8": a_seed(4) + 0.01 * GENERATOR * 4,
        "no_synthetic": a_seed(0),
        "zero_shot": a_seed(0) - 0.01 * 2 * FINETUNER,
    }
    assert {label: seconds[label] for label in expected} == pytest.approx(expected)


def test_time_is_up_in_mid_epoch(prints: Fingerprints, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch that does not end is broken off, by the processor's own time."""
    monkeypatch.undo()
    monkeypatch.setattr("harness.planning.estimate.BUDGET", 0.2)

    def for_ever(*_: Any) -> Any:
        while True:
            pass

    monkeypatch.setattr(prints, "method", replace(prints.method, run_trial=for_ever))
    said: list[str] = []
    assert estimate_of(study_of(), prints, say=said.append) is None
    assert said[-1] == (
        "the time of trials cannot be told: one epoch takes more processor time than there is to "
        "find out"
    )


def test_what_a_sampler_will_propose_is_like_the_baseline(prints: Fingerprints) -> None:
    """For each of the study's seeds."""
    space = {"generator.n_ctx": {"choices": [1, 2, 4], "baseline": 2}}
    found = estimate_of(study_of(sampler="random", trials=3, space=space), prints)
    assert found is not None
    assert found.proposals == (pytest.approx(2 * a_seed(2)),) * 3


def test_nothing_is_told_where_nobody_knows(
    prints: Fingerprints, paced: Paced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign method, a finished study, no GPU to time steps on, a backbone that is not there."""
    study = study_of(space={"generator.n_ctx": [1]})
    foreign = replace(prints, method=replace(prints.method, timed=False))
    assert estimate_of(study, foreign) is None
    assert estimate_of(study, prints, (finished(study, prints, 6.0),)) is None
    said: list[str] = []
    monkeypatch.setattr("harness.planning.estimate.usable_gpus", lambda: 0)
    assert estimate_of(study_of(resources={"gpus": 1}), prints, say=said.append) is None
    missing = Mock(side_effect=ValueError("backbone 'x' could not be loaded: why\nand more"))
    lacking = replace(prints, method=replace(prints.method, load_backbone=missing))
    assert estimate_of(study, lacking, say=said.append) is None
    assert [line for line in said if line.startswith("the time")] == [
        "the time of trials cannot be told: no trial has finished, and no GPU is here",
        "the time of trials cannot be told: backbone 'x' could not be loaded: why",
    ]
    assert not paced.timed


SCHEDULES = told(__file__, "schedules.yaml")


@pytest.mark.parametrize("case", SCHEDULES["at_once"], ids=str)
def test_trials_at_once(
    prints: Fingerprints, monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]
) -> None:
    """By cores, GPUs, concurrency, and the trials that there are."""
    monkeypatch.setattr(harness.resources, "usable_cpus", lambda: 8)
    monkeypatch.setattr(harness.resources, "usable_gpus", lambda: 1)
    space = {"generator.n_ctx": {"low": 1, "high": case["trials"], "step": 1}}
    study = study_of(**{"concurrency": None, "space": space, **case["study"]})
    device = "NVIDIA H100" if study.resources.gpus else "cpu (x86_64)"
    known = finished(study, prints, 6.0, device=device, setting_key="of another study")
    found = estimate_of(study, prints, (known,))
    assert found and found.at_once == case["expected"]


@pytest.mark.parametrize("case", SCHEDULES["wall"], ids=str)
def test_wall_time_is_that_of_a_schedule(case: dict[str, Any]) -> None:
    """Each trial goes to the first idle worker; a worker with nothing to do helps nobody."""
    trials = {str(place): seconds for place, seconds in enumerate(case["trials"])}
    found = Estimate(trials, tuple(case.get("proposals", ())), case["at_once"], "")
    assert found.wall == pytest.approx(START + case["wall"] + case["between"] * BETWEEN_TRIALS)
