"""`resources: auto` with GPUs: what the largest trial takes of one, measured by a few of its steps.

The steps are real: on the study's own features, one epoch of each stage, evaluated and tested.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.config import Factor, Resources, StudyConfig, assignments
from harness.planning import Plan, SettingMaker, Work
from harness.wording import one_line
from harness.worker import feature_key, target_key
from ship.plugins import PluginFile, carried, load_carried

if TYPE_CHECKING:
    from harness.method import Method
    from harness.tuning import FusePolicy, Group, Shared
    from ship.trial_config import TrialConfig

# Settings of a space that stand for all that may be proposed.
MOST_CORNERS, MOST_COUNTED = 8, 4096


@dataclass(frozen=True)
class Measured:
    """What a trial took of its GPU at most, and what the GPU has, both in MiB."""

    peak_mb: float
    device_mb: float


def largest_group(
    study: StudyConfig, plan: Plan, maker: SettingMaker, policy: "FusePolicy"
) -> "Group":
    """The works of the Ray trial that takes the most memory, of those known or to be proposed.

    Args:
        policy: how many are trained side by side by a trial that has a GPU to itself.
    """
    from harness.tuning import fuse

    groups = fuse(plan.work, policy)
    if plan.proposals:
        corners = [Work(maker(found), study.seeds) for found in _corners(study.space)]
        groups += [(work,) * policy(work, plan.proposals) for work in corners]
    return max(groups, key=policy.bytes)


def measure(
    group: "Group",
    shared: "Shared",
    method: "Method",
    resources: Resources,
    say: Callable[[str], None],
) -> Measured | None:
    """Run some steps of a group on a worker that has a GPU to itself.

    Args:
        group: works that are trained side by side.
        shared: the features, in Ray's object store.
        method: ship.
        resources: what the worker takes.
        say: told why there is no answer.

    Returns:
        None where the steps fail: the trial itself will tell.
    """
    import ray

    first = group[0].setting.config
    configs, seeds = _replicas(group)
    keys = [feature_key(first), *(target_key(first, name) for name in first.targets)]
    run = ray.remote(_steps).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0
    )
    task = run.remote(
        [config.model_dump(mode="json") for config in configs],
        seeds,
        {key: (shared[key],) for key in keys},
        method.run_trial,
        method.load_backbone,
        method.accelerator,
        carried(),
    )
    try:
        return Measured(*ray.get(task))
    except Exception as error:  # of many kinds: Ray's, torch's, the method's
        cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
        say(f"how many trials share a GPU could not be measured: {one_line(cause)}")
        return None


def _replicas(group: "Group") -> tuple[list["TrialConfig"], list[int]]:
    """A setting and a seed for each replica.

    A group of what is still to be proposed repeats one setting; as no replica may come twice, it
    gets more seeds, which take as much memory.
    """
    if len({work.setting.key for work in group}) == len(group):
        configs = [work.setting.config for work in group for _ in work.seeds]
        return configs, [seed for work in group for seed in work.seeds]
    n_replicas = sum(len(work.seeds) for work in group)
    own = list(group[0].seeds)
    more = (seed for seed in range(n_replicas + len(own)) if seed not in own)
    seeds = own + [seed for seed, _ in zip(more, range(n_replicas - len(own)), strict=False)]
    return [group[0].setting.config] * n_replicas, seeds


def _steps(
    settings: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    features: Mapping[str, tuple[Any]],
    run_trial: Any,
    load_backbone: Any,
    device: str,
    plugins: tuple[PluginFile, ...] = (),
) -> tuple[float, float]:
    """On a worker: MiB that the steps took at most, and that the device has."""
    import ray

    from harness.resources import PeakMemory, device_memory_mb
    from ship.cost import shortened
    from ship.trial_config import TrialConfig

    load_carried(plugins)
    configs = [shortened(TrialConfig.model_validate(given), most=1) for given in settings]
    first = configs[0]
    clip = load_backbone(first.backbone, device, first.precision)
    memory = PeakMemory(device)
    targets = {name: ray.get(features[target_key(first, name)][0]) for name in first.targets}
    own = ray.get(features[feature_key(first)][0])
    for _ in run_trial(configs, seeds, own, clip, targets, None):
        pass
    return memory.megabytes(), device_memory_mb(device)


def _corners(space: Mapping[str, Factor]) -> list[dict[str, Any]]:
    """Assignments of a space with each range at one of its ends, some of them where they are many.

    Memory grows with whatever a number counts, so that the largest setting is at an end.
    """
    ends = {
        key: factor.model_copy(update={"choices": _ends(factor)}) for key, factor in space.items()
    }
    found = list(islice(assignments(ends), MOST_COUNTED))
    # the last one has every range at its upper end
    return found[::-1][:: -(-len(found) // MOST_CORNERS)]


def _ends(factor: Factor) -> tuple[Any, ...]:
    """The upper end first: it is among the assignments that are looked at."""
    if factor.choices is None:
        return factor.bounds[::-1]
    numbers = all(isinstance(value, int | float) for value in factor.choices)
    return (max(factor.choices), min(factor.choices)) if numbers else factor.choices
