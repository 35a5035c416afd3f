"""One trial: a setting trained for all of its seeds at once, selected, and tested once.

It can stop after any epoch and go on from there: what is built again is built as it was, and what
training had changed (ship.training.state) is put back into it.
"""

from collections.abc import Generator as GeneratorOf
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs import FinetunerConfig, GeneratorConfig
from ship.epoch_metrics import EpochMetrics
from ship.finetuners import FusedFinetuner
from ship.protocols import Exam, Final, Protocol, build_protocol
from ship.subsets import FeatureSet, studied_classes
from ship.training import Checkpoint, CheckpointError, Kept, Part, prefixed, under
from ship.trial.ages import choose_age, planned_ages
from ship.trial.journal import Journal, TrialRun
from ship.trial.selection import Best, Choices, evaluate
from ship.trial.stages import Fitted, Trial
from ship.trial.tested import Tested
from ship.trial.trained import learned_by
from ship.trial_config import TrialConfig


def run_trial(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    targets: Mapping[str, FeatureSet] | None = None,
    dtype: torch.dtype = torch.float32,
    resume: Checkpoint | None = None,
    keep: bool = False,
) -> TrialRun:
    """Train and test one setting under every seed, fused; yields the metrics of each epoch.

    A replica's numbers depend on its setting and its seed alone, not on what runs beside it
    (up to the rounding of differently batched sums; and a quality metric that any seed's pictures
    cannot carry is left out for all). The last item is the only one of stage "test".

    A trial that is resumed says again what it had reported and goes on from there: on a CPU with as
    many threads, to the bit as if it had not been stopped.

    Args:
        config: the setting.
        seeds: of each replica.
        features: of config.dataset.
        targets: of config.targets by name; their test pictures are all that is looked at.
        resume: a checkpoint of this very trial: the same settings, seeds, pictures and backbone.
        keep: whether TrialRun.trained has what was tested.

    Raises:
        NonFiniteLoss: with the number, where it is known the stage and the epoch, and the replicas.
        ValueError: the dataset cannot carry the setting (too few classes, no training pictures).
        CheckpointError: `resume` is of another trial.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    features = studied_classes(config, features)
    protocol = build_protocol(config, seeds, features, targets or {}, clip, dtype)
    journal = Journal(_planned(config, protocol), resume)
    trial = Trial(config, seeds, clip, journal, features if keep else None)
    epochs = _epochs_of(trial, protocol)
    return TrialRun(epochs, journal, clip.arithmetic)


def _epochs_of(trial: Trial, protocol: Protocol) -> Iterator[EpochMetrics]:
    """All of a trial, or what a resumed one has left of it."""
    best = Best(len(trial.seeds), protocol.metric)
    last = _epochs(trial.config.finetuner)
    chosen: tuple[Fitted, FusedFinetuner] | None = None
    if protocol.ages > 1:
        metrics = yield from choose_age(trial, protocol, best)
        yield from trial.journal.report("test", last, metrics)
        return
    if protocol.selection is None:
        best.tensors["epoch"] = torch.full((len(trial.seeds),), last)
    elif not trial.journal.selected:
        chosen = yield from _choose(trial, protocol, protocol.selection, best)
    judged = trial.journal.reported("selection_quality")
    if protocol.generator_task is not None:
        chosen = None
        trial.journal.enter(best=best)  # nothing of selection stays in memory but its choice
        fitted = yield from trial.fit(protocol.generator_task, "final_generator", best=best)
        tested, choices = yield from _retrained(trial, protocol, fitted, best)
    elif chosen is not None:
        fitted, finetuner = chosen
        finetuner.load_state_dict(best.state)
        tested, choices = Tested(trial.kept is not None), finetuner.choices
        for final in protocol.finals:
            tested.add(finetuner, final, protocol, best)
    else:
        raise CheckpointError("it is of a trial that is retrained")
    quality = fitted.judged(protocol.finals, trial.seeds) if trial.config.quality else {}
    selected = best.named(choices) | {f"selection_{n}": v for n, v in judged.items()}
    flags = fitted.flags()
    if protocol.selection is not None:
        flags |= best.flags(choices, last)
    combined = protocol.combine(tested.metrics(protocol.finals))
    metrics = {**combined, **selected, **quality, **flags}
    hits = tested.hits(protocol.finals)
    trial.keep(protocol, learned_by(fitted.generator), tested.learned, best, choices)
    yield from trial.journal.report("test", int(best.epoch.max()), metrics, hits)


def _choose(
    trial: Trial, protocol: Protocol, exam: Exam, best: Best
) -> GeneratorOf[EpochMetrics, None, tuple[Fitted, FusedFinetuner]]:
    """Train on what selection may see, and note each replica's best epoch on the exam."""
    journal = trial.journal
    fitted = yield from trial.fit(exam.task, "selection_generator")
    if trial.config.quality and not journal.done("selection_quality"):
        judged = fitted.judged([Final((exam,))], trial.seeds)
        if judged:
            yield from journal.report("selection_quality", 0, judged)
    finetuner = trial.finetuner(exam.task, fitted.sampler())
    journal.enter(**fitted.parts(), finetuner=finetuner, best=best)
    yield from _select(trial, protocol, exam, finetuner, best)
    return fitted, finetuner


def _retrained(
    trial: Trial, protocol: Protocol, fitted: Fitted, best: Best
) -> GeneratorOf[EpochMetrics, None, tuple[Tested, Choices]]:
    """Retrain for each final and test there; also the choices that were tested at inference."""
    tested = Tested(trial.kept is not None)
    choices: Choices = ()
    kept: dict[str, Part] = {**fitted.parts(), "best": best, "tested": tested}
    trial.journal.enter(**kept)
    for place, final in enumerate(protocol.finals):
        if place < tested.n_finals:
            continue
        finetuner = trial.finetuner(final.task, fitted.sampler(final.ids))
        retrained = Kept(prefixed("state", finetuner.state_dict()))
        trial.journal.enter(**kept, finetuner=finetuner, retrained=retrained)
        yield from _retrain(trial, finetuner, best, retrained, place)
        finetuner.load_state_dict(under(retrained.tensors, "state"))
        tested.add(finetuner, final, protocol, best)
        choices = finetuner.choices
        del finetuner, retrained  # before the next one is built
        trial.journal.enter(**kept)
    return tested, choices


def _planned(config: TrialConfig, protocol: Protocol) -> int:
    """Epochs that a trial reports, at most."""
    retrains = protocol.generator_task is not None
    selects = protocol.selection is not None
    ages = len(planned_ages(_epochs(config.generator), protocol.ages))
    trained = ages * selects + len(protocol.finals) * retrains
    fitted = selects + retrains
    # beside them: quality of the synthesized features, epoch 0 of selection, and the test
    return fitted * _epochs(config.generator) + 2 + selects + trained * _epochs(config.finetuner)


def _epochs(config: GeneratorConfig | FinetunerConfig) -> int:
    return int(getattr(config, "epochs", 0))


def _select(
    trial: Trial, protocol: Protocol, exam: Exam, finetuner: FusedFinetuner, best: Best
) -> Iterator[EpochMetrics]:
    """Train the fine-tuner and keep each replica's best epoch on the selection pictures.

    Epoch 0, the fine-tuner as it was initialised, is a candidate like any other: where training
    only harms, that is what selection must be able to say.
    """
    last = finetuner.epochs
    for epoch in range(trial.journal.done("selection"), last + 1):
        losses = finetuner.train_epoch() if epoch else {}
        metrics: dict[str, Tensor] = {}
        if epoch % trial.config.eval_every == 0 or epoch == last:
            metrics, choice = evaluate(finetuner, exam, protocol)
            best.update(epoch, choice, metrics, finetuner.state_dict())
        yield from trial.journal.report("selection", epoch, {**losses, **metrics})


def _retrain(
    trial: Trial, finetuner: FusedFinetuner, best: Best, retrained: Kept, place: int
) -> Iterator[EpochMetrics]:
    """Train on all that is seen; keeps each replica's state at the epoch that selection chose.

    Behind that epoch a replica trains on beside the others to no effect, and reports no more: what
    becomes of it there is nobody's concern.

    Args:
        retrained: the trained tensors as state.NAME, and each replica's last losses as losses.NAME.
        place: of the task among those that are retrained on, each for as many epochs.
    """
    last = int(best.epoch.max())
    done = max(0, trial.journal.done("final") - place * last)
    for epoch in range(done + 1, last + 1):
        losses = finetuner.train_epoch()
        if epoch == 1:
            # a replica that is tested as it was initialised has none, whatever training would say
            none = {name: torch.zeros_like(value) for name, value in losses.items()}
            retrained.tensors |= prefixed("losses", none)
        retrained.take(best.epoch >= epoch, prefixed("losses", losses))
        retrained.take(best.epoch == epoch, prefixed("state", finetuner.state_dict()))
        yield from trial.journal.report("final", epoch, under(retrained.tensors, "losses"))
