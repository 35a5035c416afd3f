"""Results of a worker, and errors of nodes with other weights, plugins or versions."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from weakref import WeakSet

import polars as pl
import pytest
import torch

from harness.messages import (
    EPOCHS,
    EVALUATIONS,
    FAILED,
    FINAL,
    LAST_VALUE,
    FeatureKey,
    list_feature_keys,
    make_trial_spec,
)
from harness.method import get_code_version
from harness.store import Failure
from harness.worker import SharedFeatures, Worker
from ship.configs import FINETUNERS
from ship.plugins import load_plugin
from ship.registry import Origin
from ship.trial_config import CorrectPredictions, EpochMetrics, TrialConfig
from tests.harness.fakes import METRIC_NAMES, FakeClip, compute_result, load_other_weights
from tests.harness.worker.workers import CONFIG, make_run_trial, make_worker, run_to_end


def test_fast_epochs_are_sent_together(tmp_path: Path) -> None:
    """Only a selection epoch that the scheduler evaluates ends a result."""
    results = run_to_end(make_worker(make_run_trial(tmp_path)))
    assert [[e["stage"] for e in result[EPOCHS]] for result in results] == [
        ["selection_generator", "selection"],
        ["selection"],
        ["selection"],
        ["final", "test"],
    ]
    assert [result.get(EVALUATIONS) for result in results] == [1, 2, 3, None]
    expected = (compute_result(CONFIG, 0) + compute_result(CONFIG, 1)) / 2
    values = [result[LAST_VALUE] for result in results[:3]]
    assert values == pytest.approx([expected - 2, expected - 1, expected])
    assert LAST_VALUE not in results[-1]


@pytest.mark.parametrize(
    ("gpus", "device", "fractions"), [(0.25, "cuda", [0.25]), (1, "cuda", []), (0, "cpu", [])]
)
def test_a_share_of_a_gpu_bounds_the_memory(
    monkeypatch: pytest.MonkeyPatch, gpus: float, device: str, fractions: list[float]
) -> None:
    """A trial with a share of a GPU may allocate the same share of the memory; others all of it."""
    limits: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    Worker({}, lambda *_: None, FakeClip, gpus=gpus, device=device)
    assert limits == fractions


def test_control_sends_no_objective_to_the_scheduler(tmp_path: Path) -> None:
    """All of its epochs are therefore sent together."""
    results = run_to_end(make_worker(make_run_trial(tmp_path), may_stop=False))
    assert not any(EVALUATIONS in result or LAST_VALUE in result for result in results)
    (result,) = results
    assert FINAL in result


def test_failed_seed_is_in_no_mean() -> None:
    """It has no metrics. The scheduler gets the mean of the other seeds."""

    def run_trial(*_: Any) -> Iterator[EpochMetrics]:
        yield EpochMetrics("selection", 1, 0.3, dict.fromkeys(METRIC_NAMES, (40.0, 60.0)))
        failed = {"failed": {1: "loss is not finite at stage selection, epoch 2"}}
        yield EpochMetrics("selection", 2, 0.6, dict.fromkeys(METRIC_NAMES, (50.0, None)), **failed)
        test = dict.fromkeys((*METRIC_NAMES, "selection_harmonic_mean"), (55.0, None))
        correct_predictions = CorrectPredictions(
            "", (0,), ("cat",), (True,), {"own": (b"\x80", b"")}
        )
        test["selection_epoch"] = (2.0, None)
        yield EpochMetrics("test", 2, 1.0, test, (correct_predictions,), **failed)

    results = run_to_end(make_worker(run_trial, log={"seed_curves": True}))
    assert [r[LAST_VALUE] for r in results if LAST_VALUE in r] == [50.0, 50.0]
    curves = [epoch["metrics"] for result in results for epoch in result[EPOCHS]]
    assert curves[1]["selection/base"] == 50.0
    assert "selection/base/curve_seed_0" in curves[1]
    assert "selection/base/curve_seed_1" not in curves[1]
    (final,) = results[-1][FINAL]
    assert final["failed_seeds"] == {1: "loss is not finite at stage selection, epoch 2"}
    assert final["metrics"]["objective"] == final["metrics"]["selection/harmonic_mean/seed_0"] == 55
    assert not any(name.endswith("/seed_1") for name in final["metrics"])
    columns = pl.read_parquet(BytesIO(final["files"]["correct.parquet"])).columns
    assert "own/seed_0" in columns and "own/seed_1" not in columns


def test_last_two_backbones_are_kept(tmp_path: Path) -> None:
    """They are identified by name and precision. One is dropped before a third is loaded."""
    alive, loaded = WeakSet[FakeClip](), []

    def load(name: str, device: str, precision: str) -> FakeClip:
        loaded.append((name, precision, len(alive)))
        alive.add(clip := FakeClip(name))
        return clip

    worker = make_worker(make_run_trial(tmp_path), load_backbone=load)
    (features,) = worker.features.values()
    requested = [("A:b", "fp32"), ("pocket", "fp32"), ("pocket", "bf16"), ("A:b", "fp32")]
    for name, precision in [*requested[1:2], *requested[:2], *requested[1:]]:
        config = CONFIG.model_copy(update={"backbone": name, "precision": precision})
        worker.features = dict.fromkeys(list_feature_keys(config), features)
        worker.begin(make_trial_spec(config, (5,), True))
        assert run_to_end(worker)[-1][FINAL][0]["metrics"]["test/base/seed_5"] > 0
    expected = [("pocket", "fp32"), *requested[:1], *requested[2:]]
    assert loaded == [
        (*names, n_alive) for names, n_alive in zip(expected, (0, 1, 1, 1), strict=True)
    ]


def test_targets_are_passed_by_name() -> None:
    """Each target has its feature set, in addition to that of the source."""
    targets: dict[str, Any] = {}

    def run_trial(*args: Any) -> Iterator[EpochMetrics]:
        targets.update(args[4])
        yield from ()

    config = CONFIG.model_copy(update={"protocol": "cross_dataset", "targets": ("b", "c")})
    worker = make_worker(run_trial, config)
    worker.features = {
        **worker.features,
        **{need: f"features of {need.dataset}" for need in list_feature_keys(config)[1:]},
    }
    run_to_end(worker)
    assert targets == {"b": "features of b", "c": "features of c"}


def test_node_with_other_weights_fails_its_trials(tmp_path: Path) -> None:
    """Otherwise features of one backbone would be used with the text encoder of another."""
    options = {"backbone": "weights-of-pocket"}
    assert run_to_end(make_worker(make_run_trial(tmp_path), **options))[-1][FINAL]
    (result,) = run_to_end(
        make_worker(make_run_trial(tmp_path), load_backbone=load_other_weights, **options)
    )
    (failed,) = result[FAILED]
    assert failed["failure"] is Failure.ERROR
    assert "backbone pocket has other weights on this node than" in failed["reason"]


@pytest.mark.parametrize(
    ("message", "broken"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: out of memory", False),
    ],
)
def test_worker_reports_a_broken_gpu(message: str, broken: bool) -> None:
    """CUDA would fail in the next trial, too. The trial that caused the error has the reason."""
    worker = make_worker(Mock(side_effect=RuntimeError(message)))
    (result,) = run_to_end(worker)
    assert message in result[FAILED][0]["reason"]
    assert worker.gpu_is_broken == broken


@pytest.mark.parametrize(
    ("gpus", "hint"),
    [
        (0.25, "; 0.25 of a GPU is too small a share: set resources.gpus=0.5"),
        (0.6, "; 0.6 of a GPU is too small a share: set resources.gpus=1"),
        (1, ""),
        (0, ""),
    ],
)
def test_too_small_gpu_share_is_named(gpus: float, hint: str) -> None:
    """The reason proposes a larger share."""
    error = torch.OutOfMemoryError("CUDA out of memory")
    worker = make_worker(Mock(side_effect=error), gpus=gpus)
    (result,) = run_to_end(worker)
    (failed,) = result[FAILED]
    text = "OutOfMemoryError: CUDA out of memory (before its first epoch)"
    assert failed == {"failure": Failure.OUT_OF_MEMORY, "reason": text + hint}


PLUGIN = Path(__file__).parents[2] / "third_party" / "nearest_mean.py"


@pytest.fixture
def config(restore_registries: None) -> TrialConfig:
    """Return a trial with a plugin's fine-tuner."""
    load_plugin(PLUGIN)
    return TrialConfig.model_validate({"finetuner": {"name": "nearest_mean"}})


def forget_plugin() -> None:
    """Unload the plugin, as on a node without its file."""
    FINETUNERS.pop("nearest_mean")
    FINETUNERS.origins.pop("nearest_mean")


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (None, "on this node: finetuner nearest_mean: expected "),
        (
            Origin("module theirs", "theirs 0.2", module="theirs"),
            "on this node: finetuner nearest_mean: expected ",
        ),
    ],
)
def test_node_without_the_same_plugin_fails_its_trials(
    tmp_path: Path, config: TrialConfig, origin: Origin | None, message: str
) -> None:
    """Otherwise their results would come from other code."""
    worker = make_worker(make_run_trial(tmp_path), config=config)
    if origin is None:
        forget_plugin()
    else:
        FINETUNERS.origins["nearest_mean"] = origin
    (failed,) = run_to_end(worker)[-1][FAILED]
    assert message in failed["reason"]


def test_node_with_another_version_fails_its_trials(tmp_path: Path) -> None:
    """The reason has both versions. Their results must not be in the same table."""
    worker = make_worker(make_run_trial(tmp_path))
    spec = {**worker._spec, "code": "ship-sweep 0.1 (results version 9)"}
    worker.begin({"spec": json.dumps(spec)})
    (failed,) = run_to_end(worker)[-1][FAILED]
    assert failed["failure"] is Failure.ERROR
    assert failed["reason"].startswith(f"ValueError: this node has {get_code_version()}, and the ")
    assert "driver has ship-sweep 0.1 (results version 9). Install the same" in failed["reason"]


def test_features_are_fetched_when_a_trial_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of other trials are not fetched."""
    references: list[Any] = []
    monkeypatch.setattr("harness.worker.ray.get", lambda ref: references.append(ref) or f"<{ref}>")
    needs = [FeatureKey("pocket", name, 0, "") for name in ("a", "b")]
    features = SharedFeatures(dict(zip(needs, ("ref a", "ref b"), strict=True)))
    assert (len(features), list(features), references) == (2, needs, [])
    assert features[needs[1]] == "<ref b>" and references == ["ref b"]
