"""How long settings take, by a few real epochs of each on noise, in this very process."""

import math
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.config import bare_features
from harness.method import Method
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig

# Epochs of each kind, and seeds at once, that are timed: fewer than two of either mislead.
FEW = 2
# Ages of the generator that selection `reference` trains a fine-tuner for.
AGES = 5


@dataclass(frozen=True)
class Steps:
    """Times settings of a study.

    pictures: gives a dataset by its name.
    device: torch's name of what trials run on.
    threads: of a trial.
    until: when there is no more time, by this process's processor time.
    """

    method: Method
    pictures: Callable[[str], Any]
    device: str
    threads: int
    until: float

    def seconds(self, configs: Sequence[TrialConfig], quick: Set[int]) -> tuple[list[float], int]:
        """Seconds a seed of each setting, by the timed one that is most like it; and how many were.

        Args:
            configs: of settings, the baseline first. It is timed, then the quick ones, which cost
                little to be timed, then always the one with most more to do than any that was,
                while there is time.
            quick: places of settings that are quick, however they look.

        Raises:
            ValueError: not even an epoch of one seed of the baseline fits into the time.
        """
        trees = [config.model_dump() for config in configs]
        timed: dict[int, float] = {}
        with _limited(self.threads, self.until - time.process_time()), suppress(TimeoutError):
            timed[0] = self._timed(configs[0], 1)  # warms up
            left, gaps = list(range(len(configs))), [math.inf] * len(configs)
            while left:
                place = max([x for x in left if x == 0 or x in quick] or left, key=gaps.__getitem__)
                timed[place] = self._timed(configs[place], FEW)
                left.remove(place)
                gaps = list(map(min, gaps, (_grown(tree, trees[place]) for tree in trees)))
        if not timed:
            raise ValueError("one epoch takes more processor time than there is to find out")

        def nearest(tree: Mapping[str, Any]) -> int:
            return min(timed, key=lambda one: _grown(tree, trees[one]) + _grown(trees[one], tree))

        return [timed[nearest(tree)] for tree in trees], len(timed)

    def _timed(self, config: TrialConfig, few: int) -> float:
        """Of so many seeds trained at once for as many epochs, scaled to all epochs of one."""
        clip = self.method.load_backbone(config.backbone, self.device, config.precision)
        sets = {name: self._noise(config, name, clip) for name in (config.dataset, *config.targets)}
        short, spent = _shortened(config, few), defaultdict[str, list[float]](list)
        own, before = sets[config.dataset], self._clock()
        for item in self.method.run_trial(short, range(few), own, clip, sets, None):
            now = self._clock()
            spent[item.stage].append(now - before)
            before = now
        if "final_generator" in spent:  # on noise, epoch 0 may be the best one
            spent.setdefault("final", spent["selection"][1:])
        return sum(_whole(config, few, *stage) for stage in spent.items()) / few

    def _clock(self) -> float:
        """Seconds of the processor, as others may use the machine; of a GPU seconds that pass."""
        cpu = self.device == "cpu"
        return time.process_time() / self.threads if cpu else time.perf_counter()

    def _noise(self, config: TrialConfig, name: str, clip: Any) -> FeatureSet:
        """Unit-norm noise for each picture of a dataset that a trial may look at."""
        bare, rng = bare_features(name, self.pictures(name)), np.random.default_rng(0)
        labels = np.sort(bare.train_labels)
        nth = np.arange(len(labels)) - np.searchsorted(labels, labels)
        labels = labels[nth < (config.shots or len(labels))]

        def drawn(*shape: int) -> Any:
            x = rng.standard_normal((*shape, clip.feature_dim), dtype=np.float32)
            return x / np.linalg.norm(x, axis=-1, keepdims=True)

        train, val = drawn(len(labels), 1 + config.views), drawn(len(bare.val_labels))
        test = drawn(len(bare.test_labels))
        return replace(bare, train=train, train_labels=labels, val=val, test=test)


def _grown(one: Any, other: Any) -> float:
    """How much more there seems to be to do in one setting than in another; 0: no more.

    A sum over their values: a larger number counts up to 1, whatever else differs 1.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return math.fsum(_grown(value, other.get(key)) for key, value in sorted(one.items()))
    if one == other or one is None:
        return 0.0
    if isinstance(one, int | float) and isinstance(other, int | float):
        return max(0.0, one - other) / (abs(one) + abs(other))
    return 1.0


def _shortened(config: TrialConfig, most: int) -> TrialConfig:
    """The same trial with so many epochs of each kind at most."""
    groups = {group: getattr(config, group) for group in ("generator", "finetuner")}
    long = {group: own for group, own in groups.items() if getattr(own, "epochs", 0) > most}
    update = {group: own.model_copy(update={"epochs": most}) for group, own in long.items()}
    return config.model_copy(update=update)


def _whole(config: TrialConfig, few: int, stage: str, items: Sequence[float]) -> float:
    """Of a stage with all its epochs, by what each item of a short trial took."""
    own = config.generator if stage.endswith("generator") else config.finetuner
    epochs = 0 if stage in ("selection_quality", "test") else getattr(own, "epochs", 0)
    ages = AGES if config.selection == "reference" and stage == "selection" else 1
    targets = max(1, len(config.targets)) if stage == "final" else 1
    left = ages * targets * epochs - len(items) + (stage == "selection" and ages == 1)
    # the low one: an item that begins something else, such as a set of synthetic features, is dear
    return math.fsum(items) + max(0, left) * statistics.median_low(items or [0.0])


@contextmanager
def _limited(threads: int, seconds: float) -> Iterator[None]:
    """Torch with so many threads; TimeoutError once this process has used so much of its time."""
    import torch

    def ring(*_: object) -> None:
        raise TimeoutError

    before = torch.get_num_threads(), signal.signal(signal.SIGPROF, ring)
    torch.set_num_threads(threads)
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        torch.set_num_threads(before[0])
        signal.signal(signal.SIGPROF, before[1])
