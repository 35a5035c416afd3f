"""What the cost models of fine-tuners share: synthesis, steps, scores."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ship.configs import SyntheticConfig
from ship.cost.generators import Asked, GeneratorCost
from ship.cost.model import FLOAT_BYTES, Cost, Memory, product
from ship.cost.shapes import TowerShape
from ship.cost.tasks import TaskShape
from ship.training import steps_per_epoch


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


def stepwise(
    config: Any,
    task: TaskShape,
    synthesis: SynthesisCost | None,
    step: Callable[[int], Cost],
    logits: Callable[[int], Cost],
    choices: int = 1,
) -> FinetunerCost:
    """A fine-tuner that trains step by step on real features and synthetic ones beside them.

    Args:
        config: the fine-tuner's settings, with batch_size and epochs.
        task: that it is trained on.
        synthesis: what drawing its synthetic features takes; None: there are none.
        step: what a step on so many features takes, forward and backward.
        logits: what scoring so many pictures takes.
        choices: how many inference choices selection tries.
    """
    batch = min(config.batch_size, task.n_nominal)
    extra, sampling = synthesis.step(batch) if synthesis else (0, Cost())
    epoch = (step(batch + extra) + sampling).times(steps_per_epoch(task.n_nominal, batch))
    once = synthesis.pool() if synthesis else Cost()
    return FinetunerCost(logits, config.epochs, epoch, once, choices)


def scores(pictures: float, f: int, n_cls: int, replicas: int) -> Cost:
    """Logits of a classifier of each replica's own, and the copies that scoring makes of them.

    Args:
        pictures: that each replica scores.
        f: size of a feature.
        n_cls: classes, one logit each.
        replicas: seeds and settings that are trained side by side.
    """
    held = Memory(per_replica=3 * FLOAT_BYTES * pictures * n_cls)
    return Cost(evaluation_flops=product(replicas * pictures, f, n_cls), memory=held)
