"""About how long the rest of a study will take: by runs that have ended, else by a few steps."""

import math
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache

from harness.config import StudyConfig, baseline, resolve
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Estimate, Plan
from harness.planning.settings import SettingMaker, enumerate_settings
from harness.planning.steps import Steps
from harness.resources import slots
from harness.store import LedgerRun
from harness.wording import one_line
from ship.trial_config import TrialConfig

# What finding out may take, of the processor's time.
BUDGET = 15.0
# What a study takes beside features and trials: Ray starts, workers load a backbone, Ray ends.
START = 15.0
# Settings of a space that stand for all that may be proposed.
MOST_COUNTED = 100

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
            each, n_timed = _by_steps(study, left, arms, fingerprints, until)
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
    from harness.resources import machine_resources

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


def _by_steps(
    study: StudyConfig,
    left: Sequence[tuple[str, TrialConfig, int]],
    arms: Set[str],
    fingerprints: Fingerprints,
    until: float,
) -> tuple[list[float], int]:
    """Seconds a seed of each setting, by those that are most like it, and how many were timed."""
    from harness.resources import usable_gpus

    if study.resources.gpus and not usable_gpus():
        raise ValueError("no trial has finished, and no GPU is here")
    load = lru_cache(maxsize=1)(fingerprints.method.load_backbone)
    method = replace(fingerprints.method, load_backbone=load)
    device = method.accelerator if study.resources.gpus else "cpu"
    threads = max(1, math.ceil(study.resources.cpus))
    steps = Steps(method, fingerprints.pictures, device, threads, until)
    configs = [resolve(study, baseline(study)), *(config for _, config, _ in left)]
    quick = {place for place, (key, *_) in enumerate(left, 1) if key in arms}
    seconds, n_timed = steps.seconds(configs, quick)
    return seconds[1:], n_timed
