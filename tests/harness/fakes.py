"""An analytic method in place of ship's: its numbers are known, and it can be made to fail."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.config.load import load_study
from harness.config.study_config import StudyConfig
from harness.method import MethodFunctions
from ship.state import Checkpoint
from ship.trial_config import CorrectPredictions, EpochMetrics, TrialConfig

SIX = ("base", "new", "harmonic_mean", "joint_base", "joint_new", "joint_harmonic_mean")
EPOCHS = 3

Behavior = Callable[[TrialConfig, int], None]


@dataclass(frozen=True)
class FakeFeatures:
    """Stand-in for a FeatureSet."""

    dataset: str
    train: np.ndarray[Any, Any]
    backbone_fingerprint: str | None = None


class FakeClip:
    """A backbone with a fingerprint and a token counter."""

    image_precision = "fp32"

    def __init__(self, name: str, device: str = "cpu", precision: str = "fp32") -> None:
        self.fingerprint = f"weights-of-{name}"
        self.n_processed_tokens = 0


def load_other_weights(name: str, device: str = "cpu", precision: str = "fp32") -> FakeClip:
    """Load the backbone as on a node whose weight file was replaced."""
    clip = FakeClip(name, device, precision)
    clip.fingerprint = "other weights"
    return clip


def truth(config: TrialConfig, seed: int) -> float:
    """Return the analytic method's result in percent for a configuration and a seed."""
    n_ctx = getattr(config.generator, "n_ctx", 0)
    kl_weight = getattr(config.generator, "kl_weight", 1.0)
    return float(50 + n_ctx - 2 * abs(math.log10(kl_weight or 1e-9) + 2) + seed / 100)


class AnalyticRun:
    """Iterator of a trial's epochs, with a checkpoint of those reported so far."""

    def __init__(self, items: Iterator[EpochMetrics], resume: Checkpoint | None) -> None:
        self._items = items
        self._again = list(resume.epochs) if resume else []
        self._history: list[EpochMetrics] = []

    def __iter__(self) -> "AnalyticRun":
        return self

    def __next__(self) -> EpochMetrics:
        item = self._again.pop(0) if self._again else next(self._items)
        self._history.append(item)
        return item

    def checkpoint(self) -> Checkpoint | None:
        """Return a checkpoint of the epochs reported so far."""
        return None if self._again else Checkpoint(tuple(self._history), {})


def run_analytic(
    log: Path,
    behave: Behavior | None,
    config: TrialConfig,
    seeds: Sequence[int],
    features: FakeFeatures,
    clip: FakeClip,
    targets: Mapping[str, FakeFeatures],
    resume: Checkpoint | None = None,
) -> AnalyticRun:
    """Run the analytic method from the beginning or from a checkpoint.

    It has one generator epoch, EPOCHS rising selection epochs, a final epoch and the test.
    """
    if features.train.flags.writeable:
        raise RuntimeError("the features are a copy of the worker's own")
    done = len(resume.epochs) if resume else 0
    with log.open("a") as file:
        file.writelines(_line(features, config, seed) for seed in seeds)
        if done:
            file.write(f"went on behind {done} epochs\n")
    clip.n_processed_tokens += 0 if done else 100
    return AnalyticRun(_analytic(behave, config, seeds, done), resume)


def _analytic(
    behave: Behavior | None, config: TrialConfig, seeds: Sequence[int], done: int
) -> Iterator[EpochMetrics]:
    """Yield the epochs after the first `done` ones."""
    truths = tuple(truth(config, seed) for seed in seeds)
    if done < 1:
        yield EpochMetrics("selection_generator", 1, 0.1, {"loss": tuple(1.0 for _ in seeds)})
    for epoch in range(max(1, done), EPOCHS + 1):
        if behave is not None:
            behave(config, epoch)
        values = tuple(value - (EPOCHS - epoch) for value in truths)
        yield EpochMetrics("selection", epoch, 0.2 * epoch, dict.fromkeys(SIX, values))
    if done <= 1 + EPOCHS:
        yield EpochMetrics("final", 1, 0.9, {"loss": tuple(0.5 for _ in seeds)})
    test: dict[str, tuple[float, ...]] = dict.fromkeys((*SIX, "selection_harmonic_mean"), truths)
    test["selection_epoch"] = tuple(float(EPOCHS) for _ in seeds)
    correct = tuple(bytes([(round(value) % 16) << 4]) for value in truths)
    correct_predictions = CorrectPredictions(
        "", (0, 0, 1, 1), ("cat", "dog"), (True, False), {"own": correct, "all": correct}
    )
    yield EpochMetrics("test", EPOCHS, 1.0, test, (correct_predictions,))


def _line(features: FakeFeatures, config: TrialConfig, seed: int) -> str:
    n_ctx = getattr(config.generator, "n_ctx", 0)
    configuration = f"{features.dataset} {config.generator.name} {n_ctx}"
    return f"{configuration} {config.finetuner.name} seed {seed}\n"


@dataclass(frozen=True)
class FakeImages:
    """Stand-in for a dataset without an official split."""

    name: str
    fingerprint: str
    split_version: str = ""
    class_names: tuple[str, ...] = ()
    template: str = "a photo of a {}."
    n_seen: int | None = None


def fake_images(name: str, data_root: Path | None, cache_dir: Path) -> FakeImages:
    """Return a dataset whose fingerprint contains its name."""
    return FakeImages(name, f"images-of-{name}")


def fake_extract(
    log: Path,
    clip: FakeClip,
    images: FakeImages,
    views: int,
    cache: Path,
    report: Any,
    splits: Sequence[str],
    encode: Any = None,
    classes: Sequence[int] | None = None,
) -> FakeFeatures:
    """Log that features were extracted, and return zeros."""
    with log.open("a") as file:
        file.write(f"extract {images.name}{' on a cluster' if encode else ''}\n")
    report(0, 8)
    report(8, 8)
    return FakeFeatures(images.name, np.zeros((8, 1 + views, 4), dtype=np.float32))


def draw_images(folder: Path) -> None:
    """Draw eight classes of eight small images, each of one color."""
    for label, place in product(range(8), repeat=2):
        path = folder / "few" / f"thing {label}" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (30 * label, 8 * place, 100)).save(path)


def make_method(log: Path, behave: Behavior | None = None) -> MethodFunctions:
    """Return the analytic method, which logs a line for each (configuration, seed) it runs.

    behave(config, epoch) is called before each selection epoch; it may raise, sleep or kill.
    """
    return MethodFunctions(
        partial(run_analytic, log, behave),
        FakeClip,
        fake_images,
        partial(fake_extract, log),
        accelerator="cpu",
    )


def make_study(**keys: Any) -> StudyConfig:
    """Return a small study over n_ctx with one worker and, by default, without controls."""
    defaults = {
        "space": {"generator.n_ctx": [1, 2, 4]},
        "seeds": 2,
        "controls": False,
        "max_concurrent_trials": 1,
        "resources": {"gpus": 0},
    }
    return load_study({"name": "small", **defaults, **keys})


def trial_lines(log: Path) -> list[str]:
    """Return the (configuration, seed) lines that a method has logged, in order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if " seed " in line]


def sleepy(seconds: float) -> Behavior:
    """Return a behavior that sleeps in each selection epoch."""

    def behave(config: TrialConfig, epoch: int) -> None:
        time.sleep(seconds)

    return behave


def trap_elsewhere(act: Callable[[], None]) -> object:
    """Return an object that calls `act` when it is unpickled in another process."""

    def unpickled(here: int) -> object:
        if os.getpid() != here:
            act()
        return Trap()

    class Trap:
        def __reduce__(self) -> Any:
            return unpickled, (process_id,)

    process_id = os.getpid()
    return Trap()
