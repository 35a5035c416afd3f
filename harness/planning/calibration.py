"""Measures, in less than a minute, how fast this machine runs a setting: a few real epochs."""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.method import Method
from harness.planning.short_trial import shortened
from harness.resources import AnalyticCosts, matmul_ceiling
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.subsets import FeatureSet

# What the measured epochs may take, if they reach a fifth of the matmul ceiling.
SECONDS = 15.0
USUAL_SHARE = 0.2


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    seconds_per_flop: of whole trials of the measured setting.
    took: seconds that measuring took.
    """

    seconds_per_flop: float
    took: float


def calibrate(
    config: TrialConfig,
    n_seeds: int,
    costs: AnalyticCosts,
    method: Method,
    device: str,
    threads: int,
) -> Calibration:
    """Run some epochs of a setting on random features, and count its other epochs from them.

    A setting too large for SECONDS is measured with fewer seeds, pictures and classes. Nothing is
    read but the backbone, nothing is written.

    Args:
        config: of the setting.
        n_seeds: seeds that a trial of it trains side by side.
        costs: counts FLOPs, and knows the sizes of the datasets.
        method: loads the backbone and runs the epochs.
        device: torch's name of what they run on.
        threads: that torch may use meanwhile.

    Raises:
        ValueError: the backbone cannot be loaded, or the dataset cannot carry the setting.
    """
    started = time.monotonic()
    with _threads(threads):
        clip = method.load_backbone(config.backbone, device, config.precision)
        budget = SECONDS * USUAL_SHARE * matmul_ceiling(device, config.precision)
        config, n_seeds = fitting(config, n_seeds, costs, budget)
        short = shortened(config)
        features = random_features(costs.bare(config.dataset), config, clip.feature_dim)
        targets = {
            name: random_features(costs.bare(name), config, clip.feature_dim)
            for name in config.targets
        }

        def timed(setting: TrialConfig) -> dict[str, list[float]]:
            return _timed(method.run_trial(setting, range(n_seeds), features, clip, targets, None))

        spent = timed(short)
        retrains = config.selection == "pseudo_new" or config.protocol == "cross_dataset"
        if retrains and len(spent.get("final", ())) < getattr(short.finetuner, "epochs", 0):
            # on noise an early epoch may be the best one, and retraining ends with it
            spent |= timed(short.model_copy(update={"selection": "none", "objective": None}))
        seconds = counted_seconds(config, short, spent)
    per_flop = seconds / costs(config, n_seeds)
    return Calibration(per_flop, time.monotonic() - started)


def fitting(
    config: TrialConfig, n_seeds: int, costs: AnalyticCosts, budget: float
) -> tuple[TrialConfig, int]:
    """The largest of ever smaller trials whose few epochs stay within a number of FLOPs.

    Args:
        config: of the trial as it is meant to run.
        n_seeds: seeds that it trains side by side; they are cut first, then pictures, then classes.
        costs: counts FLOPs, and knows the sizes of the datasets.
        budget: FLOPs that the trial may take once it is shortened.

    Returns:
        The smaller trial, not shortened, and its number of seeds; the smallest one where none
        stays within the budget.
    """
    for smaller, seeds in _ever_smaller(config, n_seeds, costs):
        config, n_seeds = smaller, seeds
        if costs(shortened(config), n_seeds) <= budget:
            break
    return config, n_seeds


def _ever_smaller(
    config: TrialConfig, n_seeds: int, costs: AnalyticCosts
) -> Iterator[tuple[TrialConfig, int]]:
    yield config, n_seeds
    while n_seeds > 1:
        n_seeds = (n_seeds + 1) // 2
        yield config, n_seeds
    shots = config.shots or 16
    while shots > 1:
        shots //= 2
        config = config.model_copy(update={"shots": shots})
        yield config, n_seeds
    classes = min(len(costs.bare(config.dataset).class_names), config.max_classes or 1000)
    while classes >= 16:
        classes //= 2
        config = config.model_copy(update={"max_classes": classes})
        yield config, n_seeds


def counted_seconds(
    config: TrialConfig, short: TrialConfig, spent: Mapping[str, Sequence[float]]
) -> float:
    """Seconds of the whole trial, from those that each epoch of its shortened form took.

    Args:
        spent: stage -> seconds of its epochs in order.
    """
    total = math.fsum(second for seconds in spent.values() for second in seconds)
    for stage, seconds in spent.items():
        group = "generator" if stage.endswith("generator") else "finetuner"
        if stage in ("selection_quality", "test"):
            continue
        planned = getattr(getattr(config, group), "epochs", 0)
        ran = getattr(getattr(short, group), "epochs", 0)
        usual = statistics.median(seconds[1:-1] or seconds)
        if planned > ran:
            times = len(seconds) / ran if stage == "final" else 1.0  # one a target
            total += times * (planned - ran) * usual
        if stage == "selection" and planned:  # evaluated before the first epoch, and once more
            evaluations = math.ceil(planned / config.eval_every)
            total += (evaluations - 1) * max(0.0, seconds[-1] - usual)
    return total


def random_features(bare: "FeatureSet", config: TrialConfig, size: int) -> "FeatureSet":
    """Unit-norm noise for each picture that the trial may look at: its time needs no meaning.

    Args:
        bare: labels and class names of a dataset.
        config: of the trial; it says which classes, how many shots and how many views.
        size: of a feature.
    """
    from ship.subsets import studied_classes

    rng = np.random.default_rng(0)
    bare = _shown(studied_classes(config, bare), config.shots)

    def noise(labels: np.ndarray, *views: int) -> np.ndarray:
        x = rng.standard_normal((len(labels), *views, size), dtype=np.float32)
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        return x

    return replace(
        bare,
        train=noise(bare.train_labels, 1 + config.views),
        val=noise(bare.val_labels),
        test=noise(bare.test_labels),
    )


def _shown(bare: "FeatureSet", shots: int | None) -> "FeatureSet":
    """Without the training pictures that no draw can show: a large dataset has very many."""
    labels = bare.train_labels
    if shots is None or not len(labels):
        return bare
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    kept = np.sort(order[np.arange(len(labels)) - starts < shots])
    return replace(bare, train=bare.train[kept], train_labels=labels[kept])


def _timed(items: Iterator[Any]) -> dict[str, list[float]]:
    """Seconds that each epoch took, by stage."""
    spent: dict[str, list[float]] = defaultdict(list)
    before = time.perf_counter()
    for item in items:
        now = time.perf_counter()
        spent[item.stage].append(now - before)
        before = now
    return spent


@contextmanager
def _threads(n: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
