"""One trial: a setting trained for all of its seeds at once, selected, and tested once.

It can stop after any epoch and go on from there: what is built again is built as it was, and what
training had changed (ship.state) is put back into it.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.finetuners import FusedFinetuner, build_finetuner
from ship.generators import FeatureSource, MixedWithReal, Synthesizer, build_generator
from ship.protocols import Exam, Protocol, build_protocol
from ship.quality import judge
from ship.replicas import Kept
from ship.state import Checkpoint, CheckpointError, Part, State, capture, prefixed, under
from ship.subsets import FeatureSet, studied_classes
from ship.tasks import Task
from ship.trial.journal import Journal, TrialRun
from ship.trial.selection import (
    TOLERANCE,
    Best,
    Choices,
    evaluate,
    exam_results,
    examine,
    right_answers,
)
from ship.trial.trained import trained_files
from ship.trial_config import LEAKING_SELECTIONS, EpochMetrics, Stage, TrialConfig

# What NaN in metrics means where the metrics themselves are always numbers.
LOGITS = "logits are"
FEATURES = "synthetic features are"
WEIGHTS = "the generator's weights are"


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

    A replica whose loss, logits or synthetic features are not finite has failed: it has no more
    numbers, and the others end with the same ones as without it (EpochMetrics.failed).

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
        NonFiniteLoss: All replicas have failed; with each one's reason, stage and epoch.
        ValueError: the dataset cannot carry the setting (too few classes, no training pictures).
        CheckpointError: `resume` is of another trial, or of one that kept what this one does not.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    keeps = torch.tensor(keep)
    if resume is not None and not keeps.equal(resume.tensors.get("keeps", torch.tensor(False))):
        raise CheckpointError(f"keep was {not keep} where the trial stopped, and now is {keep}")
    features = studied_classes(config, features)
    protocol = build_protocol(config, seeds, features, targets or {}, clip, dtype)
    # a selection that looks at test images is there to show what picking the best one adds
    tolerance = None if config.selection in LEAKING_SELECTIONS else TOLERANCE
    best, tested = Best(len(seeds), protocol.metric, tolerance), Kept({})
    always: dict[str, Part] = {"best": best, "tested": tested, "keeps": keeps}
    journal = Journal(_planned(config, protocol), len(seeds), always, resume)
    kept = features if keep else None
    trial = _Trial(config, seeds, clip, protocol, journal, best, tested, kept)
    return TrialRun(trial.epochs(), journal, clip.arithmetic)


@dataclass
class _Trial:
    """The stages of a trial.

    best: what selection chose.
    tested: what the exams of the finals that are over have given (selection.exam_results).
    to_keep: the dataset, if what is trained is to be kept; None: it is not.
    choices: for inference, which selection chooses from.
    last: number of the last candidate of selection.
    """

    config: TrialConfig
    seeds: Sequence[int]
    clip: FrozenCLIP
    protocol: Protocol
    journal: Journal
    best: Best
    tested: Kept
    to_keep: FeatureSet | None
    choices: Choices = ()
    last: int = 0

    @property
    def by_age(self) -> bool:
        """Whether selection compares ages of the generator, and not epochs of the fine-tuner."""
        return self.protocol.ages > 1

    @property
    def _chosen_epoch(self) -> int:
        """The last epoch that any replica is tested at."""
        return int(self.best.epoch[self.journal.living].max())

    def epochs(self) -> Iterator[EpochMetrics]:
        """All of it, or what a resumed one has left of it."""
        protocol, best, by_age = self.protocol, self.best, self.by_age
        self.last = epoch = _epochs(self.config.finetuner)
        generator: FeatureSource | None = None
        if protocol.selection is None:
            best.tensors["epoch"] = torch.full_like(best.epoch, self.last)
        elif not self.journal.count("final_generator", "final"):
            generator = yield from self._select(protocol.selection)
        if protocol.generator_task is not None:
            generator = None  # selection's goes before another one is built
            generator = yield from self._retrain(protocol.generator_task)
        counted = "age" if by_age else "epoch"
        metrics = best.named(self.choices, counted)
        judged = self.journal.reported("selection_quality")
        metrics |= {f"selection_{name}": value for name, value in judged.items()}
        exams = [best.metrics]  # no further test of an age: choosing has looked at these numbers
        if not by_age:
            epoch = self._chosen_epoch
            exams = [
                exam_results(self.tested, place, number)
                for place, final in enumerate(protocol.finals)
                for number in range(len(final))
            ]
            if self.config.quality:
                judged_on = [final[0] for final in protocol.finals]
                judged = judge(generator, judged_on, self.seeds)
                metrics |= self.journal.check("test", epoch, judged, FEATURES)
        fitted = self.journal.reported("selection_generator", "final_generator")
        if "active_units" in fitted:  # no latent unit is active
            metrics["flag/posterior_collapse"] = (fitted["active_units"] == 0).double()
        if protocol.selection is not None:
            metrics |= best.flags(self.choices, self.last, counted)
        metrics = self.journal.check("test", epoch, protocol.combine(exams) | metrics)
        if self.to_keep is not None:
            self.journal.trained = self._files(self.to_keep, generator)
        hits = right_answers(self.tested, protocol.finals)
        yield from self.journal.report("test", epoch, metrics, hits)

    def _select(self, exam: Exam) -> Generator[EpochMetrics, None, FeatureSource | None]:
        """Train on what selection may see, and note each replica's best epoch on the exam.

        Epoch 0, the fine-tuner as it was initialised, is a candidate like any other: where training
        only harms, that is what selection must be able to say.

        Under selection "reference" ages of the generator are compared instead, as SHIP's authors do
        (github.com/mrflogs/SHIP, run_coop): CoOp is trained anew at each of five, its epochs are
        numbered on, and the best H on the test pictures is reported. It is here so that what this
        adds to a result can be measured; it is a leak.

        Where nothing is retrained, the best state is tested.

        Returns:
            The generator.
        """
        protocol, journal, best, by_age = self.protocol, self.journal, self.best, self.by_age
        generator = self._generator(exam.task)
        first = 1 if by_age else 0
        ages = planned_ages(_epochs(generator), protocol.ages)
        if by_age:  # whether or not a seed stops earlier, which is no reason to train for longer
            self.last = ages[-1]
        for place, age in enumerate(ages):
            journal.enter(generator=_parts(generator))
            yield from self._fit(generator, "selection_generator", age)
            if journal.count("selection_generator") > age:  # it was resumed at a later one
                continue
            wanted = self.config.quality and not by_age and not journal.count("selection_quality")
            if wanted and (judged := judge(generator, [exam], self.seeds)):
                judged = journal.check("selection_quality", 0, judged, FEATURES)
                yield from journal.report("selection_quality", 0, judged)
            finetuner = self._finetuner(exam.task, generator)
            epochs = range(first, max(first, finetuner.epochs) + 1)
            done = journal.count("selection") - place * len(epochs)
            journal.enter(generator=_parts(generator), finetuner=finetuner.parts())
            every = epochs[-1] if by_age else self.config.eval_every
            for epoch in epochs[done:]:
                losses = finetuner.train_epoch() if epoch else {}
                number = place * len(epochs) + epoch
                metrics: dict[str, Tensor] = {}
                if epoch % every == 0 or epoch == epochs[-1]:
                    metrics, choice = evaluate(finetuner, exam, protocol)
                    metrics = journal.check("selection", number, metrics, LOGITS)
                    state = finetuner.state_dict()
                    if by_age:
                        state = prefixed("generator", self._learned(generator) or {})
                        state |= prefixed("finetuner", self._learned(finetuner) or {})
                    best.update(age if by_age else epoch, choice, metrics, state)
                yield from journal.report("selection", number, {**losses, **metrics})
            if by_age:
                del finetuner  # before the next one is built
            if generator is not None and self._has_finished(generator):
                break
        if protocol.generator_task is None and not by_age:
            finetuner.load_state_dict(best.state)
            for place in range(len(protocol.finals)):
                self._test(finetuner, place)
        return generator

    def _retrain(self, task: Task) -> Generator[EpochMetrics, None, FeatureSource | None]:
        """Train on all that is seen, for each final, and test each seed at its chosen epoch.

        A seed's learning rate falls to its end by the chosen epoch, as if the seed were trained for
        that many epochs: otherwise it would be tested at a rate near the highest.

        After its chosen epoch a seed keeps training with the batch, but its state and metrics are
        no longer recorded.

        Args:
            task: of the generator, which all finals share.

        Returns:
            The generator.
        """
        journal = self.journal
        journal.enter()  # nothing of selection stays in memory but its choice
        best = self.best
        last = int(best.epoch.max())
        generator = self._generator(task)
        journal.enter(generator=_parts(generator))
        yield from self._fit(generator, "final_generator", _epochs(generator))
        for place, final in enumerate(self.protocol.finals):
            if under(self.tested.tensors, str(place)):
                continue
            finetuner = self._finetuner(final[0].task, generator)
            finetuner.shorten_schedules(best.epoch.tolist())
            # each replica's state at its chosen epoch, and its last losses until then
            kept = Kept(prefixed("state", finetuner.state_dict()))
            journal.enter(generator=_parts(generator), finetuner=finetuner.parts(), retrained=kept)
            for epoch in range(journal.count("final") - place * last + 1, last + 1):
                losses = finetuner.train_epoch()
                if epoch == 1:
                    # one that is tested as it was initialised has none, whatever training would say
                    none = {name: torch.zeros_like(value) for name, value in losses.items()}
                    kept.tensors |= prefixed("losses", none)
                kept.take(best.epoch >= epoch, prefixed("losses", losses))
                kept.take(best.epoch == epoch, prefixed("state", finetuner.state_dict()))
                yield from journal.report("final", epoch, under(kept.tensors, "losses"))
            finetuner.load_state_dict(under(kept.tensors, "state"))
            self._test(finetuner, place)
            del finetuner, kept  # before the next one is built
            journal.enter(generator=_parts(generator))
        return generator

    def _test(self, finetuner: FusedFinetuner, place: int) -> None:
        """Let a fine-tuner, at the state that selection chose, take the exams of a final."""
        tested = self.tested.tensors
        for number, exam in enumerate(self.protocol.finals[place]):
            found = examine(finetuner, exam, self.protocol, self.best)
            scores = {name: value for name, value in found.items() if value.is_floating_point()}
            self.journal.check("test", self._chosen_epoch, scores, LOGITS)
            tested |= prefixed(f"{place}.{number}", found)
        learned = self._learned(finetuner) or {}
        tested |= {f"{place}.0.learned/{name}": value for name, value in learned.items()}

    def _files(self, dataset: FeatureSet, generator: FeatureSource | None) -> dict[str, bytes]:
        """Those of what was tested, of the replicas that have not failed."""
        best, living = self.best, self.journal.living
        if self.by_age:
            made = under(best.state, "generator") or None
            tuned = [under(best.state, "finetuner")]
        else:
            made = self._learned(generator)
            places = range(len(self.protocol.finals))
            tuned = [exam_results(self.tested, place, 0, "learned/") for place in places]
        made = made and {name: value[living] for name, value in made.items()}
        tuned = [{name: value[living] for name, value in state.items()} for state in tuned]
        seeds = [self.seeds[replica] for replica in living]
        epochs, picked = best.epoch[living].tolist(), best.choice[living].tolist()
        at = [(epoch, self.choices[p]) for epoch, p in zip(epochs, picked, strict=True)]
        return trained_files(self.config, seeds, dataset, self.clip, self.protocol, made, tuned, at)

    def _fit(
        self, generator: FeatureSource | None, stage: Stage, epochs: int
    ) -> Generator[EpochMetrics, None, None]:
        """Train a generator until so many epochs are behind it, or every seed has stopped."""
        if generator is None:
            return
        while (done := self.journal.count(stage)) < epochs:
            if done and self._has_finished(generator):
                break
            yield from self.journal.report(stage, done + 1, generator.train_epoch())
        if generator.epochs:
            # the last step shows in no loss, and what is fitted in closed form would raise
            weights = capture(generator.learned() or {})
            sound = {n: v.isfinite().reshape(len(v), -1).all(1) for n, v in weights.items()}
            finite = {name: torch.where(ok, 0.0, torch.nan) for name, ok in sound.items()}
            self.journal.check(stage, done, finite, WEIGHTS)

    def _has_finished(self, generator: FeatureSource) -> bool:
        """Return True if every replica has stopped early, or has failed."""
        generator.give_up(list(self.journal.failed))
        return generator.finished

    def _generator(self, task: Task) -> FeatureSource | None:
        """The generator for a task before its first epoch; None: no synthetic features."""
        made = build_generator(self.config.generator, task, self.clip, self.seeds)
        share = self.config.synthetic.real_share
        return MixedWithReal(made, share, task, self.clip, self.seeds) if made and share else made

    def _finetuner(self, task: Task, generator: FeatureSource | None) -> FusedFinetuner:
        """The untrained fine-tuner of a task."""
        synthesizer = None
        if generator is not None and task.synthesized_ids.shape[1]:
            generator.give_up(list(self.journal.failed))
            synthesizer = Synthesizer(self.config.synthetic, generator.sample, task, self.seeds)
        made = build_finetuner(self.config.finetuner, task, synthesizer, self.clip, self.seeds)
        self.choices = made.choices
        return made

    def _learned(self, part: FeatureSource | FusedFinetuner | None) -> State | None:
        """What a part has learned, as copies on the CPU; None: it is not kept, or cannot be."""
        learned = None if part is None or self.to_keep is None else part.learned()
        return None if learned is None else capture(learned)


def _parts(generator: FeatureSource | None) -> Mapping[str, Part] | None:
    return None if generator is None else generator.parts()


def planned_ages(epochs: int, ages: int) -> list[int]:
    """Epochs of the generator at which a fine-tuner is trained: evenly spaced, the last one is in.

    Args:
        epochs: of the generator; 0: it is not trained, and has one age.
        ages: how many are wanted; there are no more than epochs.
    """
    return sorted({-(-epochs * (place + 1) // ages) for place in range(ages)})


def _planned(config: TrialConfig, protocol: Protocol) -> int:
    """Epochs that a trial reports, at most."""
    retrains = protocol.generator_task is not None
    selects = protocol.selection is not None
    ages = len(planned_ages(_epochs(config.generator), protocol.ages))
    trained = ages * selects + len(protocol.finals) * retrains
    fitted = selects + retrains
    # beside them: quality of the synthesized features, epoch 0 of selection, and the test
    return fitted * _epochs(config.generator) + 2 + selects + trained * _epochs(config.finetuner)


def _epochs(trained: object) -> int:
    """Of settings, of what they set, or of None: 0."""
    return int(getattr(trained, "epochs", 0))
