"""The cost of every fine-tuner; here those that look at features alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ship.configs import (
    CLAPConfig,
    CLIPAdapterConfig,
    GDAConfig,
    LinearAdapterConfig,
    LinearProbeConfig,
    LPPlusPlusConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
    ZSLPConfig,
)
from ship.cost.generators import neighbours
from ship.cost.model import FLOAT_BYTES, Cost, Memory, product
from ship.cost.prompt_learners import cocoop, coop, tcp
from ship.cost.shapes import TowerShape
from ship.cost.tasks import TaskShape
from ship.cost.text import counted, plain_pass
from ship.cost.training import FinetunerCost, FinetunerModel, SynthesisCost, scores, stepwise
from ship.finetuners.clip_adapter import RATIOS
from ship.finetuners.descriptions import described
from ship.finetuners.gda import ALPHAS as GDA_ALPHAS
from ship.finetuners.templates import SINGLE, SUBSET
from ship.finetuners.tip_adapter import ALPHAS, BETAS
from ship.generators.neighbours import NEIGHBOURS
from ship.training import steps_per_epoch


def zero_shot(
    config: ZeroShotConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """One classifier for all replicas."""
    once = Cost()
    if config.descriptions is not None:
        own = [text for found in described(config, task.names) for text in found]
        once += plain_pass(tower, counted(tower.sentence_lengths(own)), False, replicas)
    elif config.templates != "dataset":
        for template in SINGLE if config.templates == "single" else SUBSET:
            lengths = tower.sentence_lengths([template.format(name) for name in task.names])
            once += plain_pass(tower, counted(lengths), False, replicas)
    if synthesis:
        once += synthesis.pool()
    return FinetunerCost(lambda n: scores(n, tower.feature_dim, len(task.names), 1), once=once)


def clip_adapter(
    config: CLIPAdapterConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """Two small products before the zero-shot one."""
    f, n_cls = tower.feature_dim, len(task.names)
    hidden = max(1, f // config.reduction)

    def step(n: int) -> Cost:
        rows = replicas * n
        flops = product(rows, f, hidden, 1) + product(rows, hidden, f, 2)
        return Cost(network_flops=flops + product(rows, f, n_cls, 1))

    def logits(pictures: int) -> Cost:
        adapted = 2 * product(replicas * pictures, f, hidden)
        return Cost(evaluation_flops=adapted) + scores(pictures, f, n_cls, replicas)

    choices = len({config.ratio, *RATIOS}) if config.search else 1
    return stepwise(config, task, synthesis, step, logits, choices)


def linear_adapter(
    config: LinearAdapterConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """A square product before the zero-shot one."""
    f, n_cls = tower.feature_dim, len(task.names)

    def step(n: int) -> Cost:
        rows = replicas * n
        return Cost(network_flops=product(rows, f, f, 1) + product(rows, f, n_cls, 1))

    def logits(pictures: int) -> Cost:
        mapped = Cost(evaluation_flops=product(replicas * pictures, f, f))
        return mapped + scores(pictures, f, n_cls, replicas)

    return stepwise(config, task, synthesis, step, logits)


def lp_plus_plus(
    config: LPPlusPlusConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The second moment of all views, their cosines; a step on all of them an epoch."""
    made = synthesis.rows if synthesis else 0
    f, n_cls = tower.feature_dim, len(task.names)
    rows = (task.n_real + made) * task.views
    shown = n_cls if synthesis else n_cls - task.n_new
    found = product(f, rows, f) + product(rows, f, shown) + product(shown, f, shown)
    held = Memory(per_replica=FLOAT_BYTES * (rows * (f + 3 * n_cls) + 4 * n_cls * f))
    once = Cost(network_flops=replicas * found, memory=held)
    if synthesis:
        once += synthesis.pool() + synthesis.fixed_set()
    epoch = Cost(network_flops=product(replicas * rows, f, n_cls, 1), memory=held)
    return FinetunerCost(
        lambda pictures: scores(pictures, f, n_cls, replicas), config.epochs, epoch, once
    )


def linear_probe(
    config: LinearProbeConfig | ZSLPConfig | CLAPConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """A matrix a replica."""
    f, n_cls = tower.feature_dim, len(task.names)
    return stepwise(
        config,
        task,
        synthesis,
        lambda n: Cost(network_flops=product(replicas * n, f, n_cls, 1)),
        lambda pictures: scores(pictures, f, n_cls, replicas),
    )


def clap(
    config: CLAPConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """A matrix a replica, and zero-shot logits of all views before."""
    views = task.n_real * task.views
    once = Cost(network_flops=product(replicas * views, tower.feature_dim, len(task.names)))
    found = linear_probe(config, task, tower, replicas, synthesis)
    return replace(found, once=found.once + once)


def _cache(
    task: TaskShape, tower: TowerShape, replicas: int, synthesis: SynthesisCost | None
) -> tuple[float, Cost, Callable[[int], Cost]]:
    """Tip-Adapter's cache: its rows, what making it takes, and its logits."""
    made = synthesis.rows if synthesis else 0
    f, n_cls, n = tower.feature_dim, len(task.names), task.n_real + made
    held = Memory(per_replica=FLOAT_BYTES * n * ((1 + task.views) * f + n_cls))
    once = Cost(memory=held)
    if synthesis:
        once += synthesis.pool() + synthesis.fixed_set()

    def logits(pictures: int) -> Cost:
        rows = replicas * pictures
        cached = product(rows, f, n) + product(rows, n, n_cls)
        found = Cost(evaluation_flops=cached + product(pictures, f, n_cls))
        affinity = Memory(per_replica=FLOAT_BYTES * pictures * (2 * n + 3 * n_cls))
        return found.beside(held + affinity)

    return n, once, logits


def _pairs(config: TipAdapterConfig | TipAdapterFConfig) -> int:
    """Inference choices of Tip-Adapter."""
    if not config.search:
        return 1
    pairs = {(a, b) for a in ALPHAS for b in BETAS if a > 0}
    return len(pairs | {(config.alpha, config.beta), (0.0, config.beta)})


def tip_adapter(
    config: TipAdapterConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The cache as it is."""
    _, once, logits = _cache(task, tower, replicas, synthesis)
    return FinetunerCost(logits, once=once, choices=_pairs(config))


def tip_adapter_f(
    config: TipAdapterFConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The cache with trained keys."""
    n, once, logits = _cache(task, tower, replicas, synthesis)
    f, n_cls = tower.feature_dim, len(task.names)
    nominal = task.n_nominal + (synthesis.rows if synthesis else 0)
    batch = min(config.batch_size, nominal)
    rows = replicas * batch
    flops = product(rows, f, n, 1) + product(rows, n, n_cls, 1) + product(rows, f, n_cls)
    step = Cost(network_flops=flops).beside(
        once.memory + Memory(per_replica=FLOAT_BYTES * (4 * n * f + 3 * batch * (n + n_cls)))
    )
    epoch = step.times(steps_per_epoch(nominal, batch))
    return FinetunerCost(logits, config.epochs, epoch, once, _pairs(config))


def gda(
    config: GDAConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """Covariances and products with the class means; then a linear classifier."""
    made = synthesis.rows if synthesis else 0
    f, n_cls = tower.feature_dim, len(task.names)
    scatter = product(f, (task.n_real + made) * task.views, f)
    once = Cost(network_flops=replicas * (scatter + product(n_cls, f, f)))
    if synthesis:
        once += synthesis.pool() + synthesis.fixed_set()
    elif config.new_classes == "neighbours" and task.n_new:
        once += neighbours(task, f, NEIGHBOURS, task.n_new, replicas)

    def logits(pictures: int) -> Cost:
        return scores(pictures, f, n_cls, replicas + 1)

    choices = len({config.alpha, *GDA_ALPHAS}) if config.search else 1
    return FinetunerCost(logits, once=once, choices=choices)


FINETUNER_COSTS: Mapping[str, FinetunerModel] = {
    "zero_shot": zero_shot,
    "coop": coop,
    "cocoop": cocoop,
    "kgcoop": coop,
    "coop_dept": coop,
    "kgcoop_dept": coop,
    "tcp": tcp,
    "clip_adapter": clip_adapter,
    "linear_adapter": linear_adapter,
    "tip_adapter": tip_adapter,
    "tip_adapter_f": tip_adapter_f,
    "linear_probe": linear_probe,
    "zs_lp": linear_probe,
    "clap": clap,
    "lp_plus_plus": lp_plus_plus,
    "gda": gda,
}
