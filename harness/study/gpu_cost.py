"""Estimate for a dry run the cost of a study on a GPU, before any of its trials has run."""

from typing import Final

from harness.planning import Fingerprints, Plan
from harness.wording import count, format_duration
from ship.protocol_rules import PROTOCOLS
from ship.subsets import count_base, select_studied_labels
from ship.trial_config import TrialConfig
from ship.trial_cost import TrialCost, compute_trial_cost

# Assumed operations per second of training in float32: two thirds of each GPU's peak.
GPU_RATES: Final = {"H100": 45e12, "A10": 20e12}
# Assumed seconds per kernel launch, a typical value for PyTorch.
LAUNCH_SECONDS: Final = 6e-6


def format_gpu_cost(plan: Plan, fingerprints: Fingerprints) -> list[str]:
    """Return a line with operations, kernel launches, memory and time of a plan's trials on a GPU.

    Trials of the packaged backbone are left out, because they need no GPU. [] if no other trial
    passes prompts through the text tower.

    Args:
        plan: Plan of the study. Configurations that a sampler has not proposed yet are left out.
        fingerprints: Fingerprints of the study, which load its datasets.
    """
    costs = compute_trial_costs(plan, fingerprints)
    if not any(cost.operations for cost in costs):
        return []
    operations = sum(cost.operations for cost in costs)
    launches = sum(cost.launches for cost in costs)
    memory = max(cost.memory for cost in costs)
    seconds = {
        name: sum(cost.seconds(rate, LAUNCH_SECONDS) for cost in costs)
        for name, rate in GPU_RATES.items()
    }
    times = [f"{format_duration(total)} on one {name}" for name, total in seconds.items()]
    rates = " or ".join(f"{rate / 1e12:g}" for rate in GPU_RATES.values())
    return [
        f"counted for {count(len(costs), 'trial')} on a GPU: {operations / 1e15:,.3g} PFLOP, "
        f"{launches / 1e6:,.3g} million kernel launches, {memory / 2**30:.1f} GiB for the "
        f"activations of the largest; about {' or '.join(times)}, if they reach {rates} TFLOP/s "
        f"and {LAUNCH_SECONDS * 1e6:g} µs per launch"
    ]


def compute_trial_costs(plan: Plan, fingerprints: Fingerprints) -> list[TrialCost]:
    """Return the cost of each trial of a plan, without trials of the packaged backbone.

    The arguments are those of `format_gpu_cost`.
    """
    return [
        _compute_cost(fingerprints, work.configuration.trial, len(work.seeds))
        for work in plan.work
        if work.configuration.trial.backbone != "pocket"
    ]


def _compute_cost(fingerprints: Fingerprints, config: TrialConfig, n_seeds: int) -> TrialCost:
    """Return the cost of a trial of `n_seeds` seeds on its training dataset."""
    dataset = fingerprints.load_dataset(config.dataset)
    names = dataset.class_names
    # mean number of training images per class; not needed if shots limit it
    per_class = 0.0 if config.shots else len(dataset.splits["train"]) / max(1, len(names))
    labels, n_official = select_studied_labels(config, names, dataset.n_seen)
    n_classes = len(labels)
    n_seen = PROTOCOLS[config.protocol].count_seen(n_classes, count_base(n_classes, n_official))
    return compute_trial_cost(config, n_seen, n_classes, n_seeds, per_class)
