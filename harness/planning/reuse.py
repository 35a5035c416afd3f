"""Find results of other studies that a study can reuse, and plan the study with them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, Work, make_plan, prunes_trials
from harness.store import LOAD, Cost, RunHistory, RunRecord, name_seed_metric, split_curve
from harness.wording import count
from ship.trial_config import TrialConfig


@dataclass(frozen=True)
class ReusedRun:
    """Results of another study's run that are reused.

    Attributes:
        run: Run of the other study.
        work: Configuration and seeds whose results the run provides, in place of a trial.
    """

    run: RunRecord
    work: Work


def find_reusable_runs(
    study: StudyConfig, plan: Plan, runs: Iterable[RunRecord]
) -> list[ReusedRun]:
    """Find results of other studies that a plan can reuse. The oldest run of each seed is used.

    Configurations with equal keys have equal results, because a key covers data, weights, plugins
    and the results version.

    - A run is not reused if it lacks a cost (time, peak memory, text tokens), the selection metric,
      or a metric that `log` requests.
    - If the scheduler may stop a configuration, either all of its missing seeds are reused or none.
      With only some of them, the scheduler could no longer stop the others: seeds that are added to
      a configuration with finished seeds always run to the end.

    Args:
        study: The study.
        plan: Plan of the study.
        runs: COMPLETE runs of other studies, oldest first.
    """
    runs_by_key: dict[str, list[RunRecord]] = {}
    for run in runs:
        runs_by_key.setdefault(run.config_key, []).append(run)
    reused_runs = []
    for work in plan.work:
        candidates, missing = list[ReusedRun](), set(work.seeds)
        for run in runs_by_key.get(work.configuration.key, ()):
            config = work.configuration.trial
            reusable_seeds = {
                seed for seed in missing & set(run.seeds) if _is_reusable(study, config, run, seed)
            }
            seeds = tuple(seed for seed in work.seeds if seed in reusable_seeds)
            if seeds:
                candidates.append(ReusedRun(run, replace(work, seeds=seeds)))
            missing -= reusable_seeds
        if not (missing and work.may_stop and prunes_trials(study)):
            reused_runs += candidates
    return reused_runs


def _is_reusable(study: StudyConfig, config: TrialConfig, run: RunRecord, seed: int) -> bool:
    """Return True if a run has finished a seed and has all metrics that the study would log."""
    metrics, objective = run.logged.metrics, config.selection_metric
    required: list[str] = [Cost.SECONDS, Cost.PEAK_MEMORY, Cost.TEXT_TOKENS]
    if objective:
        required.append(name_seed_metric(seed, f"selection/{objective}"))
    curves = filter(None, map(split_curve, metrics))
    has_curves = any(curve_seed == seed for curve_seed, *_ in curves)
    has_load = any(name.startswith(LOAD) for name in metrics)
    return (
        seed in run.seeds_with_outcome
        and all(math.isfinite(metrics.get(name, math.nan)) for name in required)
        and (has_curves or not study.log.seed_curves)
        and (has_load or not study.log.system_metrics)
    )


def plan_after_reuse(
    study: StudyConfig,
    history: RunHistory,
    reused_runs: Sequence[ReusedRun],
    fingerprints: Fingerprints,
    retry_before: int = 0,
) -> tuple[RunHistory, Plan]:
    """Return the run history and the plan as they will be after results have been reused.

    The returned history is only for a preview of the plan: its reused runs still have the
    assignment and the control of the study they come from.

    Args:
        study: The study.
        history: Run history of the study, without the reused results.
        reused_runs: Results to reuse.
        fingerprints: Fingerprints of the study's data and weights.
        retry_before: See `make_plan`.
    """
    runs = list(history.runs)
    for reused in reused_runs:
        run, seeds = reused.run, reused.work.seeds
        seconds = run.seconds and run.seconds * len(seeds) / len(run.seeds)
        runs.append(replace(run, seeds=seeds, seconds=seconds))
    extended = replace(history, runs=tuple(runs))
    return extended, make_plan(study, extended, fingerprints, retry_before)


def format_reuse(reused_runs: Sequence[ReusedRun]) -> list[str]:
    """Return a line for each study whose results are reused, with the option to disable reuse."""
    lines = []
    for study in dict.fromkeys(reused.run.study_name for reused in reused_runs):
        works = [reused.work for reused in reused_runs if reused.run.study_name == study]
        n_seeds = sum(len(work.seeds) for work in works)
        n_configurations = len({work.configuration.key for work in works})
        amount = f"{count(n_seeds, 'seed')} of {count(n_configurations, 'configuration')}"
        lines.append(f"results of {amount} reused from study {study}. Use --no-reuse to rerun them")
    return lines
