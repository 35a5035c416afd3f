"""Time of what is left: each setting by its FLOPs, from finished runs or a calibration."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import harness.planning.side_by_side
import harness.resources
import harness.resources.machine
from harness.config.study_config import StudyConfig
from harness.planning.calibration import Calibration
from harness.planning.estimate import START, USUAL_START, estimate_time, trials_at_once
from harness.planning.fingerprints import Fingerprints
from harness.planning.flops import flops_of
from harness.planning.plan import BETWEEN_TRIALS, Estimate, make_plan
from harness.resources import CountedCosts
from harness.store.ledger import Ledger, LedgerRun
from ship.trial_config import TrialConfig
from tests.harness.fakes import make_method, make_study
from tests.harness.planning.made import run_of, settings_of


def by_n_ctx(config: TrialConfig, n_seeds: int) -> float:
    """FLOPs in proportion to the prompt's length; 1000 for a generator without one."""
    return 1000.0 * n_seeds * n_ctx_of(config)


def n_ctx_of(config: TrialConfig) -> int:
    """Length of a setting's prompt."""
    return int(getattr(config.generator, "n_ctx", 1))


@pytest.fixture
def prints(tmp_path: Path) -> Fingerprints:
    """Fingerprints of the analytic method, whose FLOPs are known."""
    method = replace(make_method(tmp_path / "log"), costs=lambda *_: by_n_ctx)  # type: ignore[arg-type]
    return Fingerprints(method, None, tmp_path / "cache")


@dataclass
class FakeWorkers:
    """Stand in for the workers that calibrate; notes what they are asked."""

    find: Callable[[TrialConfig], Calibration]
    n: int = 0
    seen: list[tuple[TrialConfig, int]] = field(default_factory=list)
    started: float = 4.0

    @contextmanager
    def __call__(self, study: StudyConfig, n: int, *_: Any) -> Iterator[Any]:
        self.n = n

        def calibrate(config: TrialConfig, n_seeds: int) -> Calibration:
            self.seen.append((config, n_seeds))
            return self.find(config)

        calibrate.started = self.started  # type: ignore[attr-defined]
        yield calibrate


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> FakeWorkers:
    """A calibration that takes notes and finds a second a thousand FLOPs."""
    workers = FakeWorkers(lambda config: Calibration(1e-3, 31.0))
    monkeypatch.setattr(harness.planning.side_by_side, "side_by_side", workers)
    return workers


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


def test_finished_runs_give_the_pace(prints: Fingerprints, measured: FakeWorkers) -> None:
    """A setting with a longer prompt takes longer; seeds that are done take nothing."""
    study = make_study(seeds=2)
    found = estimate_of(study, prints, (finished(study, prints, 6.0),))
    one, two, four = (setting.key for setting in settings_of(study, prints))
    assert found is not None
    assert one not in found.seconds
    assert found.seconds == {two: pytest.approx(12.0), four: pytest.approx(24.0)}
    assert found.compute == pytest.approx(36.0)
    assert found.source == "1 finished trial"
    assert found.start == USUAL_START
    assert not measured.seen


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
    prints: Fingerprints, measured: FakeWorkers, keys: dict[str, Any]
) -> None:
    """Another device or backbone, or a run whose FLOPs nobody counted: this machine is measured."""
    study = make_study(seeds=2)
    said: list[str] = []
    found = estimate_of(study, prints, (finished(study, prints, 6.0, **keys),), said.append)
    assert found is not None
    assert found.source == "a calibration here of 31 s"
    assert found.compute == pytest.approx(12.0)
    ((config, n_seeds),) = measured.seen
    assert (n_ctx_of(config), n_seeds) == (4, 2)  # the dearest
    assert found.start == START * measured.started
    assert said == ["no finished trials yet: calibrating here, which takes about a minute"]


def test_as_many_workers_calibrate_as_run_trials(
    prints: Fingerprints, measured: FakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By cores and by trials: alone on the machine, a worker would be too fast."""
    monkeypatch.setattr(harness.resources.machine, "usable_cpus", lambda: 2)
    for space, most in (([1, 2, 4], 2), ([1], 1)):
        study = make_study(space={"generator.n_ctx": space}, concurrency=None)
        estimate_of(study, prints)
        assert measured.n == most


def test_as_many_settings_are_calibrated_as_there_is_time_for(
    prints: Fingerprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dearest, then the least like it; the others go by the measured one nearest in FLOPs."""
    workers = FakeWorkers(lambda config: Calibration(1e-3 * n_ctx_of(config), 14.0))
    monkeypatch.setattr(harness.planning.side_by_side, "side_by_side", workers)
    study = make_study(space={"generator.n_ctx": [1, 2, 3, 8, 16]}, seeds=1)
    found = estimate_of(study, prints)
    assert found is not None
    assert [n_ctx_of(config) for config, _ in workers.seen] == [16, 1, 3]
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


def test_proposals_are_the_mean_of_the_space(prints: Fingerprints, measured: FakeWorkers) -> None:
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
    prints: Fingerprints, measured: FakeWorkers, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(harness.planning.side_by_side, "side_by_side", missing)
    assert estimate_of(study, prints, say=said.append) is None
    assert [line for line in said if line.startswith("time cannot")] == [
        "time cannot be estimated by FLOPs: no finished trials, and no GPU here to calibrate on",
        "time cannot be estimated by FLOPs: backbone 'x' could not be loaded: why",
    ]
    assert not measured.seen


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


def test_wall_time_is_that_of_a_schedule() -> None:
    """Each trial goes to the first idle worker; a worker with nothing to do helps nobody."""
    between = BETWEEN_TRIALS

    def wall(at_once: int, *seconds: float, **keys: Any) -> float:
        named = {str(place): value for place, value in enumerate(seconds)}
        return Estimate(named, keys.pop("proposals", 0.0), at_once, "", **keys).wall

    assert wall(2, 30.0, 50.0) == pytest.approx(50.0 + between)
    assert wall(2, 30.0, 30.0, 30.0) == pytest.approx(60.0 + 2 * between)
    assert wall(2, 50.0, 10.0, 10.0, 10.0) == pytest.approx(50.0 + between)
    assert wall(2, proposals=40.0, n_proposals=4) == pytest.approx(20.0 + 2 * between)
    assert wall(1, 30.0, proposals=40.0, n_proposals=2) == pytest.approx(70.0 + 3 * between)
    assert wall(2, 30.0, features=7.0, start=5.0) == pytest.approx(42.0 + between)
    assert wall(2, 30.0, features=None, start=5.0) == pytest.approx(35.0 + between)


def test_an_estimate_says_what_its_wall_time_is_made_of() -> None:
    """Trials at once, the features that are missing, and what a study takes beside both."""
    estimate = Estimate({"a": 30.0}, 0.0, 2, "", features=70.0, start=12.0)
    assert estimate.parts == "2 trials at once, features 1.2 min, start and end 12 s"
    assert replace(estimate, at_once=1, features=0.0).parts.startswith(
        "one trial at a time, features cached"
    )
    assert "time of features not known" in replace(estimate, features=None).parts


def test_of_very_many_settings_some_are_counted() -> None:
    """The others have the count of the most alike; what shares a count needs none of its own."""
    asked: list[tuple[int, float]] = []

    class Costs(CountedCosts):
        def __call__(self, config: TrialConfig, n_seeds: int) -> float:
            asked.append((config.generator.latent_dim, config.generator.lr))
            return 10.0 * config.generator.latent_dim * n_seeds

    def trial(latent: int, lr: float) -> tuple[TrialConfig, int]:
        generator = {"name": "vae", "latent_dim": latent, "lr": lr}
        return TrialConfig.model_validate({"generator": generator}), 2

    few = [trial(latent, lr) for latent in (4, 8, 16) for lr in (0.1, 0.2)]
    assert flops_of(few, Costs(None)) == [80.0, 80.0, 160.0, 160.0, 320.0, 320.0]
    asked.clear()
    many = [trial(latent, 0.1) for latent in range(1, 101)]
    found = flops_of(many, Costs(None))
    assert len({latent for latent, _ in asked}) == 20
    assert found[:4] == [20.0, 20.0, 120.0, 120.0]  # 1 and 6 are counted
