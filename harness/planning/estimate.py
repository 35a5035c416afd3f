"""About how long the rest of a study will take: by runs that have ended, else by a few steps."""

import math
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from harness.config import StudyConfig, bare_features, baseline, resolve
from harness.device import usable_gpus
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Estimate, Plan
from harness.resources import machine_resources, slots
from harness.store import LedgerRun
from harness.wording import one_line
from ship.subsets import FeatureSet
from ship.trial_config import TrialConfig

# What finding out may take, of the processor's time.
BUDGET = 15.0
# What a study takes beside features and trials: Ray starts, workers load a backbone, Ray ends.
START = 15.0
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
    """What a plan takes: by the seconds a seed of runs that have ended, or without any, by steps.

    Args:
        study: with resources in numbers.
        runs: that have ended, of the study and of its settings in other studies.
        say: told that steps are timed, or why there is no estimate.
        features: seconds for those that the cache lacks, None: not known; asked for with steps.
    """
    if plan.finished or not fingerprints.method.timed:
        return None
    gpu = bool(study.resources.gpus)
    ended = [run for run in runs if run.seconds and run.device.startswith("cpu") is not gpu]
    arms = {setting.key for setting in plan.settings if setting.arm}
    known: dict[str, list[LedgerRun]] = {}
    for run in ended:
        known.setdefault(run.setting_key, []).append(run)
    # those of reference arms say nothing of other settings: some take no time
    own = [run for run in ended if not run.arm and run.setting_key not in arms]
    typical, extraction = resolve(study, baseline(study)), None
    left = {work.setting.key: (work.setting.config, len(work.seeds)) for work in plan.work}
    if own or not (left.keys() - known.keys() - arms or plan.proposals):
        usual = _mean(own) if own else 0.0
        source = f"{len(ended)} finished trial{'s' * (len(ended) != 1)}"

        def a_seed(key: str, config: TrialConfig) -> float:
            return _mean(known[key]) if key in known else usual
    else:
        say(f"no finished trials yet: timing a few steps here, in {BUDGET:.0f} s of processor time")
        extraction = features()
        try:
            paces = _paces(study, [typical, *(config for config, _ in left.values())], fingerprints)
        except Exception as error:  # whatever it is, the plan can be shown without
            say(f"the time of trials cannot be told: {one_line(error)}")
            return None
        source = "a few steps here, scaled by epochs: rough"

        def a_seed(key: str, config: TrialConfig) -> float:
            each = zip(_methods(config), _methods(typical), strict=True)
            # where there was no time for a method, that of the baseline
            own = [paces.get(method, paces[usual]) for method, usual in each]
            return sum(_epochs(config, stage) * pace for one in own for stage, pace in one.items())

    return Estimate(
        {key: a_seed(key, config) * n for key, (config, n) in left.items()},
        a_seed("", typical) * len(study.seeds) * plan.proposals,
        trials_at_once(study, len(plan.work) + plan.proposals),
        source,
        plan.proposals,
        extraction,
        START,
    )


def trials_at_once(study: StudyConfig, trials: int) -> int:
    """How many of some trials run at once on this machine, by the resources of each."""
    places = slots(study.resources, machine_resources(study.resources), study.concurrency)
    return max(1, min(places, trials))


def _mean(runs: Sequence[LedgerRun]) -> float:
    """Seconds a seed."""
    return math.fsum(run.seconds or 0 for run in runs) / sum(len(run.seeds) for run in runs)


def _paces(
    study: StudyConfig, configs: Iterable[TrialConfig], fingerprints: Fingerprints
) -> dict[str, dict[str, float]]:
    """How long a seed takes here, by the first settings of each generator and fine-tuner.

    Returns:
        For each method that there was time for: the seconds of an epoch of each of its stages, and
        under "" those of a fine-tuner's trial that belong to no epoch.

    Raises:
        ValueError: trials take a GPU, and there is none here; there is not even time for the first.
    """
    if study.resources.gpus and not usable_gpus():
        raise ValueError("no trial has finished, and no GPU is here")
    paces: dict[str, dict[str, float]] = {}
    load = cache(fingerprints.method.load_backbone)
    threads = max(1, math.ceil(study.resources.cpus))
    # of the processor's time, as others may use the machine; of a GPU by seconds that pass
    device, clock, many = "cpu", time.process_time, FEW * threads
    if study.resources.gpus:
        device, clock, many = fingerprints.method.accelerator, time.perf_counter, FEW
    with _limited(threads), suppress(TimeoutError):
        for config in configs:
            if paces.keys() >= set(_methods(config)):
                continue
            clip = load(config.backbone, device, config.precision)
            for _ in range(1 if paces else 2):  # the very first one warms up
                spent, before = defaultdict[str, list[float]](list), clock()
                for item in _few_epochs(config, fingerprints, clip):
                    now = clock()
                    counts = item.epoch and _epochs(config, item.stage)
                    spent[item.stage if counts else ""].append((now - before) / many)
                    before = now
            if config.selection == "pseudo_new":  # on noise, epoch 0 may be the best one
                spent.setdefault("final", spent["selection"])
            rest = math.fsum(spent.pop(""))
            # the low one: an epoch that begins something, such as a set of features, is dear
            low = {stage: statistics.median_low(each or [0.0]) for stage, each in spent.items()}
            of_generator = {stage for stage in low if stage.endswith("generator")}
            generator, finetuner = _methods(config)
            paces.setdefault(generator, {stage: low.pop(stage) for stage in of_generator})
            paces.setdefault(finetuner, {"": rest, **low})
    if not paces:
        raise ValueError("one epoch takes more processor time than there is to find out")
    return paces


def _methods(config: TrialConfig) -> tuple[str, str]:
    return f"generator {config.generator.name}", f"finetuner {config.finetuner.name}"


def _few_epochs(config: TrialConfig, fingerprints: Fingerprints, clip: Any) -> Iterator[Any]:
    """A trial of so many epochs and seeds, on noise."""
    groups = {key: getattr(config, key) for key in ("generator", "finetuner")}
    long = {key: own for key, own in groups.items() if getattr(own, "epochs", 0) > FEW}
    few = {key: own.model_copy(update={"epochs": FEW}) for key, own in long.items()}
    names = (config.dataset, *config.targets)
    sets = {name: _noise(config, name, fingerprints.pictures(name), clip) for name in names}
    trial, own = config.model_copy(update=few), sets[config.dataset]
    yield from fingerprints.method.run_trial(trial, range(FEW), own, clip, sets, None)


def _epochs(config: TrialConfig, stage: str) -> int:
    """How many epochs a trial has in a stage, in all; 0: it has none there; "" counts as one."""
    if stage in ("", "selection_quality", "test"):
        return int(not stage)
    own = config.generator if stage.endswith("generator") else config.finetuner
    times = AGES if config.selection == "reference" and stage == "selection" else 1
    times *= max(1, len(config.targets)) if stage == "final" else 1
    return times * int(getattr(own, "epochs", 0))


def _noise(config: TrialConfig, name: str, pictures: Any, clip: Any) -> FeatureSet:
    """Unit-norm noise for each picture of a dataset that a trial may look at."""
    bare, rng = bare_features(name, pictures), np.random.default_rng(0)
    labels = np.sort(bare.train_labels)
    nth = np.arange(len(labels)) - np.searchsorted(labels, labels)
    labels = labels[nth < (config.shots or len(labels))]

    def drawn(*shape: int) -> Any:
        x = rng.standard_normal((*shape, clip.feature_dim), dtype=np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    train, val = drawn(len(labels), 1 + config.views), drawn(len(bare.val_labels))
    test = drawn(len(bare.test_labels))
    return replace(bare, train=train, train_labels=labels, val=val, test=test)


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """Torch with so many threads; TimeoutError once BUDGET of this process's time is used."""
    import torch

    def ring(*_: object) -> None:
        raise TimeoutError

    before = torch.get_num_threads(), signal.signal(signal.SIGPROF, ring)
    torch.set_num_threads(threads)
    signal.setitimer(signal.ITIMER_PROF, BUDGET)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        torch.set_num_threads(before[0])
        signal.signal(signal.SIGPROF, before[1])
