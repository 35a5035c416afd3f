"""Time of what is left: each setting by its FLOPs, from finished runs or a calibration."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import harness.planning.calibration
import harness.resources
import harness.resources.machine
from harness.config.study_config import StudyConfig
from harness.planning.calibration import Calibration
from harness.planning.estimate import estimate_time, trials_at_once
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Estimate, make_plan
from harness.store.ledger import Ledger, LedgerRun
from ship.trial_config import TrialConfig
from tests.harness.fakes import make_method, make_study
from tests.harness.planning.made import run_of, settings_of


def by_n_ctx(config: TrialConfig, n_seeds: int) -> float:
    """FLOPs in proportion to the prompt's length; 1000 for a generator without one."""
    return 1000.0 * n_seeds * getattr(config.generator, "n_ctx", 1)


@pytest.fixture
def prints(tmp_path: Path) -> Fingerprints:
    """Fingerprints of the analytic method, whose FLOPs are known."""
    method = replace(make_method(tmp_path / "log"), costs=lambda *_: by_n_ctx)  # type: ignore[arg-type]
    return Fingerprints(method, None, tmp_path / "cache")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A calibration that takes notes and finds a second a thousand FLOPs."""
    seen: list[Any] = []

    def calibrate(*args: Any) -> Calibration:
        seen.append(args)
        return Calibration(1e-3, 31.0)

    monkeypatch.setattr(harness.planning.calibration, "calibrate", calibrate)
    return seen


def estimate_of(
    study: StudyConfig,
    prints: Fingerprints,
    runs: tuple[LedgerRun, ...] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Estimate | None:
    """The estimate of what is left of a study with some runs."""
    ledger = Ledger(runs)
    return estimate_time(study, make_plan(study, ledger, prints), ledger, prints, say)


def finished(study: StudyConfig, prints: Fingerprints, seconds: float, **keys: Any) -> LedgerRun:
    """A run of the study's first setting, n_ctx 1, both seeds: 2000 FLOPs."""
    values = {"device": "cpu (x86_64)", "backbone": "pocket", "flops": 2000.0, **keys}
    return run_of(settings_of(study, prints)[0], (0, 1), seconds=seconds, **values)


def test_finished_runs_give_the_pace(prints: Fingerprints, measured: list[Any]) -> None:
    """A setting with a longer prompt takes longer; seeds that are done take nothing."""
    study = make_study(seeds=2)
    found = estimate_of(study, prints, (finished(study, prints, 6.0),))
    one, two, four = (setting.key for setting in settings_of(study, prints))
    assert found is not None
    assert one not in found.seconds
    assert found.seconds == {two: pytest.approx(12.0), four: pytest.approx(24.0)}
    assert found.compute == pytest.approx(36.0)
    assert found.source == "1 finished trial"
    assert not measured


def test_the_pace_is_all_seconds_over_all_flops(prints: Fingerprints) -> None:
    """A long run counts for more than a short one."""
    study = make_study(seeds=2)
    runs = (
        finished(study, prints, 6.0),
        finished(study, prints, 30.0, flops=10_000.0, setting_key="of before"),
    )
    found = estimate_of(study, prints, runs)
    assert found is not None
    assert found.compute == pytest.approx(36.0 / 12_000 * 12_000)
    assert found.source == "2 finished trials"


@pytest.mark.parametrize(
    "keys",
    [{"device": "NVIDIA H100"}, {"backbone": "ViT-B-16:openai"}, {"flops": None}],
    ids=str,
)
def test_runs_elsewhere_say_nothing_of_here(
    prints: Fingerprints, measured: list[Any], keys: dict[str, Any]
) -> None:
    """Another device or backbone, or a run whose FLOPs nobody counted: this machine is measured."""
    study = make_study(seeds=2)
    said: list[str] = []
    found = estimate_of(study, prints, (finished(study, prints, 6.0, **keys),), said.append)
    assert found is not None
    assert found.source == "a calibration here of 31 s"
    assert found.compute == pytest.approx(12.0)
    (config, n_seeds, *_, device, threads), *_ = measured
    assert (config.generator.n_ctx, n_seeds, device, threads) == (4, 2, "cpu", 1)  # the dearest
    assert len(measured) == 1
    assert said == ["no finished trials yet: calibrating here, which takes less than a minute"]


def test_as_many_settings_are_calibrated_as_there_is_time_for(
    prints: Fingerprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dearest, then the least like it; the others go by the measured one nearest in FLOPs."""
    seen: list[int] = []

    def calibrate(config: Any, *_: Any) -> Calibration:
        seen.append(config.generator.n_ctx)
        return Calibration(1e-3 * config.generator.n_ctx, 14.0)

    monkeypatch.setattr(harness.planning.calibration, "calibrate", calibrate)
    study = make_study(space={"generator.n_ctx": [1, 2, 3, 8, 16]}, seeds=1)
    found = estimate_of(study, prints)
    assert found is not None
    assert seen == [16, 1, 3]
    # 2 goes by 3, 8 by 16
    assert list(found.seconds.values()) == pytest.approx([1, 2 * 3, 9, 8 * 16, 256])
    assert found.source == "a calibration here of 42 s"


def test_a_setting_with_runs_of_its_own_goes_by_them(prints: Fingerprints) -> None:
    """More seeds of a slow setting are slow, whatever the pace of the others."""
    study = make_study(seeds=3)
    one, two, four = settings_of(study, prints)
    keys: dict[str, Any] = {"device": "cpu (x86_64)", "backbone": "pocket"}
    runs = (
        run_of(one, (0, 1), seconds=20.0, flops=2000.0, **keys),
        run_of(two, (0, 1), seconds=4.0, flops=4000.0, **keys),
    )
    found = estimate_of(study, prints, runs)
    assert found is not None
    assert found.seconds == pytest.approx({one.key: 10.0, two.key: 2.0, four.key: 12 * 4.0})


def test_proposals_are_the_mean_of_the_space(prints: Fingerprints, measured: list[Any]) -> None:
    """Of all settings where they can be listed, else the baseline's."""
    study = make_study(sampler="random", trials=3, seeds=2)
    found = estimate_of(study, prints)
    assert found is not None
    assert found.proposals == pytest.approx((2 + 4 + 8) / 3 * 3)
    space = {"generator.kl_weight": {"low": 1e-3, "high": 1.0, "log": True, "baseline": 0.1}}
    study = make_study(space=space, sampler="tpe", trials=5, seeds=2, generator={"n_ctx": 3})
    found = estimate_of(study, prints)
    assert found is not None
    assert found.proposals == pytest.approx(5 * 2 * 3)


def test_nothing_is_estimated_where_nobody_knows(
    prints: Fingerprints, measured: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign method, a finished study, no GPU to calibrate on, a backbone that is not there."""
    study = make_study(space={"generator.n_ctx": [1]}, seeds=2)
    foreign = replace(prints, method=replace(prints.method, costs=None))
    assert estimate_of(study, foreign) is None
    assert estimate_of(study, prints, (finished(study, prints, 6.0),)) is None
    said: list[str] = []
    monkeypatch.setattr(harness.resources, "usable_gpus", lambda: 0)
    assert estimate_of(make_study(resources={"gpus": 1}), prints, say=said.append) is None

    def missing(*_: Any) -> None:
        raise ValueError("backbone 'x' could not be loaded: why\nand more")

    monkeypatch.setattr(harness.planning.calibration, "calibrate", missing)
    assert estimate_of(study, prints, say=said.append) is None
    assert [line for line in said if line.startswith("time cannot")] == [
        "time cannot be estimated by FLOPs: no finished trials, and no GPU here to calibrate on",
        "time cannot be estimated by FLOPs: backbone 'x' could not be loaded: why",
    ]
    assert not measured


def test_trials_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By cores, GPUs, concurrency, and the trials that there are."""
    monkeypatch.setattr(harness.resources.machine, "usable_cpus", lambda: 8)
    monkeypatch.setattr(harness.resources.machine, "usable_gpus", lambda: 1)

    def at_once(trials: int = 20, **keys: Any) -> int:
        return trials_at_once(make_study(**{"concurrency": None, **keys}), trials)

    assert at_once() == 8
    assert at_once(3) == 3
    assert at_once(concurrency=5) == 5
    assert at_once(resources={"cpus": 3}) == 2
    assert at_once(resources={"gpus": 0.25}) == 4
    assert at_once(resources={"cpus": 16}) == 1


def test_wall_time_is_no_less_than_the_longest_trial() -> None:
    """Cores that have nothing to do help nobody."""
    assert Estimate({"a": 30.0, "b": 50.0}, 0.0, 2, "").wall == 50.0
    assert Estimate({"a": 30.0, "b": 50.0}, 40.0, 2, "").wall == 60.0
    assert Estimate({}, 40.0, 2, "").wall == 20.0
