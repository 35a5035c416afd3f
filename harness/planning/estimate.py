"""About how long the rest of a study will take: by runs that have ended, else by a few steps."""

import math
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from harness.config import StudyConfig, baseline, resolve
from harness.device import usable_gpus
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Estimate, Plan
from harness.resources import machine_resources, slots
from harness.store import LedgerRun
from harness.wording import one_line
from reports.contract import Tag, count
from ship.subsets import FeatureSet, bare_features
from ship.trial_config import TrialConfig

# What finding out may take, of the processor's time.
BUDGET = 15.0
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
) -> Estimate | None:
    """What a plan takes: by the seconds a seed of runs that have ended, or without any, by steps.

    Args:
        study: with resources in numbers.
        runs: that have ended, of the study and of its settings in other studies.
        say: told that steps are timed, or why there is no estimate.
    """
    if plan.finished or not fingerprints.method.timed:
        return None
    on_gpu = bool(study.resources.gpus)
    devices = ((run, run.logged.tags.get(Tag.DEVICE, "")) for run in runs if run.seconds)
    ended = [run for run, device in devices if on_gpu != device.startswith("cpu")]
    arms = {setting.key for setting in plan.settings if setting.arm}
    # those of reference arms say nothing of other settings: some take no time
    own = [run for run in ended if not run.arm and run.setting_key not in arms]
    by_key = defaultdict[str, list[LedgerRun]](list)
    for run in ended:
        by_key[run.setting_key].append(run)
    unknown = {work.setting.key for work in plan.work} - by_key.keys() - arms
    typical = resolve(study, baseline(study))
    source = count(len(ended), "finished trial")
    paces = {"": _mean(own)} if own else {}
    if not own and (unknown or plan.proposals):
        say(f"no finished trials yet: timing a few steps here, in {BUDGET:.0f} s of processor time")
        source = "a few steps of the baseline here, scaled by epochs: rough"
        try:
            paces = _paces(study, typical, fingerprints)
        except Exception as error:  # whatever it is, the plan can be shown without
            say(f"the time of trials cannot be told: {one_line(error)}")
            return None

    def a_seed(key: str, config: TrialConfig) -> float:
        if key in by_key:
            return _mean(by_key[key])
        return math.fsum(_epochs(config, stage) * pace for stage, pace in paces.items())

    work = {one.setting.key: one for one in plan.work}
    places = slots(study.resources, machine_resources(), study.concurrency)
    return Estimate(
        {key: a_seed(key, one.setting.config) * len(one.seeds) for key, one in work.items()},
        (a_seed("", typical) * len(study.seeds),) * plan.proposals,
        max(1, min(places, len(plan.work) + plan.proposals)),
        source,
    )


def _mean(runs: Sequence[LedgerRun]) -> float:
    """Seconds a seed."""
    return math.fsum(run.seconds or 0 for run in runs) / sum(len(run.seeds) for run in runs)


def _paces(study: StudyConfig, config: TrialConfig, fingerprints: Fingerprints) -> dict[str, float]:
    """Seconds a seed that an epoch of each stage of a setting takes here; "": all but epochs.

    A trial of FEW epochs and seeds is run on noise, twice: the first one warms up.

    Raises:
        ValueError: trials take a GPU, and there is none here.
        TimeoutError: there is not even time for so much.
    """
    method = fingerprints.method
    threads = study.resources.threads
    # of the processor's time, as others may use the machine; of a GPU by seconds that pass
    device, clock, many = "cpu", time.process_time, FEW * threads
    if study.resources.gpus:
        if not usable_gpus():
            raise ValueError("no trial has finished, and no GPU is here")
        device, clock, many = method.accelerator, time.perf_counter, FEW
    few = {
        key: own.model_copy(update={"epochs": min(FEW, own.epochs)})
        for key in ("generator", "finetuner")
        if hasattr(own := getattr(config, key), "epochs")
    }
    trial, names = config.model_copy(update=few), (config.dataset, *config.targets)
    with _limited(threads):
        clip = method.load_backbone(config.backbone, device, config.precision)
        sets = {name: _noise(config, name, fingerprints.pictures(name), clip) for name in names}
        for _ in range(2):
            spent, before = defaultdict[str, list[float]](list), clock()
            for item in method.run_trial(trial, range(FEW), sets[names[0]], clip, sets, None):
                now = clock()
                counts = item.epoch and _epochs(config, item.stage)
                spent[item.stage if counts else ""].append((now - before) / many)
                before = now
    if config.selection == "pseudo_new":  # on noise, epoch 0 may be the best one
        spent.setdefault("final", spent["selection"])
    rest = math.fsum(spent.pop(""))
    # the low one: an epoch that begins something, such as a set of features, is dear
    return {"": rest} | {
        stage: statistics.median_low(each) for stage, each in spent.items() if each
    }


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
        raise TimeoutError("one epoch takes more processor time than there is to find out")

    n_threads = torch.get_num_threads()
    handler = signal.signal(signal.SIGPROF, ring)
    torch.set_num_threads(threads)
    signal.setitimer(signal.ITIMER_PROF, BUDGET)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        torch.set_num_threads(n_threads)
        signal.signal(signal.SIGPROF, handler)
