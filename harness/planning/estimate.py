"""About how long the rest of a study will take: by runs that have ended, else by a few steps."""

import math
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from harness.config import StudyConfig, bare_features, baseline, resolve
from harness.device import usable_gpus
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Estimate, Plan
from harness.planning.settings import SettingMaker, enumerate_settings
from harness.resources import machine_resources, slots
from harness.store import LedgerRun
from harness.wording import one_line
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig

# What finding out may take, of the processor's time.
BUDGET = 15.0
# What a study takes beside features and trials: Ray starts, workers load a backbone, Ray ends.
START = 15.0
# Settings of a space that stand for all that may be proposed.
MOST_COUNTED = 100
# Epochs of each kind, and seeds at once, that are timed: fewer than two of either mislead.
FEW = 2
# Ages of the generator that selection `reference` trains a fine-tuner for.
AGES = 5

# called with a line for people
Say = Callable[[str], None]


def estimate_time(
    study: StudyConfig,
    plan: Plan,
    runs: Sequence[LedgerRun],
    fingerprints: Fingerprints,
    say: Say,
    features: Callable[[], float | None] = lambda: None,
) -> Estimate | None:
    """What a plan takes, by the seconds a seed of runs that have ended or, without any, by steps.

    Args:
        study: with resources in numbers.
        runs: that have ended, of the study and of its settings in other studies.
        say: told that steps are timed, or why there is no estimate.
        features: seconds for those that the cache lacks, None: not known; asked for with steps.
    """
    if plan.finished or not fingerprints.method.timed:
        return None
    until = time.process_time() + BUDGET
    left = [(work.setting.key, work.setting.config, len(work.seeds)) for work in plan.work]
    left += [("", config, len(study.seeds)) for config in _proposed(study, plan, fingerprints)]
    gpu = bool(study.resources.gpus)
    runs = [run for run in runs if run.seconds and run.device.startswith("cpu") is not gpu]
    arms = {setting.key for setting in plan.settings if setting.arm}
    known, usual = seconds_a_seed(runs, arms)
    if usual is None and any(key not in known and key not in arms for key, *_ in left):
        say(f"no finished trials yet: timing a few steps here, in {BUDGET:.0f} s of processor time")
        extraction = features()
        try:
            configs = [resolve(study, baseline(study)), *(config for _, config, _ in left)]
            quick = {place for place, (key, *_) in enumerate(left, 1) if key in arms}
            (_, *each), n_timed = _Steps(study, fingerprints, until).seconds(configs, quick)
        except Exception as error:  # whatever it is, the plan can be shown without
            say(f"the time of trials cannot be told: {one_line(error)}")
            return None
        source = f"a few steps here of {n_timed} settings, scaled to all epochs"
    else:
        each = [known.get(key, usual or 0.0) for key, *_ in left]
        extraction, source = None, f"{len(runs)} finished trial{'s' * (len(runs) != 1)}"
    whole = [(key, a_seed * n) for (key, _, n), a_seed in zip(left, each, strict=True)]
    proposed = [seconds for key, seconds in whole if not key]
    return Estimate(
        {key: seconds for key, seconds in whole if key},
        plan.proposals * math.fsum(proposed) / max(1, len(proposed)),
        trials_at_once(study, len(plan.work) + plan.proposals),
        source,
        plan.proposals,
        extraction,
        START,
    )


def seconds_a_seed(
    runs: Sequence[LedgerRun], arms: Set[str]
) -> tuple[Mapping[str, float], float | None]:
    """Seconds a seed of complete runs: by setting, and of all that are not of reference arms.

    Args:
        arms: settings that are reference arms here; elsewhere they may have been levels.
    """
    groups: dict[str, list[LedgerRun]] = {}
    for run in runs:
        groups.setdefault(run.setting_key, []).append(run)
    own = [run for run in runs if not run.arm and run.setting_key not in arms]
    return {key: _mean(group) for key, group in groups.items()}, _mean(own) if own else None


def trials_at_once(study: StudyConfig, trials: int) -> int:
    """How many of some trials run at once on this machine, by the resources of each."""
    places = slots(study.resources, machine_resources(study.resources), study.concurrency)
    return max(1, min(places, trials))


def _mean(runs: Sequence[LedgerRun]) -> float:
    return math.fsum(run.seconds or 0 for run in runs) / sum(len(run.seeds) for run in runs)


def _proposed(study: StudyConfig, plan: Plan, fingerprints: Fingerprints) -> list[TrialConfig]:
    """Settings that stand for those that a sampler will still propose."""
    if not plan.proposals:
        return []
    spare = enumerate_settings(study, SettingMaker(study, fingerprints))
    if spare:  # some of them, evenly, stand for all
        return [setting.config for setting in spare[:: -(-len(spare) // MOST_COUNTED)]]
    return [resolve(study, baseline(study))]


class _Steps:
    """Times settings of a study."""

    def __init__(self, study: StudyConfig, fingerprints: Fingerprints, until: float) -> None:
        """Nothing is timed yet.

        Args:
            study: with resources in numbers.
            fingerprints: with the method and the pictures.
            until: when there is no more time, by this process's processor time.

        Raises:
            ValueError: trials take a GPU, and there is none here.
        """
        if study.resources.gpus and not usable_gpus():
            raise ValueError("no trial has finished, and no GPU is here")
        self._method, self._pictures = fingerprints.method, fingerprints.pictures
        self._load = lru_cache(maxsize=1)(self._method.load_backbone)
        self._device = self._method.accelerator if study.resources.gpus else "cpu"
        self._threads = max(1, math.ceil(study.resources.cpus))
        self._until = until

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
        with _limited(self._threads, self._until - time.process_time()), suppress(TimeoutError):
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
        clip = self._load(config.backbone, self._device, config.precision)
        sets = {name: self._noise(config, name, clip) for name in (config.dataset, *config.targets)}
        short, spent = _shortened(config, few), defaultdict[str, list[float]](list)
        own, before = sets[config.dataset], self._clock()
        for item in self._method.run_trial(short, range(few), own, clip, sets, None):
            now = self._clock()
            spent[item.stage].append(now - before)
            before = now
        if "final_generator" in spent:  # on noise, epoch 0 may be the best one
            spent.setdefault("final", spent["selection"][1:])
        return sum(_whole(config, few, *stage) for stage in spent.items()) / few

    def _clock(self) -> float:
        """Seconds of the processor, as others may use the machine; of a GPU seconds that pass."""
        cpu = self._device == "cpu"
        return time.process_time() / self._threads if cpu else time.perf_counter()

    def _noise(self, config: TrialConfig, name: str, clip: Any) -> FeatureSet:
        """Unit-norm noise for each picture of a dataset that a trial may look at."""
        bare, rng = bare_features(name, self._pictures(name)), np.random.default_rng(0)
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
