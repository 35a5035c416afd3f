"""An analytic method that replaces ship's: its results are known, and it can be made to fail."""

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

METRIC_NAMES = ("base", "new", "harmonic_mean", "joint_base", "joint_new", "joint_harmonic_mean")
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
    """Load a backbone whose weights differ, like a node whose weight file was replaced."""
    clip = FakeClip(name, device, precision)
    clip.fingerprint = "other weights"
    return clip


def compute_result(config: TrialConfig, seed: int) -> float:
    """Return the analytic method's result in percent for a configuration and a seed."""
    n_ctx = getattr(config.generator, "n_ctx", 0)
    kl_weight = getattr(config.generator, "kl_weight", 1.0)
    return float(50 + n_ctx - 2 * abs(math.log10(kl_weight or 1e-9) + 2) + seed / 100)


class AnalyticRun:
    """Iterator of a trial's epochs. A resumed trial first reports those of its checkpoint again."""

    def __init__(self, items: Iterator[EpochMetrics], resume: Checkpoint | None) -> None:
        self._items = items
        self._replayed = list(resume.epochs) if resume else []
        self._history: list[EpochMetrics] = []

    def __iter__(self) -> "AnalyticRun":
        return self

    def __next__(self) -> EpochMetrics:
        item = self._replayed.pop(0) if self._replayed else next(self._items)
        self._history.append(item)
        return item

    def checkpoint(self) -> Checkpoint | None:
        """Return a checkpoint of the epochs reported so far."""
        return None if self._replayed else Checkpoint(tuple(self._history), {})


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

    It has one generator epoch, EPOCHS selection epochs with rising values, a final epoch and the
    test. It logs a line per seed, and another one if it resumes.
    """
    if features.train.flags.writeable:
        raise RuntimeError("the features are a copy instead of shared memory")
    n_done = len(resume.epochs) if resume else 0
    with log.open("a") as file:
        file.writelines(_format_line(features, config, seed) for seed in seeds)
        if n_done:
            file.write(f"resumed after {n_done} epochs\n")
    clip.n_processed_tokens += 0 if n_done else 100
    return AnalyticRun(_yield_epochs(behave, config, seeds, n_done), resume)


def _yield_epochs(
    behave: Behavior | None, config: TrialConfig, seeds: Sequence[int], n_done: int
) -> Iterator[EpochMetrics]:
    """Yield the epochs after the first `n_done` ones."""
    results = tuple(compute_result(config, seed) for seed in seeds)
    if n_done < 1:
        yield EpochMetrics("selection_generator", 1, 0.1, {"loss": tuple(1.0 for _ in seeds)})
    for epoch in range(max(1, n_done), EPOCHS + 1):
        if behave is not None:
            behave(config, epoch)
        values = tuple(result - (EPOCHS - epoch) for result in results)
        yield EpochMetrics("selection", epoch, 0.2 * epoch, dict.fromkeys(METRIC_NAMES, values))
    if n_done <= 1 + EPOCHS:
        yield EpochMetrics("final", 1, 0.9, {"loss": tuple(0.5 for _ in seeds)})
    test: dict[str, tuple[float, ...]] = dict.fromkeys(
        (*METRIC_NAMES, "selection_harmonic_mean"), results
    )
    test["selection_epoch"] = tuple(float(EPOCHS) for _ in seeds)
    correct = tuple(bytes([(round(value) % 16) << 4]) for value in results)
    correct_predictions = CorrectPredictions(
        "", (0, 0, 1, 1), ("cat", "dog"), (True, False), {"own": correct, "all": correct}
    )
    yield EpochMetrics("test", EPOCHS, 1.0, test, (correct_predictions,))


def _format_line(features: FakeFeatures, config: TrialConfig, seed: int) -> str:
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


def load_fake_images(name: str, data_root: Path | None, cache_dir: Path) -> FakeImages:
    """Return a dataset whose fingerprint contains its name."""
    return FakeImages(name, f"images-of-{name}")


def extract_fake_features(
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
    """Log the extraction of a dataset's features, and return zeros."""
    with log.open("a") as file:
        file.write(f"extract {images.name}{' on a cluster' if encode else ''}\n")
    report(0, 8)
    report(8, 8)
    return FakeFeatures(images.name, np.zeros((8, 1 + views, 4), dtype=np.float32))


def draw_images(folder: Path) -> None:
    """Draw eight classes of eight small images, each of one color."""
    for label, number in product(range(8), repeat=2):
        path = folder / "few" / f"thing {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (30 * label, 8 * number, 100)).save(path)


def make_method(log: Path, behave: Behavior | None = None) -> MethodFunctions:
    """Return the analytic method, which logs a line for each (configuration, seed) it runs.

    behave(config, epoch) is called before each selection epoch. It may raise an error, sleep, or
    kill the process.
    """
    return MethodFunctions(
        partial(run_analytic, log, behave),
        FakeClip,
        load_fake_images,
        partial(extract_fake_features, log),
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


def read_trial_lines(log: Path) -> list[str]:
    """Return the lines that the method logs when it starts a (configuration, seed) pair."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if " seed " in line]


def make_sleeping_behavior(seconds: float) -> Behavior:
    """Return a behavior that sleeps in each selection epoch."""

    def behave(config: TrialConfig, epoch: int) -> None:
        time.sleep(seconds)

    return behave


def make_unpickling_trap(act: Callable[[], None]) -> object:
    """Return an object that calls `act` when it is unpickled in another process."""

    def unpickle(pickling_process: int) -> object:
        if os.getpid() != pickling_process:
            act()
        return Trap()

    class Trap:
        def __reduce__(self) -> Any:
            return unpickle, (process_id,)

    process_id = os.getpid()
    return Trap()
