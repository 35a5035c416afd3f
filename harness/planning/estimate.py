"""How long the rest of a study will take: each setting's FLOPs, at this machine's pace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from harness.config import baseline, resolve
from harness.planning.flops import flops_of
from harness.planning.plan import Estimate, Plan
from harness.planning.settings import SettingMaker, enumerate_settings
from harness.resources import slots

if TYPE_CHECKING:
    from harness.config import StudyConfig
    from harness.method import Method
    from harness.planning.calibration import Calibration
    from harness.planning.fingerprints import Fingerprints
    from harness.resources import CountedCosts
    from harness.store import Ledger, LedgerRun
    from ship.trial_config import TrialConfig

# No further setting is calibrated where this might be exceeded.
CALIBRATION_SECONDS = 45.0
# Settings of a space that stand for all that may be proposed.
MOST_COUNTED = 100
# Settings whose FLOPs differ by less than this, as a logarithm, are measured by one of them.
ALIKE = 0.02
# What a study takes beside features and trials, over what Ray and workers that load a backbone
# take to start: before them the driver imports and opens the store, after them Ray ends and the
# report is made (tests/bench/bench_fixed_costs.py).
START = 2.5
# The same in seconds where finished trials are known, so that nothing is started to find out.
USUAL_START = 15.0
# called with a line for people
Say = Callable[[str], None]
Calibrate = Callable[["TrialConfig", int], "Calibration"]


def estimate_time(
    study: StudyConfig,
    plan: Plan,
    ledger: Ledger,
    fingerprints: Fingerprints,
    say: Say,
    features: float | None = 0.0,
) -> Estimate | None:
    """Estimate what a plan takes, from finished runs or, without any, from a calibration.

    Args:
        fingerprints: for the keys of settings that a sampler may propose, the method, the data.
        say: told that a calibration takes its time, or why there is no estimate.
        features: seconds for those that the cache lacks; None: not known.

    Returns:
        None where it cannot be told.
    """
    method, costs = fingerprints.method, fingerprints.costs()
    if costs is None or plan.finished:
        return None
    try:
        wanted = _wanted(study, plan, fingerprints, costs)
        pace = pace_of(ledger.runs, gpu=bool(study.resources.gpus))
        unknown = [item for item in wanted if item.config.backbone not in pace.pooled]
        at_once = trials_at_once(study, len(plan.work) + plan.proposals)
        start = USUAL_START
        if unknown:
            pace, start = _measured(study, unknown, costs, method, pace, at_once, say)
    except Exception as error:  # whatever it is, the plan can be shown without
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"time cannot be estimated by FLOPs: {reason}")
        return None
    proposed = [pace.seconds(item) for item in wanted if not item.key]
    return Estimate(
        {item.key: pace.seconds(item) for item in wanted if item.key},
        plan.proposals * math.fsum(proposed) / max(1, len(proposed)),
        at_once,
        pace.source,
        plan.proposals,
        features,
        start,
    )


@dataclass(frozen=True)
class Wanted:
    """A trial that is left, and its FLOPs; key "": one that may be proposed."""

    key: str
    config: TrialConfig
    n_seeds: int
    flops: float


@dataclass(frozen=True)
class Pace:
    """Seconds a FLOP.

    own: setting key -> of that very setting.
    pooled: backbone -> of all its finished runs together.
    measured: backbone -> FLOPs and pace of each calibrated setting.
    source: where they come from.
    """

    own: Mapping[str, float]
    pooled: Mapping[str, float]
    measured: Mapping[str, Sequence[tuple[float, float]]]
    source: str

    def seconds(self, item: Wanted) -> float:
        """By its own runs, else by the calibrated setting nearest in FLOPs, else by all runs.

        A pace differs between settings: small steps leave more of a machine idle.
        """
        pace = self.own.get(item.key)
        if pace is None and item.config.backbone in self.measured:
            points = self.measured[item.config.backbone]
            pace = min(points, key=lambda point: _apart(point[0], item.flops))[1]
        return item.flops * (self.pooled[item.config.backbone] if pace is None else pace)


def pace_of(runs: Sequence[LedgerRun], *, gpu: bool) -> Pace:
    """All seconds over all FLOPs of the finished runs on this kind of device."""
    counted = [
        run for run in runs if run.flops and run.seconds and run.device.startswith("cpu") is not gpu
    ]

    def by(name: Literal["setting_key", "backbone"]) -> dict[str, float]:
        groups: dict[str, list[LedgerRun]] = {}
        for run in counted:
            groups.setdefault(getattr(run, name), []).append(run)
        return {
            key: math.fsum(run.seconds or 0 for run in group)
            / math.fsum(run.flops or 0 for run in group)
            for key, group in groups.items()
        }

    trials = "1 finished trial" if len(counted) == 1 else f"{len(counted)} finished trials"
    return Pace(by("setting_key"), by("backbone"), {}, trials)


def trials_at_once(study: StudyConfig, trials: int) -> int:
    """How many of some trials run at once on this machine, by the resources of each."""
    from harness.resources import machine_resources

    places = slots(study.resources, machine_resources(study.resources), study.concurrency)
    return max(1, min(places, trials))


def _wanted(
    study: StudyConfig, plan: Plan, fingerprints: Fingerprints, costs: CountedCosts
) -> list[Wanted]:
    """What is left, and what stands for the settings that a sampler will still propose."""
    n_seeds = len(study.seeds)
    left = [(work.setting.key, work.setting.config, len(work.seeds)) for work in plan.work]
    left += [("", config, n_seeds) for config in _proposed(study, plan, fingerprints)]
    flops = flops_of([(config, n) for _, config, n in left], costs)
    return [Wanted(*trial, taken) for trial, taken in zip(left, flops, strict=True)]


def _proposed(study: StudyConfig, plan: Plan, fingerprints: Fingerprints) -> list[TrialConfig]:
    """All settings of the space where they can be listed, else its baseline."""
    if not plan.proposals:
        return []
    spare = enumerate_settings(study, SettingMaker(study, fingerprints))
    if spare:  # some of them, evenly, stand for all: counting takes milliseconds each
        return [setting.config for setting in spare[:: -(-len(spare) // MOST_COUNTED)]]
    return [resolve(study, baseline(study))]


def _measured(
    study: StudyConfig,
    unknown: Sequence[Wanted],
    costs: CountedCosts,
    method: Method,
    pace: Pace,
    at_once: int,
    say: Say,
) -> tuple[Pace, float]:
    """Calibrate settings whose backbone no finished run knows, and tell what a start takes.

    As many settings as there is time for: the dearest first, then always the one that is least
    like those measured.
    """
    from harness.planning import side_by_side
    from harness.resources import usable_gpus

    if study.resources.gpus and not usable_gpus():
        raise ValueError("no finished trials, and no GPU here to calibrate on")
    say("no finished trials yet: calibrating here, which takes about a minute")
    rest = sorted(unknown, key=lambda trial: -trial.flops)
    with side_by_side.side_by_side(study, at_once, rest[0].config, costs, method) as workers:
        found = _calibrated(rest, workers)
    source = f"a calibration here of {found.took:.0f} s"
    pace = replace(pace, own={**pace.own, **found.own}, measured=found.points, source=source)
    return pace, START * workers.started


@dataclass
class _Calibrated:
    """Seconds a FLOP of calibrated settings.

    own: setting key -> of that very setting.
    points: backbone -> FLOPs and pace of each.
    took: seconds that measuring took.
    """

    own: dict[str, float] = field(default_factory=dict)
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    took: float = 0.0


def _calibrated(rest: Sequence[Wanted], calibrate: Calibrate) -> _Calibrated:
    """Calibrate some of the settings, of which the first is the dearest."""
    found = _Calibrated()
    lonely = [math.inf] * len(rest)  # how far each is from the measured ones of its backbone
    longest = 0.0
    while not found.points or found.took + longest < CALIBRATION_SECONDS:
        at = max(range(len(rest)), key=lonely.__getitem__)
        if lonely[at] < ALIKE:
            break
        trial = rest[at]
        measured = calibrate(trial.config, trial.n_seeds)
        if trial.key:
            found.own[trial.key] = measured.seconds_per_flop
        points = found.points.setdefault(trial.config.backbone, [])
        points.append((trial.flops, measured.seconds_per_flop))
        found.took, longest = found.took + measured.took, max(longest, measured.took)
        lonely = [min(far, _between(trial, other)) for far, other in zip(lonely, rest, strict=True)]
    for trial in rest:  # a backbone that there was no time for: the slowest pace of the others
        if trial.config.backbone not in found.points:
            slowest = max(rate for held in found.points.values() for _, rate in held)
            found.points[trial.config.backbone] = [(trial.flops, slowest)]
    return found


def _between(trial: Wanted, other: Wanted) -> float:
    """Distance of two trials by their FLOPs; infinite where their backbones are two."""
    alike = trial.config.backbone == other.config.backbone
    return _apart(trial.flops, other.flops) if alike else math.inf


def _apart(a: float, b: float) -> float:
    """Distance of two numbers of FLOPs, as the logarithm of their ratio."""
    return abs(math.log((a + 1) / (b + 1)))
