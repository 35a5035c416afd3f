"""The cost of every fine-tuner: an epoch of training, and logits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ship.cost.generators import Asked, GeneratorCost, split
from ship.cost.model import FLOAT_BYTES, Cost, Memory, product
from ship.cost.shapes import TowerShape
from ship.cost.tasks import TaskShape
from ship.cost.text import Gradient, counted, plain_pass, shared_pass
from ship.finetuners.clip_adapter import RATIOS, CLIPAdapterConfig
from ship.finetuners.cocoop import PROMPTS_AT_ONCE, CoCoOpConfig
from ship.finetuners.coop import CoOpConfig
from ship.finetuners.gda import ALPHAS as GDA_ALPHAS
from ship.finetuners.gda import GDAConfig
from ship.finetuners.kgcoop import KgCoOpConfig
from ship.finetuners.linear_probe import LinearProbeConfig
from ship.finetuners.templates import SINGLE, SUBSET
from ship.finetuners.tip_adapter import ALPHAS, BETAS, TipAdapterConfig, TipAdapterFConfig
from ship.finetuners.zero_shot import ZeroShotConfig
from ship.replicas import steps_per_epoch
from ship.synthesis import SyntheticConfig


@dataclass(frozen=True)
class SynthesisCost:
    """ship.synthesis.Synthesizer: None in its place where nothing is synthesized."""

    config: SyntheticConfig
    generator: GeneratorCost
    task: TaskShape

    @property
    def rows(self) -> int:
        """Features of a fixed set."""
        return (self.config.per_class or self.task.shots) * self.task.n_made

    def pool(self) -> Cost:
        """What making it takes: a fixed set, where steps draw from one."""
        return self._fixed() if self.config.draw == "fixed" else Cost()

    def fixed_set(self) -> Cost:
        """A fixed set, if it is not there already."""
        return Cost() if self.config.draw == "fixed" else self._fixed()

    def _fixed(self) -> Cost:
        # where seeds differ in what they synthesize, which names there are is a matter of chance
        drawn = any(0 < share < 1 for share in self.task.made)
        return self.generator.sample(Asked(self.rows, self.task.made, drawn))

    def step(self, batch: int) -> tuple[int, Cost]:
        """Synthetic features beside a step's real ones: how many, and what they take."""
        n = max(1, round(self.config.ratio * batch))
        if self.config.draw == "fixed":
            return n, Cost()
        return n, self.generator.sample(Asked(n, self.task.made, drawn=True))


@dataclass(frozen=True)
class FinetunerCost:
    """A fused fine-tuner.

    logits: of some pictures under all replicas, without gradients.
    epochs: as planned. epoch: one of them. once: before them.
    choices: how many inference choices selection tries.
    """

    logits: Callable[[int], Cost]
    epochs: int = 0
    epoch: Cost = field(default_factory=Cost)
    once: Cost = field(default_factory=Cost)
    choices: int = 1


FinetunerModel = Callable[[Any, TaskShape, TowerShape, int, SynthesisCost | None], FinetunerCost]


def _stepwise(
    config: Any,
    task: TaskShape,
    synthesis: SynthesisCost | None,
    step: Callable[[int], Cost],
    logits: Callable[[int], Cost],
    choices: int = 1,
) -> FinetunerCost:
    """A fine-tuner that trains step by step on real features and synthetic ones beside them.

    Args:
        step: what a step on so many features takes, forward and backward.
    """
    batch = min(config.batch_size, task.n_nominal)
    extra, sampling = synthesis.step(batch) if synthesis else (0, Cost())
    epoch = (step(batch + extra) + sampling).times(steps_per_epoch(task.n_nominal, batch))
    once = synthesis.pool() if synthesis else Cost()
    return FinetunerCost(logits, config.epochs, epoch, once, choices)


def _scores(pictures: float, f: int, n_cls: int, replicas: int) -> Cost:
    """Logits of a classifier of each replica's own, and the copies that scoring makes of them."""
    held = Memory(per_replica=3 * FLOAT_BYTES * pictures * n_cls)
    return Cost(evaluation_flops=product(replicas * pictures, f, n_cls), memory=held)


def zero_shot(
    config: ZeroShotConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """One classifier for all replicas."""
    once = Cost()
    if config.templates != "dataset":
        for template in SINGLE if config.templates == "single" else SUBSET:
            lengths = tower.sentence_lengths([template.format(name) for name in task.names])
            once += plain_pass(tower, counted(lengths), False, replicas)
    if synthesis:
        once += synthesis.pool()
    return FinetunerCost(lambda n: _scores(n, tower.feature_dim, len(task.names), 1), once=once)


def to_prefix(gradient: bool) -> Gradient:
    """Where a gradient goes, if there is one, that learned contexts ask for."""
    return "prefix" if gradient else "none"


def coop(
    config: CoOpConfig | KgCoOpConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """CoOp and KgCoOp: the class names once a step, behind each replica's contexts."""
    own = isinstance(config, CoOpConfig) and config.class_specific
    position = config.name_position if isinstance(config, CoOpConfig) else "end"
    lengths = tower.name_lengths(task.names, config.n_ctx, position)
    f, n_cls = tower.feature_dim, len(task.names)

    def encode(gradient: bool) -> Cost:
        if position == "end" and not own:
            prefix, names = 1 + config.n_ctx, counted(lengths)
            return shared_pass(tower, replicas, prefix, names, to_prefix(gradient), replicas)
        whole = [config.n_ctx + length for length in lengths]
        return plain_pass(tower, counted(whole, replicas), gradient, replicas)

    def step(rows: int) -> Cost:
        return encode(True) + Cost(network_flops=product(replicas * rows, f, n_cls, 1))

    def logits(pictures: int) -> Cost:
        return encode(False) + _scores(pictures, f, n_cls, replicas)

    return _stepwise(config, task, synthesis, step, logits)


def cocoop(
    config: CoCoOpConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """The class names once a picture, in pieces; the meta-net runs anew for each piece."""
    f, n_cls = tower.feature_dim, len(task.names)
    hidden = max(1, f // config.reduction)
    names = counted(tower.name_lengths(task.names, config.n_ctx))
    at_once = max(1, PROMPTS_AT_ONCE // n_cls)

    def pieces(rows: int, gradient: bool) -> Cost:
        """Some pairs of replica and picture."""
        total = Cost()
        for pairs in split(rows, at_once):
            kind = to_prefix(gradient)
            total += shared_pass(tower, pairs, 1 + config.n_ctx, names, kind, 1)
            token = product(rows, f, hidden, 1 * gradient)
            token += product(rows, hidden, tower.width, 2 * gradient)
            token += product(pairs, f, n_cls, 1 * gradient)
            total += Cost(network_flops=token)
        # a piece is as large as it is, whatever the replicas
        bounded = Memory(fixed=total.memory.per_replica)
        return Cost(
            total.text_tokens,
            total.text_tokens_backward,
            total.text_flops,
            total.network_flops,
            memory=bounded,
        )

    def logits(pictures: int) -> Cost:
        batches = split(pictures, max(1, at_once // replicas))
        total = Cost()
        for size in sorted(set(batches)):
            total += pieces(replicas * size, False).times(batches.count(size))
        held = _scores(pictures, 0, n_cls, replicas)
        return total + held

    return _stepwise(config, task, synthesis, lambda n: pieces(replicas * n, True), logits)


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
        return Cost(evaluation_flops=adapted) + _scores(pictures, f, n_cls, replicas)

    choices = len({config.ratio, *RATIOS}) if config.search else 1
    return _stepwise(config, task, synthesis, step, logits, choices)


def linear_probe(
    config: LinearProbeConfig,
    task: TaskShape,
    tower: TowerShape,
    replicas: int,
    synthesis: SynthesisCost | None,
) -> FinetunerCost:
    """A matrix a replica."""
    f, n_cls = tower.feature_dim, len(task.names)
    return _stepwise(
        config,
        task,
        synthesis,
        lambda n: Cost(network_flops=product(replicas * n, f, n_cls, 1)),
        lambda pictures: _scores(pictures, f, n_cls, replicas),
    )


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
    """A covariance and a solution for the class means; then a linear classifier."""
    made = synthesis.rows if synthesis else 0
    f, n_cls = tower.feature_dim, len(task.names)
    scatter = product(f, (task.n_real + made) * task.views, f)
    once = Cost(network_flops=replicas * scatter)
    if synthesis:
        once += synthesis.pool() + synthesis.fixed_set()

    def logits(pictures: int) -> Cost:
        return _scores(pictures, f, n_cls, replicas + 1)

    choices = len({config.alpha, *GDA_ALPHAS}) if config.search else 1
    return FinetunerCost(logits, once=once, choices=choices)


FINETUNER_COSTS: Mapping[str, FinetunerModel] = {
    "zero_shot": zero_shot,
    "coop": coop,
    "cocoop": cocoop,
    "kgcoop": coop,
    "clip_adapter": clip_adapter,
    "tip_adapter": tip_adapter,
    "tip_adapter_f": tip_adapter_f,
    "linear_probe": linear_probe,
    "gda": gda,
}
