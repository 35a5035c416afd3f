"""Which seeds of a study's settings other studies of the store have finished already."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, Work, make_plan, study_prunes
from harness.store import Known, Ledger, LedgerRun
from harness.wording import count
from reports.contract import LOAD, PROTOCOLS, Cost, curve_metric, seed_metric
from ship.trial_config import TrialConfig


@dataclass(frozen=True)
class Adoption:
    """Seeds of one setting that need not run.

    known: the run that has them. work: the setting, and those of its seeds that the study lacks.
    """

    known: Known
    work: Work


def adoptions(study: StudyConfig, plan: Plan, known: Iterable[Known]) -> list[Adoption]:
    """What of a plan's work finished runs of other studies have, each seed of the oldest.

    A setting's key holds all that decides its numbers: data, weights, plugins and the version of
    the results. A run that lacks a number, or what `record` asks for, serves nothing. A setting
    that the scheduler may stop is taken whole or not at all: seeds beside finished ones are never
    stopped.
    """
    runs: dict[str, list[Known]] = {}
    for one in known:
        runs.setdefault(one.row.setting_key, []).append(one)
    found = []
    for work in plan.work:
        parts, left = list[Adoption](), set(work.seeds)
        for one in runs.get(work.setting.key, ()):
            own = left & set(one.row.seeds)
            seeds = tuple(
                seed
                for seed in work.seeds
                if seed in own and _is_whole(study, work.setting.config, one, seed)
            )
            if seeds:
                left -= set(seeds)
                parts.append(Adoption(one, replace(work, seeds=seeds)))
        if not (left and work.may_stop and study_prunes(study)):
            found += parts
    return found


def _is_whole(study: StudyConfig, config: TrialConfig, known: Known, seed: int) -> bool:
    """Whether a run has of a seed what it would have if the study ran it now."""
    metrics, objective = known.run.metrics, config.selection_metric
    needed: list[str] = [Cost.SECONDS, Cost.PEAK_MEMORY, Cost.TEXT_TOKENS]
    needed += [seed_metric(seed, f"test/{name}") for name in PROTOCOLS[config.protocol].required]
    needed += [seed_metric(seed, f"selection/{objective}")] if objective else []
    prefixes = [curve_metric(seed, "")] * study.record.seed_curves
    prefixes += [LOAD] * study.record.system_metrics
    return all(math.isfinite(metrics.get(name, math.nan)) for name in needed) and all(
        any(name.startswith(prefix) for name in metrics) for prefix in prefixes
    )


def once_adopted(
    study: StudyConfig, ledger: Ledger, found: Sequence[Adoption], fingerprints: Fingerprints
) -> tuple[Ledger, Plan]:
    """The ledger and the plan as they will be once the study has adopted what was found."""
    whole = replace(ledger, runs=(*ledger.runs, *map(_row, found)))
    return whole, make_plan(study, whole, fingerprints)


def _row(one: Adoption) -> LedgerRun:
    """The row of what is adopted; its seconds are the share of its seeds."""
    row, setting, seeds = one.known.row, one.work.setting, one.work.seeds
    return replace(
        row,
        arm=setting.arm,
        assignment=setting.assignment,
        for_path=setting.for_path,
        seeds=seeds,
        seconds=row.seconds and row.seconds * len(seeds) / len(row.seeds),
    )


def adoption_lines(found: Sequence[Adoption]) -> list[str]:
    """E.g. "12 seeds of 3 settings are known from study kl_weight, and not computed again"."""
    lines = []
    for study in dict.fromkeys(one.known.study for one in found):
        works = [one.work for one in found if one.known.study == study]
        seeds, settings = sum(len(w.seeds) for w in works), len({w.setting.key for w in works})
        many = f"{count(seeds, 'seed')} of {count(settings, 'setting')}"
        known = f"{'is' if seeds == 1 else 'are'} known from study {study}"
        lines.append(f"{many} {known}, and not computed again")
    return lines
