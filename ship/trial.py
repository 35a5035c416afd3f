"""One trial: a setting trained for all of its seeds at once, selected fairly, tested once."""

import math
from collections.abc import Generator as GeneratorOf
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.finetuners import FINETUNERS, Finetuner, FinetunerConfig
from ship.generators import GENERATORS, GeneratorConfig
from ship.metrics import EpochMetrics, Stage, score
from ship.protocols import base_to_new
from ship.synthesis import Synthesizer
from ship.task import Pictures, Task
from ship.trial_config import TrialConfig


class NonFiniteLoss(ValueError):
    """A loss became NaN or infinite; the trial has no result."""


def run_trial(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Iterator[EpochMetrics]:
    """Train and test one setting under every seed, fused; yields the metrics of each epoch.

    A seed's numbers depend on the setting and the seed alone, not on which seeds run beside it
    (up to the rounding of differently batched sums). The last item is the only one of stage "test".

    Raises:
        NonFiniteLoss: with the stage, the epoch and the seeds.
        ValueError: the dataset cannot carry the setting (too few classes, no training pictures).
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    if config.max_classes is not None:
        features = features.first_classes(min(config.max_classes, len(features.class_names)))
    protocol = base_to_new(config, seeds, features, clip, dtype)
    progress = _Progress(config, passes=1 if protocol.final is None else 2)
    task, pictures = protocol.selection
    finetuner = yield from _prepare(config, seeds, task, clip, "selection_generator", progress)
    best = _Best(len(seeds), "base" if config.selection == "base_val" else "harmonic_mean")
    yield from _select(config, seeds, task, pictures, finetuner, best, progress)
    if protocol.final is not None:
        task = protocol.final
        finetuner = yield from _prepare(config, seeds, task, clip, "final_generator", progress)
        yield from _retrain(seeds, finetuner, best, progress)
    finetuner.load_state(best.state)
    yield _test(finetuner, task, protocol.test, best)


class _Progress:
    """Fraction of the planned epochs that is done."""

    def __init__(self, config: TrialConfig, passes: int) -> None:
        self._planned = passes * (_epochs(config.generator) + _epochs(config.finetuner) + 1)
        self._done = 0

    def step(self) -> float:
        """Count one epoch; the fraction so far, below 1."""
        self._done += 1
        return min(self._done / self._planned, 1.0)


def _epochs(config: GeneratorConfig | FinetunerConfig) -> int:
    return int(getattr(config, "epochs", 0))


@dataclass
class _Best:
    """Each replica's best epoch and inference choice by the selection metric; ties keep the first.

    state: the trained tensors of each replica at its best epoch.
    """

    n_replicas: int
    metric: str
    epoch: Tensor = field(init=False)
    choice: Tensor = field(init=False)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.epoch = torch.full((self.n_replicas,), -1)
        self.choice = torch.zeros(self.n_replicas, dtype=torch.long)

    def update(
        self, epoch: int, choice: Tensor, metrics: dict[str, Tensor], state: dict[str, Tensor]
    ) -> None:
        """Take over the replicas whose metric rose."""
        better = torch.ones(self.n_replicas, dtype=torch.bool)
        if self.metrics:
            better = metrics[self.metric] > self.metrics[self.metric]
        self.epoch = torch.where(better, epoch, self.epoch)
        self.choice = torch.where(better, choice, self.choice)
        self.metrics = _keep_better(better, metrics, self.metrics)
        self.state = _keep_better(better, state, self.state)


def _keep_better(
    better: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Per replica, the new tensors where `better`, the old ones elsewhere."""
    kept = {}
    for name, value in new.items():
        where = better.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
        kept[name] = torch.where(where, value, old.get(name, value))
    return kept


def _prepare(
    config: TrialConfig,
    seeds: Sequence[int],
    task: Task,
    clip: FrozenCLIP,
    stage: Stage,
    progress: _Progress,
) -> GeneratorOf[EpochMetrics, None, Finetuner]:
    """Fit the generator on the task's seen classes; the untrained fine-tuner that will use it."""
    _, build_generator = GENERATORS[config.generator.name]
    synthesizer = None
    if build_generator is not None:
        generator = build_generator(config.generator, task, clip, seeds)
        for epoch in range(1, generator.epochs + 1):
            losses = generator.train_epoch()
            yield _report(stage, epoch, progress, losses, seeds)
        synthesizer = Synthesizer(config.synthetic, generator, task, seeds)
    _, build_finetuner = FINETUNERS[config.finetuner.name]
    finetuner: Finetuner = build_finetuner(config.finetuner, task, synthesizer, clip, seeds)
    return finetuner


def _select(
    config: TrialConfig,
    seeds: Sequence[int],
    task: Task,
    pictures: Pictures,
    finetuner: Finetuner,
    best: _Best,
    progress: _Progress,
) -> Iterator[EpochMetrics]:
    """Train the fine-tuner and keep each replica's best epoch on the selection pictures."""
    last = finetuner.epochs
    for epoch in range(1, last + 1) if last else [0]:
        losses = finetuner.train_epoch() if last else {}
        metrics: dict[str, Tensor] = {}
        if epoch % config.eval_every == 0 or epoch == last:
            metrics, choice = _evaluate(finetuner, task, pictures, best.metric)
            best.update(epoch, choice, metrics, finetuner.state())
        yield _report("selection", epoch, progress, {**losses, **metrics}, seeds)


def _retrain(
    seeds: Sequence[int], finetuner: Finetuner, best: _Best, progress: _Progress
) -> Iterator[EpochMetrics]:
    """Train on all base classes; keep each replica as it is at the epoch that selection chose."""
    best.state = finetuner.state()
    for epoch in range(1, int(best.epoch.max()) + 1):
        losses = finetuner.train_epoch()
        best.state = _keep_better(best.epoch == epoch, finetuner.state(), best.state)
        yield _report("final", epoch, progress, losses, seeds)


def _evaluate(
    finetuner: Finetuner, task: Task, pictures: Pictures, metric: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Metrics of each replica under its best inference choice, and which one that is."""
    scored = [
        score(finetuner.logits(pictures.features, choice), pictures.labels, task.seen)
        for choice in finetuner.choices
    ]
    table = {name: torch.stack([s[name] for s in scored]).cpu() for name in scored[0]}
    choice = table[metric].argmax(0)  # the first of equals
    return {name: rows.gather(0, choice[None])[0] for name, rows in table.items()}, choice


def _test(finetuner: Finetuner, task: Task, pictures: Pictures, best: _Best) -> EpochMetrics:
    """The test metrics, at the epoch and inference choice that selection chose."""
    metrics: dict[str, Tensor] = {}
    for index in best.choice.unique().tolist():
        logits = finetuner.logits(pictures.features, finetuner.choices[index])
        scored = score(logits, pictures.labels, task.seen)
        scored = {name: value.cpu() for name, value in scored.items()}
        metrics = _keep_better(best.choice == index, scored, metrics)
    metrics |= {f"selection_{name}": value for name, value in best.metrics.items()}
    metrics["selection_epoch"] = best.epoch
    for name in finetuner.choices[0]:
        picked = torch.tensor([c[name] for c in finetuner.choices], dtype=torch.float64)
        metrics[f"selection_{name}"] = picked[best.choice]
    per_seed = {name: tuple(map(float, value)) for name, value in metrics.items()}
    return EpochMetrics("test", int(best.epoch.max()), 1.0, per_seed)


def _report(
    stage: Stage,
    epoch: int,
    progress: _Progress,
    metrics: Mapping[str, Tensor],
    seeds: Sequence[int],
) -> EpochMetrics:
    per_seed = {name: tuple(value.tolist()) for name, value in metrics.items()}
    for name, values in per_seed.items():
        bad = [seed for seed, v in zip(seeds, values, strict=True) if not math.isfinite(v)]
        if bad:
            raise NonFiniteLoss(f"{name} is not finite in {stage} epoch {epoch}, seeds {bad}")
    return EpochMetrics(stage, epoch, progress.step(), per_seed)
