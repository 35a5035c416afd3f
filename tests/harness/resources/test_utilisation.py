"""FLOPs and utilisation, as a worker reports them."""

from typing import Any

import pytest

from harness.recording.final_numbers import final_metrics
from harness.resources.utilisation import Utilisation, matmul_ceiling
from harness.worker.results import FINAL
from harness.worker.spec import feature_key, trial_spec
from harness.worker.worker import Worker
from reports.contract import Cost
from ship.cost import count_trial
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.harness.fakes import FakeClip
from tests.ship.cost import counting

CONFIG = TrialConfig(
    max_classes=10,
    shots=2,
    eval_every=1,
    generator={**counting.VAE, "epochs": 2},  # type: ignore[arg-type]
    finetuner=counting.FINETUNERS["coop"][0],  # type: ignore[arg-type]
)


def run_worker(config: TrialConfig) -> dict[str, Any]:
    """The FINAL result of a real trial on random features."""
    bench = counting.pocket()

    worker = Worker(
        {feature_key(config): bench.features},
        lambda c, seeds, f, clip, targets, _: run_trial(c, seeds, f, clip, targets),
        lambda *_: bench.clip,
    )
    worker.begin(trial_spec(config, (0, 1), False))
    while True:
        result = worker.step()
        if result.get("done"):
            return dict(result[FINAL][0])


def test_a_finished_run_says_what_it_computed() -> None:
    """FLOPs are those of the epochs that ran; with the seconds and the ceiling they give MFU."""
    final = run_worker(CONFIG)
    bench = counting.pocket()
    ran = {
        "selection_generator": 2,
        "selection": 3,
        "final_generator": 2,
        "final": int(max(final["selection_epoch"])),
    }
    expected = count_trial(CONFIG, bench.features, {}, bench.blank, 2).flops(CONFIG, 2, ran)
    assert final[Cost.FLOPS] == pytest.approx(expected)
    share = final[Cost.FLOPS] / final[Cost.SECONDS] / final[Cost.MATMUL]
    assert final[Cost.MFU] == pytest.approx(100 * share)
    assert 0 < final[Cost.MFU] < 150
    logged = final_metrics(final, (0, 1), "base_to_new")
    assert logged[Cost.FLOPS] == final[Cost.FLOPS]
    assert {Cost.MFU, Cost.MATMUL} < logged.keys()


def test_a_method_that_is_not_ships_has_no_cost() -> None:
    """Nothing is measured or reported for it."""
    utilisation = Utilisation("cpu")
    utilisation.begin(FakeClip("pocket"), "fp32")
    utilisation.saw("selection")
    assert utilisation.metrics(CONFIG, (0,), FakeClip("pocket"), None, [], 1.0) == {}


def test_a_cost_that_cannot_be_counted_leaves_the_trial_its_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The ceiling is there, FLOPs are not, and the log says why."""
    bench, utilisation = counting.pocket(), Utilisation("cpu")
    utilisation.begin(bench.clip, "fp32")
    found = utilisation.metrics(CONFIG, (0,), bench.clip, None, [], 1.0)
    assert found.keys() == {Cost.MATMUL}
    assert "could not be counted" in caplog.text


def test_the_best_measurement_of_a_worker_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One taken in a bad moment is outdone by a later one; an impossible share asks for another."""
    values = iter([5.0, 2.0, 7.0, 1e30])
    monkeypatch.setattr("harness.resources.utilisation.matmul_ceiling", lambda *_: next(values))
    monkeypatch.setattr("harness.resources.utilisation.REST", 0)
    bench, utilisation = counting.pocket(), Utilisation("cpu")
    for _ in range(3):
        utilisation.begin(bench.clip, "fp32")
    slow = utilisation.metrics(CONFIG, (0,), bench.clip, bench.features, [], 1e15)
    assert slow[Cost.MATMUL] == 7.0
    fast = utilisation.metrics(CONFIG, (0,), bench.clip, bench.features, [], 1.0)
    assert fast[Cost.MATMUL] == 1e30
    assert fast[Cost.MFU] < 1


def test_short_trials_are_not_each_preceded_by_a_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that took a tenth of a second is good for ten, and then repeated."""
    now, measured = [0.0], [5.0, 7.0]

    def measure(*_: Any) -> float:
        now[0] += 0.1
        return measured.pop(0)

    monkeypatch.setattr("harness.resources.utilisation.matmul_ceiling", measure)
    monkeypatch.setattr("harness.resources.utilisation.time.monotonic", lambda: now[0])
    bench, utilisation = counting.pocket(), Utilisation("cpu")

    def ceiling() -> float:
        utilisation.begin(bench.clip, "fp32")
        return utilisation.metrics(CONFIG, (0,), bench.clip, bench.features, [], 1e15)[Cost.MATMUL]

    assert ceiling() == 5.0
    now[0] += 9.9
    assert (ceiling(), len(measured)) == (5.0, 1)
    now[0] += 0.2
    assert (ceiling(), len(measured)) == (7.0, 0)


def test_a_matmul_is_timed() -> None:
    """More than a single core's scalar arithmetic, less than any CPU's."""
    assert 1e9 < matmul_ceiling("cpu") < 1e14
