"""One trial: a setting trained for all of its seeds at once, selected fairly, tested once."""

from collections.abc import Generator as GeneratorOf
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.features import FeatureSet
from ship.finetuners import FINETUNERS, Finetuner, FinetunerConfig
from ship.fused_settings import each_replica, settings_of, shared_shape
from ship.generators import GENERATORS, Generator, GeneratorConfig
from ship.judge import judge
from ship.metrics import EpochMetrics, Stage
from ship.protocols import PROTOCOLS, Exam, Final, Protocol, studied_classes
from ship.selection import Best, evaluate, examine, keep_better
from ship.synthesis import Renumbered, Synthesizer
from ship.task import Task
from ship.trial_config import TrialConfig


def run_trial(
    config: TrialConfig | Sequence[TrialConfig],
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    targets: Mapping[str, FeatureSet] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[EpochMetrics]:
    """Train and test one setting under every seed, fused; yields the metrics of each epoch.

    Settings that differ in PER_REPLICA fields alone (ship.fused_settings) can be fused too: then
    there is a setting and a seed for each replica.

    A replica's numbers depend on its setting and its seed alone, not on what runs beside it
    (up to the rounding of differently batched sums; and a quality metric that any seed's pictures
    cannot carry is left out for all). The last item is the only one of stage "test".

    Args:
        config: of all replicas, or one for each.
        seeds: of each replica.
        features: of config.dataset.
        targets: of config.targets by name; their test pictures are all that is looked at.

    Raises:
        NonFiniteLoss: with the number, where it is known the stage and the epoch, and the replicas.
        ValueError: the dataset cannot carry the setting (too few classes, no training pictures).
    """
    configs = each_replica(config, len(seeds))
    _check_replicas(configs, seeds)
    config = configs[0]
    features = studied_classes(config, features)
    build = PROTOCOLS[config.protocol]
    protocol = build(config, seeds, features, targets or {}, clip, dtype)
    trial = _Trial(configs, seeds, clip, _Progress(config, protocol))
    fitted = yield from trial.fit(protocol.selection.task, "selection_generator")
    judged = fitted.judged(protocol.selection, seeds) if config.quality else {}
    if judged:
        yield trial.report("selection_quality", 0, judged)
    finetuner = trial.finetuner(protocol.selection.task, fitted.generator)
    best = Best(len(seeds), protocol.metric)
    yield from _select(trial, protocol, finetuner, best)
    retrain = protocol.generator_task is not None
    if protocol.generator_task is not None:
        fitted = yield from trial.fit(protocol.generator_task, "final_generator")
    found = []
    for final in protocol.finals:
        state = best.state
        if retrain:
            finetuner = trial.finetuner(final.task, fitted.renumbered(final))
            state = yield from _retrain(trial, finetuner, best)
        finetuner.load_state(state)
        found += [examine(finetuner, exam, protocol, best) for exam in final.exams]
    last = fitted.judged_finals(protocol.finals, seeds) if config.quality else {}
    chosen = best.named(finetuner.choices) | {f"selection_{n}": v for n, v in judged.items()}
    metrics = {**protocol.combine(found), **chosen, **last, **fitted.flags()}
    yield trial.report("test", int(best.epoch.max()), metrics)


def _check_replicas(configs: Sequence[TrialConfig], seeds: Sequence[int]) -> None:
    replicas = list(zip(configs, seeds, strict=True))
    if not replicas or any(one in replicas[:place] for place, one in enumerate(replicas)):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    if len({shared_shape(config) for config in configs}) > 1:
        raise ValueError("settings must differ in PER_REPLICA fields alone to be trained fused")


class _Progress:
    """Fraction of the planned epochs that is done."""

    def __init__(self, config: TrialConfig, protocol: Protocol) -> None:
        retrain = protocol.generator_task is not None
        trained = 1 + len(protocol.finals) * retrain
        self._planned = (1 + retrain) * _epochs(config.generator) + 2
        self._planned += trained * _epochs(config.finetuner)
        self._done = 0

    def step(self) -> float:
        """Count one epoch; the fraction so far, at most 1."""
        self._done += 1
        return min(self._done / self._planned, 1.0)


def _epochs(config: GeneratorConfig | FinetunerConfig) -> int:
    return int(getattr(config, "epochs", 0))


@dataclass(frozen=True)
class _Fitted:
    """A fitted generator (None: no synthetic features) and what its last epoch reported."""

    generator: Generator | None
    reported: Mapping[str, Tensor]

    def renumbered(self, final: Final) -> Generator | None:
        """The generator for a task that numbers classes in its own way."""
        if self.generator is None or final.ids is None:
            return self.generator
        return Renumbered(self.generator, final.ids)

    def judged(self, exam: Exam, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Quality of the features of the exam's classes without pictures; {} without generator."""
        return {} if self.generator is None else judge(self.generator, exam, seeds)

    def judged_finals(self, finals: Sequence[Final], seeds: Sequence[int]) -> dict[str, Tensor]:
        """The same for the tested classes; over several targets the mean, of flags the maximum."""
        found = []
        for final in finals:
            generator = self.renumbered(final)
            if generator is not None:
                found.append(judge(generator, final.exams[0], seeds))
        shared = set.intersection(*map(set, found)) if found else set()
        names = [name for name in (found[0] if found else ()) if name in shared]
        stacked = {name: torch.stack([one[name] for one in found]) for name in names}
        return {
            # a flag is up where any target raised it
            name: values.amax(0) if name.startswith("flag/") else values.mean(0)
            for name, values in stacked.items()
        }

    def flags(self) -> dict[str, Tensor]:
        """flag/posterior_collapse: no latent unit is active (of generators with a posterior)."""
        if "active_units" not in self.reported:
            return {}
        return {"flag/posterior_collapse": (self.reported["active_units"] == 0).double()}


@dataclass(frozen=True)
class _Trial:
    """What every stage of a trial needs."""

    configs: Sequence[TrialConfig]
    seeds: Sequence[int]
    clip: FrozenCLIP
    progress: _Progress

    @property
    def config(self) -> TrialConfig:
        """What all replicas share, and the first one's own."""
        return self.configs[0]

    def fit(self, task: Task, stage: Stage) -> GeneratorOf[EpochMetrics, None, _Fitted]:
        """Fit the generator on the task's seen classes."""
        _, build = GENERATORS[self.config.generator.name]
        if build is None:
            return _Fitted(None, {})
        generator: Generator = build(
            settings_of(self.configs, "generator"), task, self.clip, self.seeds
        )
        losses: Mapping[str, Tensor] = {}
        for epoch in range(1, generator.epochs + 1):
            losses = generator.train_epoch()
            yield self.report(stage, epoch, losses)
            if generator.finished:
                break
        return _Fitted(generator, losses)

    def finetuner(self, task: Task, generator: Generator | None) -> Finetuner:
        """The untrained fine-tuner of a task."""
        synthesizer = None
        if generator is not None and task.synthesized_ids.shape[1]:
            synthetic = settings_of(self.configs, "synthetic")
            synthesizer = Synthesizer(synthetic, generator, task, self.seeds)
        _, build = FINETUNERS[self.config.finetuner.name]
        config = settings_of(self.configs, "finetuner")
        made: Finetuner = build(config, task, synthesizer, self.clip, self.seeds)
        return made

    def report(self, stage: Stage, epoch: int, metrics: Mapping[str, Tensor]) -> EpochMetrics:
        """Metrics as plain numbers.

        Raises:
            NonFiniteLoss: one of them is NaN or infinite.
        """
        values = {name: tuple(map(float, value)) for name, value in metrics.items()}
        progress = 1.0 if stage == "test" else self.progress.step()
        return EpochMetrics(stage, epoch, progress, values)


def _select(
    trial: _Trial, protocol: Protocol, finetuner: Finetuner, best: Best
) -> Iterator[EpochMetrics]:
    """Train the fine-tuner and keep each replica's best epoch on the selection pictures."""
    last = finetuner.epochs
    for epoch in range(1, last + 1) if last else [0]:
        losses = finetuner.train_epoch() if last else {}
        metrics: dict[str, Tensor] = {}
        if epoch % trial.config.eval_every == 0 or epoch == last:
            metrics, choice = evaluate(finetuner, protocol)
            best.update(epoch, choice, metrics, finetuner.state())
        yield trial.report("selection", epoch, {**losses, **metrics})


def _retrain(
    trial: _Trial, finetuner: Finetuner, best: Best
) -> GeneratorOf[EpochMetrics, None, dict[str, Tensor]]:
    """Train on all that is seen; each replica's state at the epoch that selection chose.

    Behind that epoch a replica trains on beside the others to no effect, and reports no more: what
    becomes of it there is nobody's concern.
    """
    state = finetuner.state()
    losses: dict[str, Tensor] = {}
    for epoch in range(1, int(best.epoch.max()) + 1):
        losses = keep_better(best.epoch >= epoch, finetuner.train_epoch(), losses)
        state = keep_better(best.epoch == epoch, finetuner.state(), state)
        yield trial.report("final", epoch, losses)
    return state
