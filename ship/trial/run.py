"""Run a trial: train one configuration under all of its seeds at once, and test it once.

A trial has up to three parts:

1. Selection trains on the data that it may see, and chooses an epoch for each seed.
2. Retraining trains new models on all training data, each seed up to its selected epoch. Without
   selection, this is the last epoch.
3. The test evaluates the models on the test images.

The protocol (ship.protocols) decides whether there is a selection, and whether its models are
tested or new ones are trained. Selection "authors" compares ages instead of epochs: the *age* of a
generator is the number of epochs that it has been trained for.

There are several tested models under protocol cross_dataset, one per target dataset, and a single
one under other protocols.

A trial can be resumed from any epoch: its generator and fine-tuner are built again in the same way,
and the state that training has changed (ship.state) is restored.
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
    InferenceGrid,
    SelectedCheckpoint,
    collect_correct_predictions,
    evaluate_selected,
    get_eval_results,
    select_choices,
)
from ship.trial.trained import serialize_trained
from ship.trial_config import LEAKING_SELECTIONS, EpochMetrics, Stage, TrialConfig

# Starts of failure reasons. They replace the name of a metric that is only NaN because the logits,
# features or weights that it was computed from are not finite.
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

    The result iterates over the metrics of each epoch. Its last item is the only one of stage
    "test".

    A seed's results do not depend on the other seeds, with two exceptions: sums round differently
    in batches of another size, and a quality metric that cannot be computed for one seed's images
    is omitted for all seeds.

    A seed fails (EpochMetrics.failed) if a loss, logit or synthetic feature is not finite. It has
    no further results. The results of the other seeds do not change.

    A resumed trial first repeats its previous reports. On a CPU with the same number of threads its
    results are bit-identical to those of an uninterrupted trial.

    Args:
        config: Configuration of the trial.
        seeds: Distinct seeds of the trial.
        features: Features of config.dataset.
        targets: Features of config.targets by name. Only their test images are used.
        clip: Frozen backbone.
        dtype: Floating-point type of the training.
        resume: Checkpoint of the same trial: same configuration, seeds, images and backbone.
        save_models: Whether to build the files of the trained models (`TrialRun.trained`).

    Returns:
        The trial as an iterator. It trains while it is iterated.

    Raises:
        ValueError: There are no seeds or duplicate ones, or the dataset does not meet the
            requirements of the configuration, e.g. it has too few classes or no training images.
        CheckpointError: `resume` belongs to a trial with another value of `save_models`. If it
            belongs to another trial, the error is raised during iteration.
        NonFiniteLoss: Raised during iteration if all seeds have failed. It contains the reason,
            stage and epoch of each.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be distinct and at least one, got {list(seeds)}")
    save_flag = torch.tensor(save_models)
    if resume is not None and not save_flag.equal(resume.tensors.get("keeps", torch.tensor(False))):
        requirement = f"save_models must be {not save_models} as in the checkpoint"
        raise CheckpointError(f"{requirement}, got {save_models}")
    features = select_studied_classes(config, features)
    protocol = build_protocol(config, seeds, features, targets or {}, clip, dtype)
    # no tolerance: leaking selections measure how much is gained by picking the best epoch
    tolerance = None if config.selection in LEAKING_SELECTIONS else TOLERANCE
    selected, tested = SelectedCheckpoint(len(seeds), protocol.metric, tolerance), SeedState({})
    permanent: dict[str, Part] = {"best": selected, "tested": tested, "keeps": save_flag}
    journal = Journal(_count_planned_epochs(config, protocol), len(seeds), permanent, resume)
    features_to_save = features if save_models else None
    trial = _Trial(config, seeds, clip, protocol, journal, selected, tested, features_to_save)
    return TrialRun(trial.epochs(), journal, clip.use_precision)


@dataclass
class _Trial:
    """A trial in progress, and its stages as methods.

    Attributes:
        config: Configuration of the trial.
        seeds: Seeds of the trial.
        clip: Frozen backbone.
        protocol: Evaluation sets and tasks of the trial.
        journal: Journal that the trial reports to.
        selected: Selected epoch (or age) and inference choice of each seed.
        tested: Results on the evaluation sets that have been tested (see
            selection.get_eval_results).
        dataset_to_save: Dataset of the trial, from which the files of its models are built. None if
            models are not saved.
        inference_grid: Inference choices of the fine-tuner. Empty until one is built.
        last: Last epoch (or age) that selection can choose.
    """

    config: TrialConfig
    seeds: Sequence[int]
    clip: FrozenCLIP
    protocol: Protocol
    journal: Journal
    selected: SelectedCheckpoint
    tested: SeedState
    dataset_to_save: FeatureSet | None
    inference_grid: InferenceGrid = ()
    last: int = 0

    @property
    def by_age(self) -> bool:
        """Whether selection compares ages of the generator instead of epochs of the fine-tuner."""
        return self.protocol.n_ages > 1

    @property
    def _latest_epoch(self) -> int:
        """The latest of the epochs at which active seeds are tested."""
        return int(self.selected.epoch[self.journal.active_seeds].max())

    def epochs(self) -> Iterator[EpochMetrics]:
        """Run the trial, or the rest of a resumed one, and yield the metrics of each epoch."""
        protocol, selected = self.protocol, self.selected
        self.last = _count_epochs(self.config.finetuner)
        generator: FeatureSource | None = None
        if protocol.selection is None:
            selected.tensors["epoch"] = torch.full_like(selected.epoch, self.last)
        elif not self.journal.count_epochs("final_generator", "final"):
            generator = yield from self._select(protocol.selection)
        if protocol.generator_task is not None:
            generator = None  # free the memory of selection's generator
            generator = yield from self._retrain(protocol.generator_task)
        yield from self._report_test(generator)

    def _report_test(self, generator: FeatureSource | None) -> Iterator[EpochMetrics]:
        """Report the results of the test, and build the files of the tested models.

        Args:
            generator: Generator that the tested models were trained with. None if there is none.
        """
        protocol, journal, selected = self.protocol, self.journal, self.selected
        candidates = "age" if self.by_age else "epoch"
        metrics = selected.as_metrics(self.inference_grid, candidates)
        quality = journal.get_last_metrics("selection_quality")
        metrics |= {f"selection_{name}": value for name, value in quality.items()}
        if self.by_age:
            epoch = _count_epochs(self.config.finetuner)
            results = [selected.metrics]  # not tested again: selection used the test images
        else:
            epoch = self._latest_epoch
            results = [
                get_eval_results(self.tested, model_index, set_index)
                for model_index, test_sets in enumerate(protocol.tested_models)
                for set_index in range(len(test_sets))
            ]
            if self.config.quality:
                eval_sets = [test_sets[0] for test_sets in protocol.tested_models]
                quality = measure_generator(generator, eval_sets, self.seeds)
                metrics |= journal.fail_non_finite("test", epoch, quality, FEATURES)
        fitted = journal.get_last_metrics("selection_generator", "final_generator")
        if "active_units" in fitted:
            metrics["flag/posterior_collapse"] = (fitted["active_units"] == 0).double()
        if protocol.selection is not None:
            metrics |= selected.compute_flags(self.inference_grid, self.last, candidates)
        metrics = journal.fail_non_finite("test", epoch, protocol.combine(results) | metrics)
        if self.dataset_to_save is not None:
            journal.trained = self._make_files(self.dataset_to_save, generator)
        correct_predictions = collect_correct_predictions(self.tested, protocol.tested_models)
        yield from journal.report_epoch("test", epoch, metrics, correct_predictions)

    def _select(self, eval_set: EvalSet) -> Generator[EpochMetrics, None, FeatureSource | None]:
        """Train on the data visible to selection, and choose an epoch for each seed.

        Epoch 0, the untrained fine-tuner, is a candidate, too. It is chosen if training only harms.

        Selection "authors" compares ages of the generator instead, as SHIP's authors do
        (github.com/mrflogs/SHIP, run_coop): at each of five ages a new fine-tuner is trained to its
        end, and the best result on the test images is reported. Reported epoch numbers continue
        from one age to the next. This selection leaks test images. It exists to measure how much
        the leak adds to a result.

        Without retraining, the fine-tuner is then tested in each seed's chosen state, except under
        selection "authors".

        Args:
            eval_set: Evaluation set that epochs are evaluated on. Its task is trained on.

        Returns:
            The generator. None if there are no synthetic features.
        """
        protocol, journal, by_age = self.protocol, self.journal, self.by_age
        generator = self._build_generator(eval_set.task)
        ages = plan_ages(_count_epochs(generator), protocol.n_ages)
        if by_age:
            # If the generator stops early, this age may not be evaluated. flag/last_epoch is then
            # not set.
            self.last = ages[-1]
        for i, age in enumerate(ages):
            journal.set_parts(generator=_get_generator_parts(generator))
            yield from self._fit(generator, "selection_generator", age)
            if journal.count_epochs("selection_generator") > age:  # resumed at a later age
                continue
            if self.config.quality and not by_age:
                yield from self._report_selection_quality(generator, eval_set)
            finetuner = self._build_finetuner(eval_set.task, generator)
            first_epoch = 1 if by_age else 0
            epochs = range(first_epoch, max(first_epoch, finetuner.epochs) + 1)
            n_done = journal.count_epochs("selection") - i * len(epochs)
            journal.set_parts(
                generator=_get_generator_parts(generator), finetuner=finetuner.parts()
            )
            interval = epochs[-1] if by_age else self.config.eval_every
            for epoch in epochs[n_done:]:
                losses = finetuner.train_epoch() if epoch else {}
                number = i * len(epochs) + epoch
                metrics: dict[str, Tensor] = {}
                if epoch % interval == 0 or epoch == epochs[-1]:
                    metrics, choice = select_choices(finetuner, eval_set, protocol)
                    metrics = journal.fail_non_finite("selection", number, metrics, LOGITS)
                    candidate = age if by_age else epoch
                    state = self._get_selection_state(finetuner, generator)
                    self.selected.update(candidate, choice, metrics, state)
                yield from journal.report_epoch("selection", number, {**losses, **metrics})
            if by_age:
                del finetuner  # free its memory before the next one is built
            if generator is not None and self._has_finished(generator):
                break
        if protocol.generator_task is None and not by_age:
            finetuner.load_state_dict(self.selected.state)
            for i in range(len(protocol.tested_models)):
                self._test(finetuner, i)
        return generator

    def _report_selection_quality(
        self, generator: FeatureSource | None, eval_set: EvalSet
    ) -> Iterator[EpochMetrics]:
        """Report the quality of the synthetic features, if there are metrics not yet reported."""
        if self.journal.count_epochs("selection_quality"):
            return
        if quality := measure_generator(generator, [eval_set], self.seeds):
            quality = self.journal.fail_non_finite("selection_quality", 0, quality, FEATURES)
            yield from self.journal.report_epoch("selection_quality", 0, quality)

    def _get_selection_state(
        self, finetuner: BatchedFinetuner, generator: FeatureSource | None
    ) -> dict[str, Tensor]:
        """Return the state that selection keeps if it chooses this epoch or age.

        For an epoch this is the fine-tuner's state, which is tested if nothing is retrained. For an
        age it is the learned state of generator and fine-tuner, which is only saved: selection has
        already tested it.
        """
        if not self.by_age:
            return finetuner.state_dict()
        state = add_prefix("generator", self._copy_learned(generator) or {})
        return state | add_prefix("finetuner", self._copy_learned(finetuner) or {})

    def _retrain(self, task: Task) -> Generator[EpochMetrics, None, FeatureSource | None]:
        """Train the tested models on all seen classes, and test each seed at its chosen epoch.

        A seed's learning-rate schedule ends at the chosen epoch, as if only that many epochs had
        been planned. Otherwise an early epoch would be tested while the rate is near its maximum.

        After its chosen epoch a seed keeps training with the others, but its state and metrics are
        no longer recorded.

        Args:
            task: Task that the generator is trained on. All tested models share the generator.

        Returns:
            The generator. None if there are no synthetic features.
        """
        journal = self.journal
        journal.set_parts()  # release selection's objects; `selected` is a permanent part
        selected = self.selected
        last = int(selected.epoch.max())
        generator = self._build_generator(task)
        journal.set_parts(generator=_get_generator_parts(generator))
        yield from self._fit(generator, "final_generator", _count_epochs(generator))
        for i, test_sets in enumerate(self.protocol.tested_models):
            if strip_prefix(self.tested.tensors, str(i)):  # tested before the trial was resumed
                continue
            finetuner = self._build_finetuner(test_sets[0].task, generator)
            finetuner.set_schedule_lengths(selected.epoch.tolist())
            # each seed's latest state and losses, no later than its chosen epoch
            state = SeedState(add_prefix("state", finetuner.state_dict()))
            journal.set_parts(
                generator=_get_generator_parts(generator),
                finetuner=finetuner.parts(),
                retrained=state,
            )
            n_done = journal.count_epochs("final") - i * last
            for epoch in range(n_done + 1, last + 1):
                losses = finetuner.train_epoch()
                if epoch == 1:
                    # a seed with the chosen epoch 0 reports losses of 0
                    zeros = {name: torch.zeros_like(value) for name, value in losses.items()}
                    state.tensors |= add_prefix("losses", zeros)
                state.set_where(selected.epoch >= epoch, add_prefix("losses", losses))
                trained = add_prefix("state", finetuner.state_dict())
                state.set_where(selected.epoch == epoch, trained)
                yield from journal.report_epoch(
                    "final", epoch, strip_prefix(state.tensors, "losses")
                )
            finetuner.load_state_dict(strip_prefix(state.tensors, "state"))
            self._test(finetuner, i)
            del finetuner, state  # free their memory before the next one is built
            journal.set_parts(generator=_get_generator_parts(generator))
        return generator

    def _test(self, finetuner: BatchedFinetuner, model_index: int) -> None:
        """Test a fine-tuner in its selected state.

        Args:
            finetuner: The fine-tuner.
            model_index: Index of its evaluation sets in Protocol.tested_models.
        """
        results = self.tested.tensors
        for set_index, eval_set in enumerate(self.protocol.tested_models[model_index]):
            result = evaluate_selected(finetuner, eval_set, self.protocol, self.selected)
            scores = {name: value for name, value in result.items() if value.is_floating_point()}
            self.journal.fail_non_finite("test", self._latest_epoch, scores, LOGITS)
            results |= add_prefix(f"{model_index}.{set_index}", result)
        learned = self._copy_learned(finetuner) or {}
        results |= {f"{model_index}.0.learned/{name}": value for name, value in learned.items()}

    def _make_files(self, dataset: FeatureSet, generator: FeatureSource | None) -> dict[str, bytes]:
        """Return the files of the tested models of active seeds, by name."""
        selected, active = self.selected, self.journal.active_seeds
        if self.by_age:
            generator_state = strip_prefix(selected.state, "generator") or None
            finetuner_states = [strip_prefix(selected.state, "finetuner")]
        else:
            generator_state = self._copy_learned(generator)
            model_indices = range(len(self.protocol.tested_models))
            finetuner_states = [
                get_eval_results(self.tested, n, 0, "learned/") for n in model_indices
            ]
        if generator_state:
            generator_state = {name: value[active] for name, value in generator_state.items()}
        finetuner_states = [
            {name: value[active] for name, value in state.items()} for state in finetuner_states
        ]
        choices = [self.inference_grid[index] for index in selected.choice[active].tolist()]
        chosen = list(zip(selected.epoch[active].tolist(), choices, strict=True))
        return serialize_trained(
            self.config,
            [self.seeds[seed_index] for seed_index in active],
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
        """Train a generator up to an epoch, or until every seed has stopped.

        Args:
            generator: The generator. None trains nothing.
            stage: Stage of the reported epochs.
            epochs: Number of epochs to reach, including those already reported in this stage.
        """
        if generator is None:
            return
        while (n_done := self.journal.count_epochs(stage)) < epochs:
            if n_done and self._has_finished(generator):
                break
            yield from self.journal.report_epoch(stage, n_done + 1, generator.train_epoch())
        if generator.epochs:
            # No loss has been computed since the last step, so the weights are checked. Generators
            # without epochs need no check, because their linear algebra raises.
            weights = capture(generator.learned() or {})
            is_finite = {n: v.isfinite().reshape(len(v), -1).all(1) for n, v in weights.items()}
            metrics = {name: torch.where(ok, 0.0, torch.nan) for name, ok in is_finite.items()}
            self.journal.fail_non_finite(stage, n_done, metrics, WEIGHTS)

    def _has_finished(self, generator: FeatureSource) -> bool:
        """Return True if there is nothing to train, or every seed has stopped early or failed."""
        generator.stop_seeds(list(self.journal.failed))
        return generator.finished

    def _build_generator(self, task: Task) -> FeatureSource | None:
        """Build the untrained generator of a task, or None if there are no synthetic features."""
        generator = build_generator(self.config.generator, task, self.clip, self.seeds)
        share = self.config.synthetic.real_share
        if generator and share:
            return MixedWithReal(generator, share, task, self.clip, self.seeds)
        return generator

    def _build_finetuner(self, task: Task, generator: FeatureSource | None) -> BatchedFinetuner:
        """Build the untrained fine-tuner of a task, and set `self.inference_grid` to its grid."""
        synthesizer = None
        if generator is not None and task.synthetic_ids.shape[1]:
            generator.stop_seeds(list(self.journal.failed))
            synthesizer = Synthesizer(self.config.synthetic, generator.sample, task, self.seeds)
        finetuner = build_finetuner(self.config.finetuner, task, synthesizer, self.clip, self.seeds)
        self.inference_grid = finetuner.inference_grid
        return finetuner

    def _copy_learned(self, part: FeatureSource | BatchedFinetuner | None) -> State | None:
        """Return a copy of a part's learned state on the CPU.

        None if there is no part, models are not saved, or the part has no state to save.
        """
        learned = None if part is None or self.dataset_to_save is None else part.learned()
        return None if learned is None else capture(learned)


def _get_generator_parts(generator: FeatureSource | None) -> Mapping[str, Part] | None:
    """Return the parts of a generator, or None if there is no generator."""
    return None if generator is None else generator.parts()


def plan_ages(epochs: int, ages: int) -> list[int]:
    """Return the ages of the generator at which a fine-tuner is trained, ascending.

    They are evenly spaced, and the last one is the end of the generator's training.

    Args:
        epochs: Number of epochs of the generator. For 0 the only age is 0.
        ages: Requested number of ages. With fewer epochs, there is one age per epoch.
    """
    return sorted({-(-epochs * (i + 1) // ages) for i in range(ages)})


def _count_planned_epochs(config: TrialConfig, protocol: Protocol) -> int:
    """Return the maximum number of epochs that a trial reports."""
    retrains = protocol.generator_task is not None
    selects = protocol.selection is not None
    n_ages = len(plan_ages(_count_epochs(config.generator), protocol.n_ages))
    n_generators = selects + retrains
    n_finetuners = n_ages * selects + len(protocol.tested_models) * retrains
    n_other_reports = 2 + selects  # feature quality, the test, and epoch 0 of selection
    return (
        n_generators * _count_epochs(config.generator)
        + n_finetuners * _count_epochs(config.finetuner)
        + n_other_reports
    )


def _count_epochs(trainable: object) -> int:
    """Return the number of epochs of settings or of a method. 0 if it has none."""
    return int(getattr(trainable, "epochs", 0))
