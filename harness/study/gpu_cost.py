"""Lines of a dry run about what a study would cost on a GPU that has not run any of it."""

from typing import Final

from harness.planning import Fingerprints, Plan
from harness.wording import count, format_duration
from ship.trial_config import TrialConfig
from ship.trial_cost import TrialCost, trial_cost

# Operations per second in float32 that training is assumed to reach: two thirds of a GPU's peak.
GPU_RATES: Final = {"H100": 45e12, "A10": 20e12}
# Seconds per kernel launch, a usual value of PyTorch.
LAUNCH_SECONDS: Final = 6e-6


def gpu_cost_lines(plan: Plan, prints: Fingerprints) -> list[str]:
    """Return a line with operations, kernel launches, memory and time of a plan's trials on a GPU.

    There is none for the packaged backbone, which needs no GPU.

    Args:
        plan: Plan of the study. Configurations that a sampler has still to propose do not count.
        prints: Fingerprints of the study's data, with its datasets.
    """
    costs = trial_costs(plan, prints)
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


def trial_costs(plan: Plan, prints: Fingerprints) -> list[TrialCost]:
    """Return the cost of each trial of a plan that has another backbone than the packaged one."""
    return [
        _cost(prints, work.configuration.trial, len(work.seeds))
        for work in plan.work
        if work.configuration.trial.backbone != "pocket"
    ]


def _cost(prints: Fingerprints, config: TrialConfig, n_seeds: int) -> TrialCost:
    """Return the cost of a trial on its dataset."""
    dataset = prints.load_dataset(config.dataset)
    n_classes = len(dataset.class_names)
    per_class = 0.0 if config.shots else len(dataset.splits["train"]) / max(1, n_classes)
    n_used = min(n_classes, config.max_classes or n_classes)
    return trial_cost(config, n_used, n_seeds, per_class)
