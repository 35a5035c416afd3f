"""Estimate how long the rest of a study will take, from the trials that have finished."""

import math
from collections import defaultdict
from collections.abc import Sequence

from harness.config import StudyConfig
from harness.planning.division import divide_work
from harness.planning.plan import Plan, TimeEstimate, Work
from harness.resources import count_slots, machine_resources
from harness.store import RunRecord, Tag


def estimate_time(study: StudyConfig, plan: Plan, runs: Sequence[RunRecord]) -> TimeEstimate | None:
    """Estimate the time of a plan from the seconds per seed of finished trials.

    A seed is expected to take the mean time of the configuration's finished seeds. If there are
    none, the mean over the finished seeds of all configurations is used, without controls, some of
    which take almost no time.

    Args:
        study: The study, with resolved resources.
        plan: Plan of the study.
        runs: Trials of the study, and of its configurations in other studies. Trials on another
            kind of device (CPU or GPU) than the study uses, and trials without a time, are ignored.

    Returns:
        The estimate. None if nothing is left to run, or if the time of a remaining or future
        configuration is unknown. It is unknown if neither this configuration nor any other, apart
        from controls, has a finished trial on this kind of device.
    """
    if plan.finished:
        return None
    on_gpu = bool(study.resources.gpus)
    devices = ((run, run.logged.tags.get(Tag.DEVICE, "")) for run in runs if run.seconds)
    finished = [run for run, device in devices if on_gpu != device.startswith("cpu")]
    controls = {configuration.key for configuration in plan.configurations if configuration.control}
    typical = [run for run in finished if not run.control and run.config_key not in controls]
    runs_by_key = defaultdict[str, list[RunRecord]](list)
    for run in finished:
        runs_by_key[run.config_key].append(run)
    unknown = {work.configuration.key for work in plan.work} - runs_by_key.keys()
    if not typical and (unknown or plan.n_proposals):
        return None
    mean_seconds = _mean_seconds(typical or finished)
    seconds_by_key = {key: _mean_seconds(key_runs) for key, key_runs in runs_by_key.items()}
    n_slots = count_slots(study.resources, machine_resources(), study.max_concurrent_trials)
    trials = divide_work(study, plan.work, plan.history, n_slots)

    def estimate_seconds(work: Work) -> float:
        return seconds_by_key.get(work.configuration.key, mean_seconds) * len(work.seeds)

    return TimeEstimate(
        seconds={work.configuration.key: estimate_seconds(work) for work in plan.work},
        trials=tuple(map(estimate_seconds, trials)),
        proposal_seconds=(mean_seconds * len(study.seeds),) * plan.n_proposals,
        n_concurrent=max(1, min(n_slots, len(trials) + plan.n_proposals)),
        n_trials=len(finished),
    )


def _mean_seconds(runs: Sequence[RunRecord]) -> float:
    return math.fsum(run.seconds or 0 for run in runs) / sum(len(run.seeds) for run in runs)
