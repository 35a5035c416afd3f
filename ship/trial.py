"""One trial: a setting trained for all of its seeds at once, selected fairly, tested once.

It can stop after any epoch and go on from there: what is built again is built as it was, and what
training had changed (ship.resumable) is put back into it.
"""

from collections.abc import Generator as GeneratorOf
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ship.backbone import FrozenCLIP
from ship.checkpoint import Checkpoint
from ship.features import FeatureSet
from ship.finetuners import FINETUNERS, Finetuner, FinetunerConfig
from ship.fused_settings import each_replica, settings_of, shared_shape
from ship.generators import GENERATORS, Generator, GeneratorConfig
from ship.judge import judge
from ship.metrics import EpochMetrics, Stage
from ship.protocols import PROTOCOLS, Exam, Final, Protocol, studied_classes
from ship.resumable import Part
from ship.selection import Best, Retrained, Tested, evaluate, examine, keep_better
from ship.synthesis import Renumbered, Synthesizer
from ship.task import Task
from ship.trial_config import TrialConfig
from ship.trial_run import Journal, TrialRun


def run_trial(
    config: TrialConfig | Sequence[TrialConfig],
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    targets: Mapping[str, FeatureSet] | None = None,
    dtype: torch.dtype = torch.float32,
    resume: Checkpoint | None = None,
) -> TrialRun:
    """Train and test one setting under every seed, fused; yields the metrics of each epoch.

    Settings that differ in PER_REPLICA fields alone (ship.fused_settings) can be fused too: then
    there is a setting and a seed for each replica.

    A replica's numbers depend on its setting and its seed alone, not on what runs beside it
    (up to the rounding of differently batched sums; and a quality metric that any seed's pictures
    cannot carry is left out for all). The last item is the only one of stage "test".

    A trial that is resumed says again what it had reported and goes on from there: on a CPU with as
    many threads, to the bit as if it had not been stopped.

    Args:
        config: of all replicas, or one for each.
        seeds: of each replica.
        features: of config.dataset.
        targets: of config.targets by name; their test pictures are all that is looked at.
        resume: a checkpoint of this very trial: the same settings, seeds, pictures and backbone.

    Raises:
        NonFiniteLoss: with the number, where it is known the stage and the epoch, and the replicas.
        ValueError: the dataset cannot carry the setting (too few classes, no training pictures).
        CheckpointError: `resume` is of another trial.
    """
    configs = each_replica(config, len(seeds))
    _check_replicas(configs, seeds)
    config = configs[0]
    features = studied_classes(config, features)
    build = PROTOCOLS[config.protocol]
    protocol = build(config, seeds, features, targets or {}, clip, dtype)
    journal = Journal(_planned(config, protocol), resume)
    return TrialRun(_epochs_of(_Trial(configs, seeds, clip, journal), protocol), journal)


def _epochs_of(trial: "_Trial", protocol: Protocol) -> Iterator[EpochMetrics]:
    """All of a trial, or what a resumed one has left of it."""
    journal, config, seeds = trial.journal, trial.config, trial.seeds
    judged = journal.reported("selection_quality")
    best = Best(len(seeds), protocol.metric)
    if not journal.selected:
        fitted = yield from trial.fit(protocol.selection.task, "selection_generator")
        if config.quality and not journal.done("selection_quality"):
            judged = fitted.judged(protocol.selection, seeds)
            if judged:
                yield from journal.report("selection_quality", 0, judged)
        finetuner = trial.finetuner(protocol.selection.task, fitted.generator)
        journal.enter(**fitted.parts(), finetuner=finetuner, best=best)
        yield from _select(trial, protocol, finetuner, best)
    if protocol.generator_task is not None:
        fitted = yield from trial.fit(protocol.generator_task, "final_generator", best=best)
    tested = Tested()
    kept: dict[str, Part] = {**fitted.parts(), "best": best, "tested": tested}
    journal.enter(**kept)
    for place, final in enumerate(protocol.finals):
        if place < len(tested.finals):
            continue
        state = best.state
        if protocol.generator_task is not None:
            finetuner = trial.finetuner(final.task, fitted.renumbered(final))
            retrained = Retrained(finetuner.state())
            journal.enter(**kept, finetuner=finetuner, retrained=retrained)
            yield from _retrain(trial, finetuner, best, retrained, place)
            state = retrained.state
        finetuner.load_state(state)
        tested.finals.append([examine(finetuner, exam, protocol, best) for exam in final.exams])
    last = fitted.judged_finals(protocol.finals, seeds) if config.quality else {}
    chosen = best.named(finetuner.choices) | {f"selection_{n}": v for n, v in judged.items()}
    metrics = {**protocol.combine(tested.exams), **chosen, **last, **fitted.flags()}
    yield from journal.report("test", int(best.epoch.max()), metrics)


def _check_replicas(configs: Sequence[TrialConfig], seeds: Sequence[int]) -> None:
    replicas = list(zip(configs, seeds, strict=True))
    if not replicas or any(one in replicas[:place] for place, one in enumerate(replicas)):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    if len({shared_shape(config) for config in configs}) > 1:
        raise ValueError("settings must differ in PER_REPLICA fields alone to be trained fused")


def _planned(config: TrialConfig, protocol: Protocol) -> int:
    """Epochs that a trial reports, at most."""
    retrain = protocol.generator_task is not None
    trained = 1 + len(protocol.finals) * retrain
    return (1 + retrain) * _epochs(config.generator) + 2 + trained * _epochs(config.finetuner)


def _epochs(config: GeneratorConfig | FinetunerConfig) -> int:
    return int(getattr(config, "epochs", 0))


@dataclass(frozen=True)
class _Fitted:
    """A fitted generator (None: no synthetic features) and what its last epoch reported."""

    generator: Generator | None
    reported: Mapping[str, Tensor]

    def parts(self) -> dict[str, Part]:
        """The generator by its name in a checkpoint."""
        return {} if self.generator is None else {"generator": self.generator}

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
    journal: Journal

    @property
    def config(self) -> TrialConfig:
        """What all replicas share, and the first one's own."""
        return self.configs[0]

    def fit(
        self, task: Task, stage: Stage, **kept: Part
    ) -> GeneratorOf[EpochMetrics, None, _Fitted]:
        """Fit the generator on the task's seen classes.

        Args:
            kept: what a later stage needs beside it.
        """
        _, build = GENERATORS[self.config.generator.name]
        if build is None:
            self.journal.enter(**kept)
            return _Fitted(None, {})
        generator: Generator = build(
            settings_of(self.configs, "generator"), task, self.clip, self.seeds
        )
        self.journal.enter(generator=generator, **kept)
        losses: Mapping[str, Tensor] = self.journal.reported(stage)
        for epoch in range(self.journal.done(stage) + 1, generator.epochs + 1):
            if epoch > 1 and generator.finished:
                break
            losses = generator.train_epoch()
            yield from self.journal.report(stage, epoch, losses)
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


def _select(
    trial: _Trial, protocol: Protocol, finetuner: Finetuner, best: Best
) -> Iterator[EpochMetrics]:
    """Train the fine-tuner and keep each replica's best epoch on the selection pictures."""
    last, done = finetuner.epochs, trial.journal.done("selection")
    for epoch in range(done + 1, last + 1) if last else range(1 - done):
        losses = finetuner.train_epoch() if last else {}
        metrics: dict[str, Tensor] = {}
        if epoch % trial.config.eval_every == 0 or epoch == last:
            metrics, choice = evaluate(finetuner, protocol)
            best.update(epoch, choice, metrics, finetuner.state())
        yield from trial.journal.report("selection", epoch, {**losses, **metrics})


def _retrain(
    trial: _Trial, finetuner: Finetuner, best: Best, retrained: Retrained, place: int
) -> Iterator[EpochMetrics]:
    """Train on all that is seen; keeps each replica's state at the epoch that selection chose.

    Behind that epoch a replica trains on beside the others to no effect, and reports no more: what
    becomes of it there is nobody's concern.

    Args:
        place: of the task among those that are retrained on, each for as many epochs.
    """
    last = int(best.epoch.max())
    done = max(0, trial.journal.done("final") - place * last)
    for epoch in range(done + 1, last + 1):
        retrained.losses = keep_better(
            best.epoch >= epoch, finetuner.train_epoch(), retrained.losses
        )
        retrained.state = keep_better(best.epoch == epoch, finetuner.state(), retrained.state)
        yield from trial.journal.report("final", epoch, retrained.losses)
