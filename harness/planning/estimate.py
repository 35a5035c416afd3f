"""Estimate how long the rest of a study will take, from the trials that have finished."""

import math
from collections import defaultdict
from collections.abc import Sequence

from harness.config import StudyConfig
from harness.planning.division import divide_work
from harness.planning.plan import Plan, TimeEstimate, Work
from harness.resources import count_slots, get_machine_resources
from harness.store import RunRecord, Tag


def estimate_time(study: StudyConfig, plan: Plan, runs: Sequence[RunRecord]) -> TimeEstimate | None:
    """Estimate the time of a plan from the seconds per seed of finished trials.

    Each remaining seed is assumed to take the mean time of its configuration's finished seeds. If
    there are none, it is the mean over all configurations except controls, because some controls
    take almost no time.

    The number of concurrent trials is that of this machine, even if the study runs on a cluster.

    Args:
        study: The study. Its `resources.gpus` must be a number.
        plan: Plan of the study.
        runs: Trials of this study, and trials of other studies with the same configurations. Only
            trials that have a time and ran on the study's kind of device (CPU or GPU) are used. A
            trial whose device is not recorded counts as run on a GPU.

    Returns:
        The estimate. None if nothing is left to run, or if a mean over all configurations is needed
        and only controls have usable trials. The mean is needed for configurations without a usable
        trial, and for future proposals.
    """
    if plan.finished:
        return None
    on_gpu = bool(study.resources.gpus)
    usable_runs = [run for run in runs if run.seconds and _ran_on_gpu(run) == on_gpu]
    controls = {configuration.key for configuration in plan.configurations if configuration.control}
    usable_non_controls = [
        run for run in usable_runs if not run.control and run.config_key not in controls
    ]
    runs_by_key = defaultdict[str, list[RunRecord]](list)
    for run in usable_runs:
        runs_by_key[run.config_key].append(run)
    keys_without_runs = {work.configuration.key for work in plan.work} - runs_by_key.keys()
    if not usable_non_controls and (keys_without_runs or plan.n_proposals):
        return None
    mean_seconds = _mean_seconds(usable_non_controls or usable_runs)
    seconds_by_key = {key: _mean_seconds(key_runs) for key, key_runs in runs_by_key.items()}
    n_slots = count_slots(study.resources, get_machine_resources(), study.max_concurrent_trials)
    divided_work = divide_work(study, plan.work, plan.history, n_slots)

    def estimate_seconds(work: Work) -> float:
        return seconds_by_key.get(work.configuration.key, mean_seconds) * len(work.seeds)

    return TimeEstimate(
        seconds={work.configuration.key: estimate_seconds(work) for work in plan.work},
        trials=tuple(map(estimate_seconds, divided_work)),
        proposal_seconds=(mean_seconds * len(study.seeds),) * plan.n_proposals,
        n_concurrent=max(1, min(n_slots, len(divided_work) + plan.n_proposals)),
        n_finished_trials=len(usable_runs),
    )


def _ran_on_gpu(run: RunRecord) -> bool:
    return not run.logged.tags.get(Tag.DEVICE, "").startswith("cpu")


def _mean_seconds(runs: Sequence[RunRecord]) -> float:
    return math.fsum(run.seconds or 0 for run in runs) / sum(len(run.seeds) for run in runs)
