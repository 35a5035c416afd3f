"""Trials resume after any epoch, bit by bit, and free the objects of earlier stages."""

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
from tests.ship.trial.cases import SETTINGS
from tests.ship.trial.cases import config as short

SEEDS = (7, 2)


VAE, WGAN, PATIENT = SETTINGS["vae"], SETTINGS["wgan"], SETTINGS["patient"]


def config(changes: dict[str, Any]) -> TrialConfig:
    """Return a trial that is even shorter."""
    result = short(**changes)
    trained = "epochs" in type(result.finetuner).model_fields
    update = {"epochs": 3, "batch_size": 5} if trained else {}
    return result.model_copy(update={"finetuner": result.finetuner.model_copy(update=update)})


def start(
    setting: TrialConfig, clip: FrozenCLIP, resume: Checkpoint | None = None
) -> Iterator[EpochMetrics]:
    """Start the trial, or resume it from a checkpoint."""
    features = feature_set(clip)
    targets = dict.fromkeys(setting.targets, features)
    return run_trial(setting, SEEDS, features, clip, targets, resume=resume)


@cache
def feature_set(clip: FrozenCLIP) -> FeatureSet:
    """Return read-only features, which tests share."""
    return build_features(clip)


def check_stops(
    setting: TrialConfig,
    clip: FrozenCLIP,
    here: Callable[[EpochMetrics], bool] = lambda item: item.epoch in (0, 2, 4),
) -> set[str]:
    """Stop after each such epoch and resume; return the stages that were stopped in."""
    run = start(setting, clip)
    whole, stops = [], []
    for item in run:
        whole.append(item)
        if here(item) and item.stage != "test":
            stops.append((item, run.checkpoint().to_bytes()))  # type: ignore[attr-defined]
    assert whole[-1].stage == "test"
    for item, data in stops:
        again = list(start(setting, clip, Checkpoint.from_bytes(data)))
        assert again == whole, f"stopped behind {item.stage} {item.epoch}"
    return {item.stage for item, _ in stops}


@pytest.mark.parametrize(
    "changes", mark_slow_cases(SETTINGS["resumed"], SETTINGS["resumed"][3:6]), ids=str
)
def test_resumed_trial_equals_an_uninterrupted_one(
    clip: FrozenCLIP, changes: dict[str, Any]
) -> None:
    """Every number is bitwise equal, in float32 as in studies."""
    check_stops(config(changes), clip)


def test_trial_can_be_resumed_after_every_epoch(clip: FrozenCLIP) -> None:
    """In every stage."""
    stages = check_stops(config({}), clip, lambda item: True)
    assert stages == set(get_args(Stage)) - {"test"}


def test_resumed_trial_can_be_stopped_again(clip: FrozenCLIP) -> None:
    """There is no checkpoint while old epochs are repeated."""
    setting = config({})
    whole = list(start(setting, clip))
    run = start(setting, clip)
    for _ in range(2):
        next(run)
    run = start(setting, clip, run.checkpoint())  # type: ignore[attr-defined]
    for place in range(2):
        assert next(run) == whole[place]
        assert run.checkpoint() is None  # type: ignore[attr-defined]
    for place in range(2, 6):
        assert next(run) == whole[place]
    second = run.checkpoint()  # type: ignore[attr-defined]
    assert len(second.epochs) == 6
    assert list(start(setting, clip, second)) == whole


def stopped(clip: FrozenCLIP, changes: dict[str, Any], epochs: int) -> Checkpoint:
    """Return the checkpoint after a number of epochs."""
    run = start(config(changes), clip)
    for _ in range(epochs):
        next(run)
    result = run.checkpoint()  # type: ignore[attr-defined]
    assert isinstance(result, Checkpoint)
    return result


@pytest.mark.parametrize(
    "other",
    [
        {"generator": {**VAE, "latent_dim": 9}},
        {"generator": WGAN},
        {"finetuner": {"name": "clip_adapter"}},
    ],
    ids=str,
)
def test_checkpoint_of_another_trial_is_rejected(clip: FrozenCLIP, other: dict[str, Any]) -> None:
    """Before anything is reported."""
    with pytest.raises(CheckpointError):
        next(start(config(other), clip, stopped(clip, {}, 5)))


def test_checkpoint_file_keeps_its_notes(clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal checkpoints have equal bytes; another version of torch rejects them."""
    noted = replace(stopped(clip, {}, 4), notes={"trial": "a", "seconds": 1.5})
    data = noted.to_bytes()
    result = Checkpoint.from_bytes(data)
    assert result.notes == {"trial": "a", "seconds": 1.5}
    assert result.epochs == noted.epochs
    assert result.to_bytes() == data
    monkeypatch.setattr(torch, "__version__", "1.0")
    with pytest.raises(CheckpointError, match="torch"):
        Checkpoint.from_bytes(data)


def test_damaged_checkpoint_is_rejected(clip: FrozenCLIP) -> None:
    """One changed byte at some hundred positions, or a truncated file."""
    data = stopped(clip, {"generator": "none", "finetuner": {"name": "clip_adapter"}}, 1).to_bytes()
    places = {*range(200), *range(200, len(data), max(1, len(data) // 100))}
    flipped = (data[:p] + bytes([data[p] ^ 1 << p % 8]) + data[p + 1 :] for p in places)
    cut = (data[:kept] for kept in (0, 7, 8, 100, len(data) // 2, len(data) - 1))
    bare = b'{"__metadata__": null}  '
    for damaged in (*flipped, *cut, len(bare).to_bytes(8, "little") + bare):
        with pytest.raises(CheckpointError):
            Checkpoint.from_bytes(damaged)


WATCHED: list[dict[str, Any]] = [
    {},
    {"generator": SETTINGS["wgan"]},
    {"generator": SETTINGS["patient"], "finetuner": {"name": "tip_adapter_f"}},
    {"protocol": "cross_dataset", "targets": ["here", "there"]},
]


Alive = Callable[[], tuple[int, int]]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Alive:
    """A function that counts generators and fine-tuners that still exist."""
    actual: WeakSet[Any] = WeakSet()

    def note(kind: type) -> None:
        def noted(self: Any, *args: Any, begin: Any = kind.__init__, **rest: Any) -> None:
            actual.add(self)
            begin(self, *args, **rest)

        monkeypatch.setattr(kind, "__init__", noted)

    for kind in (BatchedGenerator, BatchedWGAN, CoOp, TipAdapterF):
        note(kind)

    def counted() -> tuple[int, int]:
        n = Counter(type(item) for item in actual)
        return n[BatchedGenerator] + n[BatchedWGAN], n[CoOp] + n[TipAdapterF]

    return counted


def check_freed(run: Iterator[EpochMetrics], alive: Alive) -> None:
    """Check that no object of selection exists once the trial retrains."""
    gc.collect()
    assert alive() == (0, 0)
    most = {"selection": (1, 1), "final_generator": (1, 0), "final": (1, 1)}
    seen = set()
    for item in run:
        if item.stage in most:
            assert alive() == most[item.stage], item.stage
            seen.add(item.stage)
    assert "selection" in seen and len(seen) > 1


@pytest.mark.parametrize("changes", mark_slow_cases(WATCHED, WATCHED[2:3]), ids=str)
def test_selections_objects_are_freed_before_retraining(
    changes: dict[str, Any], clip: FrozenCLIP, alive: Alive
) -> None:
    """For all protocols and selections."""
    check_freed(start(config(changes), clip), alive)
