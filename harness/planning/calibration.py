"""Measures, in less than a minute, how fast this machine runs a setting: a few real epochs."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.method import Method
from harness.resources import CountedCosts, matmul_ceiling
from ship.trial_config import TrialConfig

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
    costs: CountedCosts,
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
    from ship.cost import Rates, random_features, random_target, retrains, shortened

    started = time.monotonic()
    with _threads(threads):
        clip = method.load_backbone(config.backbone, device, config.precision)
        budget = SECONDS * USUAL_SHARE * matmul_ceiling(device, config.precision)
        config, n_seeds = fitting(config, n_seeds, costs, budget)
        short = shortened(config)
        features = random_features(costs.bare(config.dataset), config, clip.feature_dim)
        targets = {t: random_target(costs.bare(t), clip.feature_dim) for t in config.targets}

        def timed(setting: TrialConfig) -> dict[str, list[float]]:
            return _timed(method.run_trial(setting, range(n_seeds), features, clip, targets, None))

        spent = timed(short)
        if retrains(config) and len(spent.get("final", ())) < getattr(short.finetuner, "epochs", 0):
            # on noise an early epoch may be the best one, and retraining ends with it
            spent |= timed(short.model_copy(update={"selection": "none", "objective": None}))
        seconds = Rates.of(short, spent).total(config)
    per_flop = seconds / costs(config, n_seeds)
    return Calibration(per_flop, time.monotonic() - started)


def fitting(
    config: TrialConfig, n_seeds: int, costs: CountedCosts, budget: float
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
    from ship.cost import shortened

    whole = costs(shortened(config), n_seeds)
    for smaller, fewer, part in _ever_smaller(config, n_seeds, costs):
        config, n_seeds = smaller, fewer
        if part * whole <= budget:
            break
    return config, n_seeds


def _ever_smaller(
    config: TrialConfig, n_seeds: int, costs: CountedCosts
) -> Iterator[tuple[TrialConfig, int, float]]:
    """Smaller trials, their seeds, and about which part of the first one's arithmetic is left."""
    part = 1.0
    yield config, n_seeds, part
    for fewer in _halves(n_seeds, 1):
        part, n_seeds = part * fewer / n_seeds, fewer
        yield config, n_seeds, part
    shots = config.shots or 16
    for fewer in _halves(shots, 1):
        part, shots = part * fewer / shots, fewer
        config = config.model_copy(update={"shots": shots})
        yield config, n_seeds, part
    classes = min(len(costs.bare(config.dataset).class_names), config.max_classes or 1000)
    for fewer in _halves(classes, 8):
        part, classes = part * fewer / classes, fewer
        config = config.model_copy(update={"max_classes": classes})
        yield config, n_seeds, part


def _halves(n: int, least: int) -> Iterator[int]:
    """n halved until it is about the least."""
    while n > max(1, 2 * least - 1):
        n = (n + 1) // 2
        yield n


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
