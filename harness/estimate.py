"""How long the rest of a study will take: each setting's FLOPs, at this machine's pace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.factor import in_order, is_active
from harness.settings import SettingMaker, enumerate_settings
from harness.space import resolve

if TYPE_CHECKING:
    from harness.costs import AnalyticCosts
    from harness.fingerprints import Fingerprints
    from harness.ledger import Ledger, LedgerRun
    from harness.method import Method
    from harness.plan import Plan, Work
    from harness.study_config import StudyConfig
    from ship.trial_config import TrialConfig

# called with a line for people
Say = Callable[[str], None]


@dataclass(frozen=True)
class Estimate:
    """Time of what is left, computation alone; an upper bound where trials may end sooner.

    seconds: setting key -> of its missing seeds.
    proposals: seconds of all settings that the sampler will still propose.
    at_once: how many trials run at once on this machine.
    source: where the numbers come from, e.g. "12 finished trials".
    """

    seconds: Mapping[str, float]
    proposals: float
    at_once: int
    source: str

    @property
    def compute(self) -> float:
        """Seconds, one trial after the other."""
        return math.fsum(self.seconds.values()) + self.proposals

    @property
    def wall(self) -> float:
        """Seconds on this machine; no less than the longest trial takes."""
        return max(self.compute / self.at_once, *self.seconds.values(), 0.0)


def estimate(
    study: StudyConfig,
    plan: Plan,
    ledger: Ledger,
    fingerprints: Fingerprints,
    say: Say,
) -> Estimate | None:
    """Estimate what a plan takes, from finished runs or, without any, from a calibration.

    Args:
        fingerprints: for the keys of settings that a sampler may propose, the method, the data.
        say: told that a calibration takes its time, or why there is no estimate.

    Returns:
        None where it cannot be told.
    """
    method = fingerprints.method
    if method.costs is None or plan.finished:
        return None
    try:
        costs = method.costs(fingerprints.data_root)
        flops = {work.setting.key: _flops(costs, work) for work in plan.work}
        proposed = _proposed(study, plan, fingerprints)
        each = [costs(config, len(study.seeds)) for config in proposed]
        proposals = plan.proposals * math.fsum(each) / len(each) if each else 0.0
        rates = _rates(ledger.runs, gpu=bool(study.resources.gpus))
        configs = {work.setting.key: work.setting.config for work in plan.work}
        backbones = {config.backbone for config in (*configs.values(), *proposed)}
        trials = sum(n for _, n in rates.values())
        source = "1 finished trial" if trials == 1 else f"{trials} finished trials"
        if not backbones <= rates.keys():
            rates, source = _measured(study, plan, proposed, costs, method, rates, say)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"time cannot be estimated by FLOPs: {reason}")
        return None
    usual = max(rate for rate, _ in rates.values())
    of_proposals = rates.get(study.trial.backbone, (usual, 0))[0]
    return Estimate(
        {key: n * rates.get(configs[key].backbone, (usual, 0))[0] for key, n in flops.items()},
        proposals * of_proposals,
        trials_at_once(study, len(plan.work) + plan.proposals),
        source,
    )


def trials_at_once(study: StudyConfig, trials: int) -> int:
    """How many of some trials run at once on this machine, by the resources of each."""
    from harness.preflight import usable_cpus, usable_gpus

    slots = int(usable_cpus() / study.resources.cpus)
    if study.resources.gpus:
        slots = min(slots, int(usable_gpus() / study.resources.gpus))
    return max(1, min(slots, study.concurrency or slots, trials))


def _flops(costs: AnalyticCosts, work: Work) -> float:
    return costs(work.setting.config, len(work.seeds))


def _rates(runs: Sequence[LedgerRun], *, gpu: bool) -> dict[str, tuple[float, int]]:
    """Backbone -> (seconds a FLOP, runs) over the finished runs on this kind of device."""
    spent: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        if run.flops and run.seconds and run.device.startswith("cpu") is not gpu:
            spent.setdefault(run.backbone, []).append((run.seconds, run.flops))
    return {
        backbone: (math.fsum(s for s, _ in rows) / math.fsum(f for _, f in rows), len(rows))
        for backbone, rows in spent.items()
    }


def _measured(
    study: StudyConfig,
    plan: Plan,
    proposed: Sequence[TrialConfig],
    costs: AnalyticCosts,
    method: Method,
    rates: dict[str, tuple[float, int]],
    say: Say,
) -> tuple[dict[str, tuple[float, int]], str]:
    """Seconds a FLOP of the dearest setting, for all whose backbone no finished run knows."""
    from harness.calibrate import calibrate
    from harness.preflight import usable_gpus

    if study.resources.gpus and not usable_gpus():
        raise ValueError("no finished trials, and no GPU here to calibrate on")
    known = [(work.setting.config, len(work.seeds)) for work in plan.work]
    known += [(config, len(study.seeds)) for config in proposed]
    unknown = [(config, n) for config, n in known if config.backbone not in rates]
    dearest, n_seeds = max(unknown, key=lambda pair: costs(*pair))
    say("no finished trials yet: calibrating here, which takes less than a minute")
    device = "cuda" if study.resources.gpus else "cpu"
    threads = max(1, math.ceil(study.resources.cpus))
    found = calibrate(dearest, n_seeds, costs, method, device, threads)
    rate = (found.seconds_per_flop, 0)
    rates = {**{config.backbone: rate for config, _ in unknown}, **rates}
    return rates, f"a calibration here of {found.took:.0f} s"


def _proposed(study: StudyConfig, plan: Plan, fingerprints: Fingerprints) -> list[TrialConfig]:
    """What stands for the settings that a sampler will propose: all of them, or the baseline."""
    if not plan.proposals:
        return []
    spare = enumerate_settings(study, SettingMaker(study, fingerprints))
    if spare:
        return [setting.config for setting in spare]
    baseline: dict[str, object] = {}
    for key in in_order(study.space):
        factor = study.space[key]
        if is_active(factor, baseline) and factor.baseline is not None:
            baseline[key] = factor.baseline
    return [resolve(study, baseline)]
