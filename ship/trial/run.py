"""One trial: a configuration trained for all of its seeds at once, selected, and tested once.

A trial can be resumed from any epoch: its objects are rebuilt in the same way, and the state that
training has changed (ship.state) is restored.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.finetuners import BatchedFinetuner, build_finetuner
from ship.generators import FeatureSource, MixedWithReal, Synthesizer, build_generator
from ship.protocols import EvalSet, Protocol, build_protocol
from ship.quality import measure_generator
from ship.seeds import SeedState
from ship.state import Checkpoint, CheckpointError, Part, State, add_prefix, capture, strip_prefix
from ship.subsets import FeatureSet, select_studied_classes
from ship.tasks import Task
from ship.trial.journal import Journal, TrialRun
from ship.trial.selection import (
    TOLERANCE,
    BestCheckpoint,
    InferenceGrid,
    collect_correct_predictions,
    evaluate,
    evaluate_choices,
    get_eval_results,
)
from ship.trial.trained import make_trained_files
from ship.trial_config import LEAKING_SELECTIONS, EpochMetrics, Stage, TrialConfig

# Subject and verb of a failure's reason, for NaN in metrics that are always finite themselves.
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
    save_models: bool = False,
) -> TrialRun:
    """Train and test one configuration under all seeds at once.

    The result iterates over the metrics of each epoch. The last item is the only one of stage
    "test".

    A seed's results depend on the configuration and the seed only, not on the other seeds. There
    are two exceptions: sums round differently in batches of another size, and a quality metric that
    cannot be computed for one seed's images is omitted for all seeds.

    A seed with a non-finite loss, logit or synthetic feature has failed (EpochMetrics.failed). It
    has no further results. The other seeds end with the same results as without it.

    A resumed trial first repeats its previous reports. On a CPU with the same number of threads its
    results are bitwise those of an uninterrupted trial.

    Args:
        config: Configuration of the trial.
        seeds: Distinct seeds of the trial.
        features: Features of config.dataset.
        targets: Features of config.targets by name. Only their test images are used.
        clip: Frozen backbone.
        dtype: Floating-point type of the training.
        resume: Checkpoint of the same trial: same configuration, seeds, images and backbone.
        save_models: Whether `TrialRun.trained` has the trained models after the test.

    Returns:
        The trial as an iterator. It trains when it is iterated.

    Raises:
        NonFiniteLoss: All seeds have failed, with the reason, stage and epoch of each.
        ValueError: The dataset does not fit the configuration (too few classes, no training
            images).
        CheckpointError: `resume` is of another trial, or of one with another `save_models`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    save_flag = torch.tensor(save_models)
    if resume is not None and not save_flag.equal(resume.tensors.get("keeps", torch.tensor(False))):
        raise CheckpointError(f"save_models must be {not save_models} as in the checkpoint")
    features = select_studied_classes(config, features)
    protocol = build_protocol(config, seeds, features, targets or {}, clip, dtype)
    # Selections on test images measure the gain of picking the best epoch, so no tolerance.
    tolerance = None if config.selection in LEAKING_SELECTIONS else TOLERANCE
    best, tested = BestCheckpoint(len(seeds), protocol.metric, tolerance), SeedState({})
    permanent: dict[str, Part] = {"best": best, "tested": tested, "keeps": save_flag}
    journal = Journal(_count_planned_epochs(config, protocol), len(seeds), permanent, resume)
    features_to_save = features if save_models else None
    trial = _Trial(config, seeds, clip, protocol, journal, best, tested, features_to_save)
    return TrialRun(trial.epochs(), journal, clip.arithmetic)


@dataclass
class _Trial:
    """The stages of a trial.

    Attributes:
        config: Configuration of the trial.
        seeds: Seeds of the trial.
        clip: Frozen backbone.
        protocol: Evaluation sets and tasks of the trial.
        journal: Journal that the trial reports to.
        best: Selected epoch and inference choice of each seed.
        tested: Results of the finished test sets (selection.eval_results).
        dataset_to_save: Dataset, if trained models are saved. None if they are not.
        inference_grid: Inference choices that selection chooses from.
        last: Number of the last candidate of selection.
    """

    config: TrialConfig
    seeds: Sequence[int]
    clip: FrozenCLIP
    protocol: Protocol
    journal: Journal
    best: BestCheckpoint
    tested: SeedState
    dataset_to_save: FeatureSet | None
    inference_grid: InferenceGrid = ()
    last: int = 0

    @property
    def by_age(self) -> bool:
        """Whether selection compares ages of the generator instead of epochs of the fine-tuner."""
        return self.protocol.ages > 1

    @property
    def _chosen_epoch(self) -> int:
        """Latest epoch at which an active seed is tested."""
        return int(self.best.epoch[self.journal.active_seeds].max())

    def epochs(self) -> Iterator[EpochMetrics]:
        """Run the trial, or the rest of a resumed one, and yield the metrics of each epoch."""
        protocol, best, by_age = self.protocol, self.best, self.by_age
        self.last = epoch = _count_epochs(self.config.finetuner)
        generator: FeatureSource | None = None
        if protocol.selection is None:
            best.tensors["epoch"] = torch.full_like(best.epoch, self.last)
        elif not self.journal.count_epochs("final_generator", "final"):
            generator = yield from self._select(protocol.selection)
        if protocol.generator_task is not None:
            generator = None  # free the memory of selection's generator
            generator = yield from self._retrain(protocol.generator_task)
        counted = "age" if by_age else "epoch"
        metrics = best.as_metrics(self.inference_grid, counted)
        judged = self.journal.last_metrics("selection_quality")
        metrics |= {f"selection_{name}": value for name, value in judged.items()}
        eval_sets = [best.metrics]  # an age is not tested again: selection used the test images
        if not by_age:
            epoch = self._chosen_epoch
            eval_sets = [
                get_eval_results(self.tested, i, number)
                for i, final in enumerate(protocol.finals)
                for number in range(len(final))
            ]
            if self.config.quality:
                judged_on = [final[0] for final in protocol.finals]
                judged = measure_generator(generator, judged_on, self.seeds)
                metrics |= self.journal.fail_non_finite("test", epoch, judged, FEATURES)
        fitted = self.journal.last_metrics("selection_generator", "final_generator")
        if "active_units" in fitted:
            metrics["flag/posterior_collapse"] = (fitted["active_units"] == 0).double()
        if protocol.selection is not None:
            metrics |= best.flags(self.inference_grid, self.last, counted)
        metrics = self.journal.fail_non_finite("test", epoch, protocol.combine(eval_sets) | metrics)
        if self.dataset_to_save is not None:
            self.journal.trained = self._files(self.dataset_to_save, generator)
        correct_predictions = collect_correct_predictions(self.tested, protocol.finals)
        yield from self.journal.report_epoch("test", epoch, metrics, correct_predictions)

    def _select(self, eval_set: EvalSet) -> Generator[EpochMetrics, None, FeatureSource | None]:
        """Train on the data visible to selection, and record each seed's best epoch.

        Epoch 0, the untrained fine-tuner, is a candidate, so that selection can choose it if
        training only harms.

        Selection "authors" compares ages of the generator instead, as SHIP's authors do
        (github.com/mrflogs/SHIP, run_coop): a new CoOp is trained at each of five ages, epoch
        numbers continue over the ages, and the best H on the test images is reported. This is a
        leak; it exists to measure how much the leak adds to a result.

        If nothing is retrained, the best state is tested.

        Args:
            eval_set: Evaluation set that epochs are evaluated on, with the task to train on.

        Returns:
            The generator.
        """
        protocol, journal, best, by_age = self.protocol, self.journal, self.best, self.by_age
        generator = self._generator(eval_set.task)
        first = 1 if by_age else 0
        ages = plan_ages(_count_epochs(generator), protocol.ages)
        if by_age:  # the last planned age, so that a seed that stops earlier raises no flag
            self.last = ages[-1]
        for i, age in enumerate(ages):
            journal.set_parts(generator=_generator_parts(generator))
            yield from self._fit(generator, "selection_generator", age)
            if journal.count_epochs("selection_generator") > age:  # resumed at a later age
                continue
            measures = (
                self.config.quality and not by_age and not journal.count_epochs("selection_quality")
            )
            if measures and (judged := measure_generator(generator, [eval_set], self.seeds)):
                judged = journal.fail_non_finite("selection_quality", 0, judged, FEATURES)
                yield from journal.report_epoch("selection_quality", 0, judged)
            finetuner = self._finetuner(eval_set.task, generator)
            epochs = range(first, max(first, finetuner.epochs) + 1)
            done = journal.count_epochs("selection") - i * len(epochs)
            journal.set_parts(generator=_generator_parts(generator), finetuner=finetuner.parts())
            every = epochs[-1] if by_age else self.config.eval_every
            for epoch in epochs[done:]:
                losses = finetuner.train_epoch() if epoch else {}
                number = i * len(epochs) + epoch
                metrics: dict[str, Tensor] = {}
                if epoch % every == 0 or epoch == epochs[-1]:
                    metrics, choice = evaluate_choices(finetuner, eval_set, protocol)
                    metrics = journal.fail_non_finite("selection", number, metrics, LOGITS)
                    state = finetuner.state_dict()
                    if by_age:
                        state = add_prefix("generator", self._learned(generator) or {})
                        state |= add_prefix("finetuner", self._learned(finetuner) or {})
                    best.update(age if by_age else epoch, choice, metrics, state)
                yield from journal.report_epoch("selection", number, {**losses, **metrics})
            if by_age:
                del finetuner  # free its memory before the next one is built
            if generator is not None and self._has_finished(generator):
                break
        if protocol.generator_task is None and not by_age:
            finetuner.load_state_dict(best.state)
            for i in range(len(protocol.finals)):
                self._test(finetuner, i)
        return generator

    def _retrain(self, task: Task) -> Generator[EpochMetrics, None, FeatureSource | None]:
        """Train on all seen classes for each final, and test each seed at its chosen epoch.

        A seed's learning-rate schedule ends at the chosen epoch, as if the seed were trained for
        that many epochs. Otherwise it would be tested while the rate is near its maximum.

        After its chosen epoch a seed keeps training with the batch, but its state and metrics are
        no longer recorded.

        Args:
            task: Task of the generator, which all finals share.

        Returns:
            The generator.
        """
        journal = self.journal
        journal.set_parts()  # release all of selection but its choice
        best = self.best
        last = int(best.epoch.max())
        generator = self._generator(task)
        journal.set_parts(generator=_generator_parts(generator))
        yield from self._fit(generator, "final_generator", _count_epochs(generator))
        for i, final in enumerate(self.protocol.finals):
            if strip_prefix(self.tested.tensors, str(i)):
                continue
            finetuner = self._finetuner(final[0].task, generator)
            finetuner.shorten_schedules(best.epoch.tolist())
            # the state of each seed at its chosen epoch, and its last losses until then
            state = SeedState(add_prefix("state", finetuner.state_dict()))
            journal.set_parts(
                generator=_generator_parts(generator), finetuner=finetuner.parts(), retrained=state
            )
            for epoch in range(journal.count_epochs("final") - i * last + 1, last + 1):
                losses = finetuner.train_epoch()
                if epoch == 1:
                    # A seed that is tested untrained has no losses, though the batch trains on.
                    none = {name: torch.zeros_like(value) for name, value in losses.items()}
                    state.tensors |= add_prefix("losses", none)
                state.set_where(best.epoch >= epoch, add_prefix("losses", losses))
                state.set_where(best.epoch == epoch, add_prefix("state", finetuner.state_dict()))
                yield from journal.report_epoch(
                    "final", epoch, strip_prefix(state.tensors, "losses")
                )
            finetuner.load_state_dict(strip_prefix(state.tensors, "state"))
            self._test(finetuner, i)
            del finetuner, state  # free their memory before the next one is built
            journal.set_parts(generator=_generator_parts(generator))
        return generator

    def _test(self, finetuner: BatchedFinetuner, final_index: int) -> None:
        """Test a fine-tuner, in its selected state, on the evaluation sets of a final."""
        results = self.tested.tensors
        for number, eval_set in enumerate(self.protocol.finals[final_index]):
            result = evaluate(finetuner, eval_set, self.protocol, self.best)
            scores = {name: value for name, value in result.items() if value.is_floating_point()}
            self.journal.fail_non_finite("test", self._chosen_epoch, scores, LOGITS)
            results |= add_prefix(f"{final_index}.{number}", result)
        learned = self._learned(finetuner) or {}
        results |= {f"{final_index}.0.learned/{name}": value for name, value in learned.items()}

    def _files(self, dataset: FeatureSet, generator: FeatureSource | None) -> dict[str, bytes]:
        """Return the files of the tested models of all active seeds."""
        best, active = self.best, self.journal.active_seeds
        if self.by_age:
            generator_state = strip_prefix(best.state, "generator") or None
            finetuner_states = [strip_prefix(best.state, "finetuner")]
        else:
            generator_state = self._learned(generator)
            final_indices = range(len(self.protocol.finals))
            finetuner_states = [
                get_eval_results(self.tested, n, 0, "learned/") for n in final_indices
            ]
        if generator_state:
            generator_state = {name: value[active] for name, value in generator_state.items()}
        finetuner_states = [
            {name: value[active] for name, value in state.items()} for state in finetuner_states
        ]
        seeds = [self.seeds[seed_index] for seed_index in active]
        epochs, inference_grid = best.epoch[active].tolist(), best.choice[active].tolist()
        chosen = [
            (epoch, self.inference_grid[n]) for epoch, n in zip(epochs, inference_grid, strict=True)
        ]
        return make_trained_files(
            self.config,
            seeds,
            dataset,
            self.clip,
            self.protocol,
            generator_state,
            finetuner_states,
            chosen,
        )

    def _fit(
        self, generator: FeatureSource | None, stage: Stage, epochs: int
    ) -> Generator[EpochMetrics, None, None]:
        """Train a generator up to this epoch of the stage, or until every seed has stopped."""
        if generator is None:
            return
        while (done := self.journal.count_epochs(stage)) < epochs:
            if done and self._has_finished(generator):
                break
            yield from self.journal.report_epoch(stage, done + 1, generator.train_epoch())
        if generator.epochs:
            # No loss shows the effect of the last step. Closed-form fits are not checked, as they
            # raise by themselves.
            weights = capture(generator.learned() or {})
            is_finite = {n: v.isfinite().reshape(len(v), -1).all(1) for n, v in weights.items()}
            values = {name: torch.where(ok, 0.0, torch.nan) for name, ok in is_finite.items()}
            self.journal.fail_non_finite(stage, done, values, WEIGHTS)

    def _has_finished(self, generator: FeatureSource) -> bool:
        """Return True if every seed has stopped early or failed."""
        generator.mark_failed(list(self.journal.failed))
        return generator.finished

    def _generator(self, task: Task) -> FeatureSource | None:
        """Build the untrained generator of a task, or None without synthetic features."""
        generator = build_generator(self.config.generator, task, self.clip, self.seeds)
        share = self.config.synthetic.real_share
        if generator and share:
            return MixedWithReal(generator, share, task, self.clip, self.seeds)
        return generator

    def _finetuner(self, task: Task, generator: FeatureSource | None) -> BatchedFinetuner:
        """Build the untrained fine-tuner of a task."""
        synthesizer = None
        if generator is not None and task.synthetic_ids.shape[1]:
            generator.mark_failed(list(self.journal.failed))
            synthesizer = Synthesizer(self.config.synthetic, generator.sample, task, self.seeds)
        finetuner = build_finetuner(self.config.finetuner, task, synthesizer, self.clip, self.seeds)
        self.inference_grid = finetuner.inference_grid
        return finetuner

    def _learned(self, part: FeatureSource | BatchedFinetuner | None) -> State | None:
        """Return copies of a part's learned state on the CPU, or None if it is not saved."""
        learned = None if part is None or self.dataset_to_save is None else part.learned()
        return None if learned is None else capture(learned)


def _generator_parts(generator: FeatureSource | None) -> Mapping[str, Part] | None:
    return None if generator is None else generator.parts()


def plan_ages(epochs: int, ages: int) -> list[int]:
    """Return the generator epochs at which a fine-tuner is trained: evenly spaced, with the last.

    Args:
        epochs: Number of epochs of the generator. 0 (it is not trained) results in one age, 0.
        ages: Requested number of ages. There are at most as many as epochs.
    """
    return sorted({-(-epochs * (i + 1) // ages) for i in range(ages)})


def _count_planned_epochs(config: TrialConfig, protocol: Protocol) -> int:
    """Return the maximum number of epochs that a trial reports."""
    retrains = protocol.generator_task is not None
    selects = protocol.selection is not None
    ages = len(plan_ages(_count_epochs(config.generator), protocol.ages))
    trained = ages * selects + len(protocol.finals) * retrains
    fitted = selects + retrains
    # The further reports: feature quality, the test, and epoch 0 of selection.
    return (
        fitted * _count_epochs(config.generator)
        + 2
        + selects
        + trained * _count_epochs(config.finetuner)
    )


def _count_epochs(trained: object) -> int:
    """Return the epochs of settings or of a method, 0 if it has none."""
    return int(getattr(trained, "epochs", 0))
