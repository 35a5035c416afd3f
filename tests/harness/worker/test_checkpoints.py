"""Workers write checkpoints, resume trials from them, and ignore damaged ones."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from harness.checkpoints import Checkpoints, Storage, make_checkpoint_name
from harness.messages import EPOCHS, FAILED, FAILED_SEEDS, FINAL, make_trial_spec
from harness.store import Cost
from harness.worker import Worker
from ship.state import Checkpoint
from ship.trial_config import EpochMetrics, TrialConfig
from tests.harness.fakes import EPOCHS as SELECTION_EPOCHS
from tests.harness.fakes import METRIC_NAMES, make_method
from tests.harness.worker.workers import make_worker, run_to_end

NAME = make_checkpoint_name("key", (0, 1), save=False)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Return an empty storage."""
    return Storage(str(tmp_path), "study")


def make_checkpoint_worker(
    tmp_path: Path, storage: Storage, every: float | None = 0.0, run_trial: Any = None
) -> Worker:
    """Return a worker that writes checkpoints, by default with the analytic method."""
    log = tmp_path / "log"
    worker = make_worker(run_trial or make_method(log).run_trial)
    worker._checkpoints = Checkpoints(storage, every)
    worker.begin(make_spec())
    return worker


def make_spec(name: str = NAME) -> dict[str, Any]:
    """Return the spec of a trial whose checkpoint has this name."""
    return make_trial_spec(TrialConfig(), (0, 1), True, name)


def collect_epochs(results: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the epochs of all results."""
    return [epoch for result in results for epoch in result[EPOCHS]]


@pytest.mark.parametrize("steps", range(1, SELECTION_EPOCHS + 1))
def test_another_worker_resumes_a_trial(tmp_path: Path, storage: Storage, steps: int) -> None:
    """It reports the same epochs and numbers, and computes only the remaining epochs."""
    uninterrupted = run_to_end(make_checkpoint_worker(tmp_path, Storage(str(tmp_path), "other")))
    first = make_checkpoint_worker(tmp_path, storage)
    first._seconds = 1000.0
    for _ in range(steps):
        first.step()
    resumed = run_to_end(make_checkpoint_worker(tmp_path, storage))
    assert collect_epochs(resumed) == collect_epochs(uninterrupted)
    metrics, expected = (
        dict(results[-1][FINAL][0]["metrics"]) for results in (resumed, uninterrupted)
    )
    assert metrics.pop(Cost.SECONDS) > 1000 > expected.pop(Cost.SECONDS)
    del metrics[Cost.PEAK_MEMORY], expected[Cost.PEAK_MEMORY]
    assert metrics == expected
    assert f"resumed after {steps} epochs" in (tmp_path / "log").read_text()


def run_trial_losing_a_seed(*_: Any) -> Iterator[EpochMetrics]:
    """Run a trial whose second seed fails."""
    metrics = dict.fromkeys(METRIC_NAMES, (50.0, None))
    yield EpochMetrics("selection", 1, 0.5, metrics, (), {1: "loss not finite"})
    test = {**metrics, "selection_harmonic_mean": (50.0, None), "selection_epoch": (1.0, None)}
    yield EpochMetrics("test", 1, 1.0, test, (), {1: "loss not finite"})


@pytest.mark.parametrize("has_failed_seed", [False, True])
def test_saved_result_is_not_trained_again(
    tmp_path: Path, storage: Storage, has_failed_seed: bool
) -> None:
    """Another worker returns the saved result with the same epochs and metrics."""
    run_trial = run_trial_losing_a_seed if has_failed_seed else None
    trained = run_to_end(make_checkpoint_worker(tmp_path, storage, 3600.0, run_trial))

    def fail(*_: Any) -> Iterator[EpochMetrics]:
        raise AssertionError("the trial is trained again")

    (result,) = run_to_end(make_checkpoint_worker(tmp_path, storage, None, fail))
    assert collect_epochs([result]) == collect_epochs(trained)
    assert result[FINAL] == trained[-1][FINAL]
    assert bool(result[FINAL][0][FAILED_SEEDS]) == has_failed_seed
    assert bool(result[FINAL][0]["files"]) != has_failed_seed
    storage.delete(NAME)
    assert FAILED in run_to_end(make_checkpoint_worker(tmp_path, storage, None, fail))[-1]


def test_checkpoints_are_written_at_intervals(tmp_path: Path, storage: Storage) -> None:
    """If checkpoints are disabled, none is written, but an existing one is read."""
    for every in (3600.0, None):
        worker = make_checkpoint_worker(tmp_path, storage, every)
        worker.step()
        assert storage.read(NAME) is None
    make_checkpoint_worker(tmp_path, storage).step()
    run_to_end(make_checkpoint_worker(tmp_path, storage, None))
    assert "resumed after" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("damage", ["flipped", "short"])
def test_damaged_checkpoint_restarts_the_trial(
    tmp_path: Path, storage: Storage, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has one line about it."""
    first = make_checkpoint_worker(tmp_path, storage)
    first.step()
    data = storage.read(NAME)
    assert data is not None
    damaged = {
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "short": data[:-3],
    }[damage]
    storage.write(NAME, damaged)
    with caplog.at_level(logging.WARNING):
        results = run_to_end(make_checkpoint_worker(tmp_path, storage, None))
    assert FINAL in results[-1]
    assert "resumed" not in (tmp_path / "log").read_text()
    assert len([r for r in caplog.records if "cannot read checkpoint" in r.message]) == 1


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (Storage, "write", OSError("no such folder")),
        (Checkpoint, "to_bytes", MemoryError()),  # otherwise the worker would be regarded as dead
        (Storage, "read", OSError("no such folder")),
    ],
)
def test_checkpoint_errors_do_not_fail_the_trial(
    tmp_path: Path, storage: Storage, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Exception,
) -> None:  # fmt: skip
    """The trial succeeds, but another worker could not resume it."""
    monkeypatch.setattr(owner, name, Mock(side_effect=error))
    with caplog.at_level(logging.WARNING):
        assert FINAL in run_to_end(make_checkpoint_worker(tmp_path, storage))[-1]
    message = "cannot read" if name == "read" else "cannot write"
    assert any(message in record.message for record in caplog.records)
