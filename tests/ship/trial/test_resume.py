"""Trials resume after any epoch with bitwise equal results, and free objects of earlier stages."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, get_args
from weakref import WeakSet

import pytest
import torch

from ship.clip import FrozenCLIP
from ship.finetuners.adapters import TipAdapterF
from ship.finetuners.prompts import CoOp
from ship.generators.batched import BatchedGenerator
from ship.generators.wgan import BatchedWGAN
from ship.state import Checkpoint, CheckpointError
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import EpochMetrics, Stage, TrialConfig
from tests.case_files import mark_slow_cases
from tests.ship.conftest import build_features
from tests.ship.trial.cases import TRIALS, make_config

SEEDS = (7, 2)


def make_short_config(changes: dict[str, Any]) -> TrialConfig:
    """Return the configuration of a trial whose fine-tuner has at most three epochs."""
    config = make_config(**changes)
    has_epochs = "epochs" in type(config.finetuner).model_fields
    update = {"epochs": 3, "batch_size": 5} if has_epochs else {}
    return config.model_copy(update={"finetuner": config.finetuner.model_copy(update=update)})


def start(
    config: TrialConfig, clip: FrozenCLIP, resume: Checkpoint | None = None
) -> Iterator[EpochMetrics]:
    """Start the trial, or resume it from a checkpoint."""
    features = build_shared_features(clip)
    targets = dict.fromkeys(config.targets, features)
    return run_trial(config, SEEDS, features, clip, targets, resume=resume)


@cache
def build_shared_features(clip: FrozenCLIP) -> FeatureSet:
    """Build the features once for all tests, which only read them."""
    return build_features(clip)


def check_resuming(
    config: TrialConfig,
    clip: FrozenCLIP,
    stops_after: Callable[[EpochMetrics], bool] = lambda item: item.epoch in (0, 2, 4),
) -> set[str]:
    """Check that a trial resumed from a checkpoint reports the same epochs.

    Args:
        config: The trial.
        clip: Its backbone.
        stops_after: Whether a checkpoint is taken after an epoch.

    Returns:
        The stages in which there was a checkpoint.
    """
    run = start(config, clip)
    epochs, checkpoints = [], []
    for item in run:
        epochs.append(item)
        if stops_after(item) and item.stage != "test":
            checkpoints.append((item, run.checkpoint().to_bytes()))  # type: ignore[attr-defined]
    assert epochs[-1].stage == "test"
    for item, data in checkpoints:
        resumed = list(start(config, clip, Checkpoint.from_bytes(data)))
        assert resumed == epochs, f"stopped after {item.stage} {item.epoch}"
    return {item.stage for item, _ in checkpoints}


@pytest.mark.parametrize(
    "changes", mark_slow_cases(TRIALS["resumed"], TRIALS["resumed"][3:6]), ids=str
)
def test_resumed_trial_equals_an_uninterrupted_one(
    clip: FrozenCLIP, changes: dict[str, Any]
) -> None:
    """Every number is bitwise equal, in the float32 that studies use."""
    check_resuming(make_short_config(changes), clip)


def test_trial_can_be_resumed_after_every_epoch(clip: FrozenCLIP) -> None:
    """Every stage except the test has a checkpoint."""
    stages = check_resuming(make_short_config({}), clip, lambda item: True)
    assert stages == set(get_args(Stage)) - {"test"}


def test_resumed_trial_can_be_stopped_again(clip: FrozenCLIP) -> None:
    """There is no checkpoint while epochs of the first run are reported again."""
    config = make_short_config({})
    epochs = list(start(config, clip))
    run = start(config, clip)
    for _ in range(2):
        next(run)
    run = start(config, clip, run.checkpoint())  # type: ignore[attr-defined]
    for index in range(2):
        assert next(run) == epochs[index]
        assert run.checkpoint() is None  # type: ignore[attr-defined]
    for index in range(2, 6):
        assert next(run) == epochs[index]
    second = run.checkpoint()  # type: ignore[attr-defined]
    assert len(second.epochs) == 6
    assert list(start(config, clip, second)) == epochs


def make_checkpoint(clip: FrozenCLIP, changes: dict[str, Any], n_epochs: int) -> Checkpoint:
    """Run a trial for a number of epochs and return its checkpoint."""
    run = start(make_short_config(changes), clip)
    for _ in range(n_epochs):
        next(run)
    checkpoint = run.checkpoint()  # type: ignore[attr-defined]
    assert isinstance(checkpoint, Checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": {**TRIALS["vae"], "latent_dim": 9}},
        {"generator": TRIALS["wgan"]},
        {"finetuner": {"name": "clip_adapter"}},
    ],
    ids=str,
)
def test_checkpoint_of_another_trial_is_rejected(clip: FrozenCLIP, changes: dict[str, Any]) -> None:
    """It is rejected before an epoch is reported."""
    with pytest.raises(CheckpointError):
        next(start(make_short_config(changes), clip, make_checkpoint(clip, {}, 5)))


def test_checkpoint_file_keeps_its_notes(clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal checkpoints have equal bytes, and another version of torch rejects them."""
    checkpoint = replace(make_checkpoint(clip, {}, 4), notes={"trial": "a", "seconds": 1.5})
    data = checkpoint.to_bytes()
    result = Checkpoint.from_bytes(data)
    assert result.notes == {"trial": "a", "seconds": 1.5}
    assert result.epochs == checkpoint.epochs
    assert result.to_bytes() == data
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(CheckpointError, match="torch"):
        Checkpoint.from_bytes(data)


def test_damaged_checkpoint_is_rejected(clip: FrozenCLIP) -> None:
    """A flipped bit at any of some hundred positions, and a truncated file, are detected."""
    changes = {"generator": "none", "finetuner": {"name": "clip_adapter"}}
    data = make_checkpoint(clip, changes, 1).to_bytes()
    positions = {*range(200), *range(200, len(data), max(1, len(data) // 100))}
    flipped = (data[:p] + bytes([data[p] ^ 1 << p % 8]) + data[p + 1 :] for p in positions)
    truncated = (data[:size] for size in (0, 7, 8, 100, len(data) // 2, len(data) - 1))
    header = b'{"__metadata__": null}  '
    without_tensors = len(header).to_bytes(8, "little") + header
    for damaged in (*flipped, *truncated, without_tensors):
        with pytest.raises(CheckpointError):
            Checkpoint.from_bytes(damaged)


RETRAINED: list[dict[str, Any]] = [
    {},
    {"generator": TRIALS["wgan"]},
    {"generator": TRIALS["early_stopping"], "finetuner": {"name": "tip_adapter_f"}},
    {"protocol": "cross_dataset", "targets": ["a", "b"]},
]


CountObjects = Callable[[], tuple[int, int]]


@pytest.fixture
def count_objects(monkeypatch: pytest.MonkeyPatch) -> CountObjects:
    """Return a function that counts the generators and fine-tuners in memory."""
    objects: WeakSet[Any] = WeakSet()

    def record_instances(kind: type) -> None:
        original = kind.__init__  # type: ignore[misc]

        def init(self: Any, *args: Any, **keys: Any) -> None:
            objects.add(self)
            original(self, *args, **keys)

        monkeypatch.setattr(kind, "__init__", init)

    for kind in (BatchedGenerator, BatchedWGAN, CoOp, TipAdapterF):
        record_instances(kind)

    def count() -> tuple[int, int]:
        n = Counter(type(item) for item in objects)
        return n[BatchedGenerator] + n[BatchedWGAN], n[CoOp] + n[TipAdapterF]

    return count


@pytest.mark.parametrize("changes", mark_slow_cases(RETRAINED, RETRAINED[2:3]), ids=str)
def test_selections_objects_are_freed_before_retraining(
    changes: dict[str, Any], clip: FrozenCLIP, count_objects: CountObjects
) -> None:
    """No more than one generator and one fine-tuner are in memory at any time."""
    run = start(make_short_config(changes), clip)
    gc.collect()
    assert count_objects() == (0, 0)
    expected = {"selection": (1, 1), "final_generator": (1, 0), "final": (1, 1)}
    stages = set()
    for item in run:
        if item.stage in expected:
            assert count_objects() == expected[item.stage], item.stage
            stages.add(item.stage)
    assert "selection" in stages and len(stages) > 1
