"""Selection as SHIP's authors do it: the age of the generator that does best on the test pictures.

Source: github.com/mrflogs/SHIP, run_coop: CoOp is trained anew at each of five ages of the
generator, and the best H on the test pictures is reported. It is here so that what this adds to a
result can be measured; it is a leak.
"""

from collections.abc import Generator as GeneratorOf
from collections.abc import Iterator

from torch import Tensor

from ship.epoch_metrics import EpochMetrics
from ship.finetuners import FusedFinetuner
from ship.generators import FeatureSource
from ship.protocols import Protocol
from ship.training import Part, State, prefixed, under
from ship.trial.selection import Best, evaluate
from ship.trial.stages import Fitted, Trial
from ship.trial.trained import learned_by


def planned_ages(epochs: int, ages: int) -> list[int]:
    """Epochs of the generator at which a fine-tuner is trained: evenly spaced, the last one is in.

    Args:
        epochs: of the generator; 0: it is not trained, and has one age.
        ages: how many are wanted; there are no more than epochs.
    """
    return sorted({-(-epochs * (place + 1) // ages) for place in range(ages)})


def choose_age(
    trial: Trial, protocol: Protocol, best: Best
) -> GeneratorOf[EpochMetrics, None, dict[str, Tensor]]:
    """Train a fine-tuner to its end at each age of the generator, and keep the best age.

    Args:
        trial: what is trained.
        protocol: whose selection exam is the one that is tested.
        best: where each replica's best age is noted.

    Returns:
        The test metrics at the best age, (replica,) each, and what was chosen. They are no further
        test: the choice has looked at these very numbers. Quality is not measured, since the
        generator that is at hand is that of the last age.
    """
    exam = protocol.selection
    if exam is None:
        raise ValueError("an age of the generator is chosen on pictures, and there are none")
    generator = trial.generator(exam.task)
    parts: dict[str, Part] = {} if generator is None else {"generator": generator}
    trial.journal.enter(**parts, best=best)
    losses = trial.journal.reported("selection_generator")
    epoch = trial.journal.done("selection_generator")
    for place, age in enumerate(planned_ages(getattr(generator, "epochs", 0), protocol.ages)):
        while generator is not None and epoch < age and not (epoch and generator.finished):
            epoch, losses = epoch + 1, generator.train_epoch()
            yield from trial.journal.report("selection_generator", epoch, losses)
        finetuner = trial.finetuner(exam.task, Fitted(generator, losses).sampler())
        yield from _train(trial, protocol, generator, finetuner, best, place, age)
        trial.journal.enter(**parts, best=best)
        if generator is not None and generator.finished:
            break
    learned = under(best.state, "generator") or None
    # the last age and its fine-tuner: there is one at least
    trial.keep(protocol, learned, [under(best.state, "finetuner")], best, finetuner.choices)
    selected = best.named(finetuner.choices)
    selected["selection_age"] = selected.pop("selection_epoch")
    flags = Fitted(generator, losses).flags() | best.flags(finetuner.choices, age)
    return {**protocol.combine([best.metrics]), **selected, **flags}


def _train(
    trial: Trial,
    protocol: Protocol,
    generator: FeatureSource | None,
    finetuner: FusedFinetuner,
    best: Best,
    place: int,
    age: int,
) -> Iterator[EpochMetrics]:
    """Train a fine-tuner at one age, and look at the exam once, behind its last epoch.

    Epochs are numbered on from age to age. A trial that was resumed has some of them behind it.

    Args:
        generator: at that age, if there is one.
        place: of the age among all.
    """
    parts: dict[str, Part] = {} if generator is None else {"generator": generator}
    exam, last = protocol.selection, max(finetuner.epochs, 1)
    done = trial.journal.done("selection") - place * last
    if done <= last:  # else what a checkpoint holds is of a later age
        trial.journal.enter(**parts, finetuner=finetuner, best=best)
    for epoch in range(max(0, done) + 1, last + 1):
        losses = finetuner.train_epoch() if finetuner.epochs else {}
        metrics: dict[str, Tensor] = {}
        if epoch == last and exam is not None:
            metrics, choice = evaluate(finetuner, exam, protocol)
            state: State = {}
            if trial.kept is not None:
                state = prefixed("generator", learned_by(generator) or {})
                state |= prefixed("finetuner", learned_by(finetuner) or {})
            best.update(age, choice, metrics, state)
        number = place * last + epoch
        yield from trial.journal.report("selection", number, {**losses, **metrics})
